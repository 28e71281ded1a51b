"""Writes the documents that are made from code: `python -m scripts.docs`, or `make docs`.

One module per document, with functions that return Markdown. `generated` maps each file or section to its function.
`tests/architecture/test_generated.py` fails when a committed file differs from the generated one.
"""
