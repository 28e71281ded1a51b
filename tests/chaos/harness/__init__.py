"""Applies seeded faults to a running pipeline under load, and judges it from outside: HTTP, topics, logs and the command line."""
