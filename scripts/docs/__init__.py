"""Writes the documents that are made from code: `python -m scripts.docs`, or `make docs`.

One module per document. Each has functions that return Markdown; `generated` says which file or section each one fills.
`tests/architecture/test_generated.py` fails when a committed file differs from what is made here.
"""
