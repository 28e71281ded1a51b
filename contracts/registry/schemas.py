"""Schema files, `schemas/<type>/<version>.json`. Released files are immutable; `schemas/pins.json` holds their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from contracts.message import Message
from contracts.registry.compatibility import full_transitive
from contracts.topics import MODELS

FOLDER = Path(__file__).parents[1] / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def current(model: type[Message]) -> Schema:
    """JSON Schema (2020-12) of the messages that a writer of the model may send: closed, with every constraint."""
    schema = _plain(model.model_json_schema(mode="validation"))
    schema["title"] = model.__name__
    return {"$schema": DIALECT, "$id": model.data_schema(), **schema}


def _plain(node: Any, names: bool = False) -> Any:
    # Drops titles, which repeat the field's name. `names`: the keys of this node are field names, and `title` may be one.
    if isinstance(node, dict):
        return {k: _plain(v, k in ("properties", "$defs")) for k, v in node.items() if names or k != "title"}
    return [_plain(item) for item in node] if isinstance(node, list) else node


def _bare(node: Any, names: bool = False) -> Any:
    # Drops descriptions, which may change without a new version. `names`: the keys of this node are field names.
    if isinstance(node, dict):
        return {
            k: _bare(v, k in ("properties", "$defs")) for k, v in node.items() if names or k not in ("description", "examples")
        }
    return [_bare(item) for item in node] if isinstance(node, list) else node


def text_of(schema: Schema) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def number(version: str) -> tuple[int, ...]:
    """A version as numbers, so that `1.10` is greater than `1.9`."""
    return tuple(map(int, version.split(".")))


def released(type_: str, folder: Path = FOLDER) -> dict[str, Schema]:
    """Version → schema of a type, oldest first."""
    files = sorted((folder / type_).glob("*.json"), key=lambda path: number(path.stem))
    return {path.stem: json.loads(path.read_text()) for path in files}


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pins(folder: Path = FOLDER) -> dict[str, str]:
    """Path below the folder → SHA-256 of every released schema."""
    file = folder / "pins.json"
    found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return found


def check(models: dict[str, type[Message]] = MODELS, folder: Path = FOLDER) -> list[str]:
    """Every reason why the models must not be released. Empty when there is none."""
    known = pins(folder)
    there = {str(path.relative_to(folder)) for path in folder.glob("*/*.json")}
    faults = [f"{name}: released, and now gone" for name in sorted(known.keys() - there)]
    faults += [f"{name}: not pinned; `python -m contracts.registry release` does it" for name in sorted(there - known.keys())]
    faults += [
        f"{name}: released, and changed since" for name in sorted(known.keys() & there) if digest(folder / name) != known[name]
    ]
    for type_, model in models.items():
        faults += _check_model(type_, model, folder)
    faults += [f"{type_}: released, and no longer there" for type_ in sorted({n.split("/")[0] for n in known} - models.keys())]
    return faults


def _check_model(type_: str, model: type[Message], folder: Path) -> list[str]:
    mine, versions = current(model), released(type_, folder)
    faults: list[str] = []
    if model.VERSION not in versions:
        faults.append(f"{type_}: version {model.VERSION} is not released; `python -m contracts.registry release` does it")
    elif _bare(versions[model.VERSION]) != _bare(mine):
        faults.append(f"{type_}: the model is not what was released as {model.VERSION}; give it a new VERSION")
    if versions and number(model.VERSION) < number(list(versions)[-1]):
        faults.append(f"{type_}: VERSION {model.VERSION} is older than the released {list(versions)[-1]}")
    for version, schema in versions.items():
        if version != model.VERSION:
            faults += [f"{type_} {version} -> {model.VERSION}: {fault}" for fault in full_transitive(schema, mine)]
    return faults


def release(models: dict[str, type[Message]] = MODELS, folder: Path = FOLDER) -> list[str]:
    """Write and pin the schema of each new version; returns their paths. Raises `ValueError` when the gate refuses a model."""
    written: list[str] = []
    known = pins(folder)
    for type_, model in models.items():
        path = folder / type_ / f"{model.VERSION}.json"
        if path.exists():
            continue
        refused = [f for f in _check_model(type_, model, folder) if "is not released" not in f]
        if refused:
            raise ValueError("\n".join(refused))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(current(model)))
        known[str(path.relative_to(folder))] = digest(path)
        written.append(str(path.relative_to(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pins.json").write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return written
