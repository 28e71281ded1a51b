"""The contract registry: JSON Schemas of every released version, pinned, and the gate that keeps them compatible.

`python -m contracts.registry check` says whether the models are what was released and whether they fit all earlier versions;
`python -m contracts.registry release` writes the schema of each model whose `VERSION` is new.
"""

from contracts.registry.compatibility import Fault, full_transitive
from contracts.registry.schemas import check, current, release, released

__all__ = ["Fault", "check", "current", "full_transitive", "release", "released"]
