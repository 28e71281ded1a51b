"""Requirements for every implementation of a port, checked on every supported database."""
