"""`python -m scripts.docs`: write every generated file and section, and golden records for new types."""

from scripts.docs.generated import write_all

write_all()
