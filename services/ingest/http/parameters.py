"""Parameters of jobs and workflows, judged before a command is published. The orchestrator judges them again: it is the authority."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from contracts.identity import PLATFORM_TENANT
from contracts.parameters import (
    Fault,
    StepView,
    check_arguments,
    check_definition,
    is_open,
    steps_of,
    unknown_step,
    written_secret,
)
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import LIVE, rows_of
from services.ingest.core.rule_patterns import pattern_fault
from services.ingest.http.errors import ApiError
from shared.net.address_guard import AddressRefused, check_url
from shared.web.api_keys import Principal

_PUBLISHED = (
    f"SELECT body FROM workflow_view WHERE name = :n AND (version = :v OR :v = 0 AND {LIVE}) ORDER BY version DESC LIMIT 1"
)


async def published_definition(gateway: Gateway, name: str, version: int | None = None) -> dict[str, Any] | None:
    """The definition of a published version, by default the newest; None where this gateway has read none."""
    found = await gateway.store.read(lambda c: rows_of(c, _PUBLISHED, {"n": name, "v": version or 0}))
    return found[0]["definition"] if found else None


def _refused_value(gateway: Gateway, who: Principal, action: str, name: str, value: Any) -> tuple[str, str] | None:
    """Place within a parameter of the right type, and reason, where the action would refuse its value; None for a good one."""
    if action == "http.webhook" and name == "url" and value:
        try:
            check_url(str(value), gateway.settings.trusted)
        except AddressRefused as error:
            return "", str(error).removeprefix("url: ")
    if action == "text.classify" and name == "rules" and value and who.tenant_id == PLATFORM_TENANT:
        return pattern_fault(value)
    return None


def _values_fault(gateway: Gateway, who: Principal, values: Iterable[tuple[str, str, Mapping[str, Any]]]) -> Fault | None:
    """The first value that the action would refuse. `values`: action, place and settings of each step."""
    for action, at, settings in values:
        for name, value in settings.items():
            refused = _refused_value(gateway, who, action, name, value)
            if refused is not None:
                within, reason = refused
                return Fault(f"{at}.{name}.{within}" if within else f"{at}.{name}", "invalid_parameter", reason)
    return None


async def require_open(
    gateway: Gateway, who: Principal, workflow: str, version: int | None, args: Mapping[str, Any] | None
) -> None:
    """Raises 400, naming the field, for a step that the workflow does not have, for a parameter that a job may not set, and for a
    value that the step's action would refuse."""
    definition = await published_definition(gateway, workflow, version) if args else None
    if definition is None:
        return
    steps = steps_of(definition)
    fault = check_arguments(steps, args, who.tenant_id)
    if fault is None and not any(not step.action for step in steps):
        # A step without an action may be a child job, which has the arguments of its parent.
        fault = unknown_step(steps, args)
    if fault is None:
        given = ((step.action, f"args.{step.name}", (args or {}).get(step.name, {})) for step in steps)
        fault = _values_fault(gateway, who, given)
    if fault is not None:
        raise refusal(fault)


async def opened_arguments(
    gateway: Gateway, workflow: str, given: Mapping[str, Any], usual: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """`given` for each step of the newest version of `workflow`, as far as a job may set it there. Empty ones are left out.

    For a workflow that this gateway has not read yet: for the steps in `usual`.
    """
    definition = await published_definition(gateway, workflow)
    if definition is None:
        return {step: dict(given) for step in usual}
    steps: list[StepView] = steps_of(definition)
    found = {step.name: {n: v for n, v in given.items() if step.action and is_open(step, n)} for step in steps}
    return {name: settings for name, settings in found.items() if settings}


def refusal(fault: Fault) -> ApiError:
    """400 for a parameter, with the field's name and the fault's code."""
    return ApiError(400, str(fault), fault.field, code=fault.code)


def definition_fault(gateway: Gateway, definition: Mapping[str, Any], who: Principal, draft: bool) -> Fault | None:
    """The first fault of a definition's parameters. A draft may be wrong, but holds no secret."""
    if draft:
        return written_secret(definition)
    fault = check_definition(definition, who.tenant_id == PLATFORM_TENANT)
    return fault or _values_fault(gateway, who, _configs(definition))


def _configs(definition: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Action, place and settings of each step. The definition may have any shape: the orchestrator judges that."""
    for part in ("steps", "rescue"):
        listed = definition.get(part)
        for index, step in enumerate(listed if isinstance(listed, list | tuple) else ()):
            config = step.get("config") if isinstance(step, Mapping) else None
            if isinstance(config, Mapping):
                yield str(step.get("action") or ""), f"{part}.{index}.config", config
