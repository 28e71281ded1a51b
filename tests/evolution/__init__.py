"""Releases side by side: the services of earlier releases run with this tree's."""
