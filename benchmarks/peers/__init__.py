"""The same five-stage no-op job on other engines. Each peer is a program of its own and runs in its own environment."""
