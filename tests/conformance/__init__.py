"""What every implementation of a port must do, on every database we support."""
