"""Releases side by side: what was released runs on beside what is being built."""
