"""The contract registry: JSON Schemas of every released version, pinned, and the gate that keeps them compatible.

`python -m contracts.registry check` compares the models with the released schemas and with all earlier versions.
`python -m contracts.registry release` writes the schema of each model whose `VERSION` is new.
"""

from contracts.registry.compatibility import Fault, full_transitive
from contracts.registry.schemas import check, current, release, released

__all__ = ["Fault", "check", "current", "full_transitive", "release", "released"]
