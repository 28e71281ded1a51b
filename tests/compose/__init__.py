"""The compose file as it is, on Docker: scaled, struck and checked."""
