"""The pipeline's deciders under a virtual clock, a model broker and model stores, driven by a seed: the same seed, the same history."""
