"""The same five-stage no-op job on what people would pick instead. Each peer is a program of its own, run in its own environment."""
