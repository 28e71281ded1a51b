"""Releases side by side: services of an earlier release run with services of this tree."""
