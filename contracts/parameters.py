"""What a workflow's step and a job may set for an action: the rules over the table of `contracts.actions`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from contracts.actions import ACTIONS, ADDRESS, OBJECT, OPEN, SECRET, UNKNOWN, Action, JobFacts
from contracts.field_names import field_of, reason_of
from contracts.ownership import foreign_object, owns
from contracts.secrecy import holds_hidden, is_secret_name, platform_reference, reference

WAY_OUT = "a secret is named, not written: `stageline secrets set NAME`, then `secret:NAME`"


class Fault(NamedTuple):
    """What is wrong with a parameter. `code` is one of `CODES`."""

    field: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


CODES = ("unknown_step", "unknown_parameter", "closed_parameter", "invalid_parameter", "foreign_object", "literal_secret")


class StepLike(Protocol):
    """What the rules need of a step."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def action(self) -> str:
        """Its action; empty for a wait or a job."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Its own settings."""
        ...

    @property
    def open(self) -> Sequence[str] | None:
        """Parameters that the step's author opens to jobs."""
        ...


class StepView(NamedTuple):
    """A step of a published definition, as far as the rules need it."""

    name: str
    action: str
    config: Mapping[str, Any]
    open: Sequence[str] | None


def steps_of(definition: Mapping[str, Any]) -> list[StepView]:
    """The steps and rescue steps of a definition that was validated."""
    listed = [*(definition.get("steps") or ()), *(definition.get("rescue") or ())]
    return [StepView(s["name"], s.get("action") or "", s.get("config") or {}, s.get("open")) for s in listed]


def action_of(name: str) -> Action:
    """The row of an action. An action of somebody's own program gets the row for unknown ones."""
    return ACTIONS.get(name, UNKNOWN)


def is_open(step: StepLike, name: str) -> bool:
    """True when a job may set the parameter `name` of the step."""
    if name in (step.open or ()):
        return True
    # What the author of an unknown action set is the author's, whatever its name.
    return OPEN in action_of(step.action).uses(name) and (step.action in ACTIONS or name not in step.config)


def check_arguments(steps: Sequence[StepLike], args: Mapping[str, Any] | None, tenant: str) -> Fault | None:
    """The first parameter in `args` (step → settings) that a job of `tenant` may not set so; None when all are good.

    Steps that the workflow does not have are left out: they may be those of a child job.
    """
    for step in steps if args else ():
        for name, value in (args or {}).get(step.name, {}).items():
            fault = _check_argument(step, name, value, tenant)
            if fault is not None:
                return fault
    return None


def _check_argument(step: StepLike, name: str, value: Any, tenant: str) -> Fault | None:
    field, row = f"args.{step.name}.{name}", action_of(step.action)
    if step.action in ACTIONS and name not in row.parameters.model_fields:
        return Fault(field, "unknown_parameter", f"action {step.action} has no such parameter")
    if not is_open(step, name):
        return Fault(
            field, "closed_parameter", f"a job may not set it; the step's author can list it under `open` of step {step.name}"
        )
    if platform_reference(value):
        return Fault(field, "closed_parameter", "a job may not name a secret of the platform")
    uses = row.uses(name)
    if SECRET in uses and value is not None and not reference(value):
        return Fault(field, "literal_secret", WAY_OUT)
    if OBJECT in uses and value is not None and not (isinstance(value, str) and owns(tenant, value)):
        return Fault(field, "foreign_object", "the name of an object of the job's tenant is expected")
    # What a job tells every action about itself is data: nothing in it names an object.
    at = foreign_object(tenant, {name: value}) if name not in JobFacts.model_fields else None
    if at is not None:
        return Fault(f"args.{step.name}.{at}", "foreign_object", "the name of an object of the job's tenant is expected")
    return _typed(step.action, name, value, field)


def unknown_step(steps: Sequence[StepLike], args: Mapping[str, Any] | None) -> Fault | None:
    """The first step in `args` that the workflow does not have; None when there is none. Steps of child jobs count as unknown."""
    known = {step.name for step in steps}
    wrong = next((name for name in args or {} if name not in known), None)
    return None if wrong is None else Fault(f"args.{wrong}"[:200], "unknown_step", "the workflow has no such step")


def check_definition(definition: Mapping[str, Any], platform: bool) -> Fault | None:
    """The first parameter that a step of a workflow may not have; None when all are good.

    `platform`: the platform's own operators publish it, so that it may name their secrets.
    """
    return next(definition_faults(definition, platform), None)


def written_secret(definition: Mapping[str, Any]) -> Fault | None:
    """The first secret that is written into a definition, which may be unfinished; None when there is none."""
    return next((fault for fault in definition_faults(definition) if fault.code == "literal_secret"), None)


def definition_faults(definition: Mapping[str, Any], platform: bool = True) -> Iterator[Fault]:
    """Every parameter that a step of a workflow may not have, as in `check_definition`."""
    for part in ("steps", "rescue"):
        listed = definition.get(part)
        for index, step in enumerate(listed if isinstance(listed, (list, tuple)) else ()):
            if isinstance(step, Mapping):
                yield from _step_faults(step, f"{part}.{index}", platform)


def _step_faults(step: Mapping[str, Any], at: str, platform: bool) -> Iterator[Fault]:
    action, config, opened = str(step.get("action") or ""), step.get("config"), step.get("open")
    known = action_of(action).parameters.model_fields
    for index, name in enumerate(opened if isinstance(opened, (list, tuple)) else ()):
        if action in ACTIONS and name not in known:
            yield Fault(f"{at}.open.{index}", "unknown_parameter", f"action {action} has no parameter {name!r}")
    for name, value in config.items() if isinstance(config, Mapping) else ():
        field = f"{at}.config.{name}"
        if holds_hidden(value):
            yield Fault(field, "literal_secret", WAY_OUT)
            continue
        if platform_reference(value) and not platform:
            yield Fault(field, "closed_parameter", "only workflows of the platform may name its secrets")
        if action not in ACTIONS:
            continue
        if name not in known:
            yield Fault(field, "unknown_parameter", f"action {action} has no such parameter")
            continue
        yield from _literal_secrets(action, name, value, field)
        if (fault := _typed(action, name, value, field)) is not None:
            yield fault


def _literal_secrets(action: str, name: str, value: Any, field: str) -> Iterator[Fault]:
    if SECRET in action_of(action).uses(name) and value and not reference(value):
        yield Fault(field, "literal_secret", WAY_OUT)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if is_secret_name(str(key)) and item and not reference(item):
                yield Fault(f"{field}.{key}", "literal_secret", WAY_OUT)


def _typed(action: str, name: str, value: Any, field: str) -> Fault | None:
    if action not in ACTIONS or value is None:
        return None
    try:
        action_of(action).parameters.model_validate({name: value})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        within = field_of(first["loc"][1:], first["type"], value)
        return Fault(f"{field}.{within}" if within else field, "invalid_parameter", reason_of(first))
    return None


def merged(step: StepLike, arguments: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The settings of one task: the step's own, and over them what the job may set.

    Where the job sends the step to another origin, the step's secrets stay behind.
    """
    if not arguments:
        return step.config
    given = {n: v for n, v in arguments.items() if is_open(step, n)} if step.action in ACTIONS else arguments
    config = {**step.config, **given}
    row = action_of(step.action)
    if any(_moves(row, n, step.config.get(n), given[n]) for n in given):
        config = {n: v for n, v in config.items() if n in given or not _carries_secret(row, n, v)}
    return config


def _moves(row: Action, name: str, before: Any, after: Any) -> bool:
    """True where a parameter is an address, by the table or by the step's own value, and a job names another origin."""
    return (ADDRESS in row.uses(name) or origin_of(before) != "") and origin_of(before) != origin_of(after)


def _carries_secret(row: Action, name: str, value: Any) -> bool:
    nested = isinstance(value, Mapping) and any(is_secret_name(str(k)) or reference(v) for k, v in value.items())
    return nested or SECRET in row.uses(name) or reference(value) or (isinstance(value, str) and is_secret_name(name))


def origin_of(url: Any) -> str:
    """Scheme, host and port of an address; empty for what is none."""
    try:
        parts = urlsplit(str(url or ""))
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname or ''}:{port}" if parts.hostname else ""
