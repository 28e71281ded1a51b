"""Tests of the unchanged compose file on Docker: scaled, with killed containers, and checked."""
