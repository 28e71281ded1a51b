"""The gate refuses every kind of breaking change with the field's path, accepts compatible ones, and agrees with instances."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, create_model

from contracts import MODELS
from contracts.cloudevents import describe
from contracts.registry import check, current, full_transitive, release, released
from contracts.session import OpenSession
from tests.contracts.instances import Instances, opened


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    done: int = Field(ge=0)
    note: str | None = None


class Old(BaseModel):
    """The released model."""

    model_config = ConfigDict(extra="forbid")
    job_id: str = Field(min_length=1, max_length=200)
    count: int
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    part: Part
    parts: list[Part] = []
    labels: dict[str, int] = {}


OLD = Old.model_json_schema()


def changed(drop: str | None = None, base: type[BaseModel] = Old, **fields: Any) -> dict[str, Any]:
    """The schema after a change of `base`."""
    kept = {n: (f.annotation, f) for n, f in base.model_fields.items() if n != drop}
    return create_model("New", __config__=ConfigDict(extra="forbid"), **{**kept, **fields}).model_json_schema()


def part(drop: str | None = None, **fields: Any) -> Any:
    """`Part` after a change."""
    kept = {n: (f.annotation, f) for n, f in Part.model_fields.items() if n != drop}
    return create_model("Part", __config__=ConfigDict(extra="forbid"), **{**kept, **fields})


BREAKING = {
    "required added": (changed(extra=(str, ...)), "extra", "BACKWARD"),
    "required removed": (changed(drop="count"), "count", "FORWARD"),
    "optional made required": (changed(note=(str | None, ...)), "note", "BACKWARD"),
    "required made optional": (changed(count=(int, 0)), "count", "FORWARD"),
    "required renamed": (changed(drop="count", amount=(int, ...)), "amount", "BACKWARD"),
    "optional renamed": (changed(drop="note", remark=(str | None, None)), "note", "MEANING"),
    "type changed": (changed(count=(str, ...)), "count", "BACKWARD"),
    "type widened": (changed(count=(float, ...)), "count", "FORWARD"),
    "type narrowed": (changed(note=(None, None)), "note", "BACKWARD"),
    "enum widened": (changed(kind=(Literal["a", "b", "c"], "a")), "kind", "FORWARD"),
    "enum narrowed": (changed(kind=(Literal["a"], "a")), "kind", "BACKWARD"),
    "enum opened": (changed(kind=(str, "a")), "kind", "FORWARD"),
    "null forbidden": (changed(note=(str, "")), "note", "BACKWARD"),
    "null allowed": (changed(count=(int | None, ...)), "count", "FORWARD"),
    "bound tightened": (changed(job_id=(str, Field(min_length=1, max_length=100))), "job_id", "BACKWARD"),
    "bound loosened": (changed(job_id=(str, Field(min_length=1, max_length=300))), "job_id", "FORWARD"),
    "bound added": (changed(count=(int, Field(ge=0))), "count", "BACKWARD"),
    "pattern added": (changed(job_id=(str, Field(min_length=1, max_length=200, pattern="^x"))), "job_id", "BACKWARD"),
    "default changed": (changed(kind=(Literal["a", "b"], "b")), "kind", "MEANING"),
    "object for a text": (changed(note=(Part | None, None)), "note", "BACKWARD"),
    "list for a value": (changed(count=(list[int], ...)), "count", "BACKWARD"),
    "value type of a map": (changed(labels=(dict[str, str], {})), "labels.*", "BACKWARD"),
    "nested required added": (changed(part=(part(more=(int, ...)), ...)), "part.more", "BACKWARD"),
    "nested in a list": (changed(parts=(list[part(done=(str, ...))], [])), "parts[].done", "BACKWARD"),  # type: ignore[misc]
    "nested renamed": (changed(part=(part(drop="note", remark=(str | None, None)), ...)), "part.note", "MEANING"),
}
COMPATIBLE = {
    "nothing": OLD,
    "optional added": changed(extra=(str | None, None)),
    "optional object added": changed(extra=(Part | None, None)),
    "nested optional added": changed(part=(part(more=(int | None, None)), ...)),
    "optional list added": changed(extra=(list[str], [])),
}


@pytest.mark.parametrize("kind", BREAKING)
def test_every_kind_of_breaking_change_is_refused_with_its_path(kind: str) -> None:
    new, path, direction = BREAKING[kind]
    faults = full_transitive(OLD, new)
    assert (direction, path) in {(f.direction, f.path) for f in faults}, [str(f) for f in faults]
    assert all(f.path.startswith(path.split(".")[0].split("[")[0]) or f.path in ("count", "amount") for f in faults), (
        "no other path is refused"
    )


@pytest.mark.parametrize("kind", COMPATIBLE)
def test_a_compatible_change_passes(kind: str) -> None:
    assert full_transitive(OLD, COMPATIBLE[kind]) == []


@pytest.mark.parametrize("kind", [*COMPATIBLE, *(k for k, (_, _, d) in BREAKING.items() if d != "MEANING")])
def test_the_gates_verdict_is_that_of_generated_instances(kind: str) -> None:
    new = COMPATIBLE[kind] if kind in COMPATIBLE else BREAKING[kind][0]
    sides = (("BACKWARD", OLD, new), ("FORWARD", new, OLD))
    refused = {f.direction for f in full_transitive(OLD, new)} - {"MEANING"}
    broken = set()
    for direction, writer, reader in sides:
        drawn, judge = Instances(writer, 1), Draft202012Validator(opened(reader))
        broken |= {direction for _ in range(500) if not judge.is_valid(drawn.draw())}
    assert broken == refused


def test_a_removed_field_passes_once_it_was_marked_deprecated() -> None:
    marked = changed(note=(str | None, Field(None, deprecated=True)))
    assert full_transitive(OLD, marked) == []
    assert full_transitive(marked, changed(drop="note")) == []


def test_the_tree_holds_what_was_released() -> None:
    assert check() == []


@pytest.mark.parametrize("instances", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("type_", MODELS)
def test_all_released_versions_understand_each_other(type_: str, instances: int) -> None:
    """Instances per pair of versions: parsed by the newest model, judged by every schema. One version alone is drawn from 300 times."""
    model, versions = MODELS[type_], released(type_)
    schemas = {**versions, "now": current(model)}
    judges = {v: jsonschema_rs.Draft202012Validator(opened(schema)) for v, schema in schemas.items()}
    for version, schema in versions.items():
        drawn = Instances(schema, 7)
        for _ in range(instances if len(versions) > 1 else 300):
            instance = drawn.draw()
            try:
                message = model.read(json.dumps(instance))
            except ValueError as error:
                # The model may refuse for rules that a schema cannot express alone: sizes in bytes, depth, one of two fields.
                pytest.fail(f"{version}: {describe(error, instance) if hasattr(error, 'errors') else error}: {instance}")
            ours = json.loads(message.to_json())
            for name, judge in judges.items():
                assert judge.is_valid(ours), (version, name, [e.message for e in judge.iter_errors(ours)][:1])


class Extra(OpenSession):
    VERSION = "1.1"
    extra: str


class Harmless(OpenSession):
    VERSION = "1.1"
    extra: str | None = None


def test_release_writes_once_and_refuses_what_breaks(tmp_path: Path) -> None:
    type_ = OpenSession.TYPE
    assert release({type_: OpenSession}, tmp_path) == [f"{type_}/1.0.json"]
    assert release({type_: OpenSession}, tmp_path) == [] and check({type_: OpenSession}, tmp_path) == []
    with pytest.raises(ValueError, match=r"1\.0 -> 1\.1: BACKWARD: extra: required"):
        release({type_: Extra}, tmp_path)
    assert release({type_: Harmless}, tmp_path) == [f"{type_}/1.1.json"]
    assert "older than the released 1.1" in "".join(check({type_: OpenSession}, tmp_path))
    file = tmp_path / type_ / "1.0.json"
    file.write_text(file.read_text() + " ")
    assert check({type_: Harmless}, tmp_path) == [f"{type_}/1.0.json: released, and changed since"]
    file.unlink()
    assert check({type_: Harmless}, tmp_path) == [f"{type_}/1.0.json: released, and now gone"]


def test_a_change_without_a_new_version_is_refused(tmp_path: Path) -> None:
    class Silent(OpenSession):
        extra: str | None = None

    release({OpenSession.TYPE: OpenSession}, tmp_path)
    assert "give it a new VERSION" in "".join(check({OpenSession.TYPE: Silent}, tmp_path))


def test_the_command_prints_its_verdict() -> None:
    out = subprocess.run([sys.executable, "-m", "contracts.registry", "check"], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, "FULL_TRANSITIVE: holds\n")
