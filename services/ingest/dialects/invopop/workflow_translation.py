"""Translates Invopop workflows into ours (reference/vendor-apis.md §2.5): nested branches become a list of steps with jumps.
Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]
MAX_STEPS, MAX_RESCUE, MAX_DEPTH = 100, 20, 10
TIMEOUTS = ("lease_expired", "limit_time", "timeout_queued", "timeout_total")
RETRY = {"max_attempts": 40, "backoff": "exponential", "initial_s": 5.0, "cap_s": 1800.0, "jitter": 0.0, "budget_s": 43_200.0}
"""Delays of 5, 10, 20 … 1,280 seconds, then of half an hour, for twelve hours (§2.7)."""
ALIASES = {"webhook": "http.webhook"}
_ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


class BadFlow(ValueError):
    """The workflow cannot be run; `field` is the path of the field at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def translate(name: str, version: int, flow: Mapping[str, Any]) -> tuple[Record, dict[str, Record]]:
    """The definition in our format, and for each of its steps the `step_id`, `name` and `provider` in the original. Raises
    `BadFlow`."""
    builder = _Builder()
    steps = builder.lay_out(flow.get("steps") or [], "steps", None, 0)
    if not steps:
        raise BadFlow("steps", "at least one step is needed")
    rescue = builder.lay_out(flow.get("rescue") or [], "rescue", None, 0)
    if len(steps) > MAX_STEPS or len(rescue) > MAX_RESCUE:
        raise BadFlow("steps", f"at most {MAX_STEPS} steps and {MAX_RESCUE} rescue steps, with all their branches")
    builder.resolve(steps)
    builder.resolve(rescue)
    definition = {
        "name": name, "version": version, "description": str(flow.get("name") or "")[:500], "join": "all",
        "steps": steps, "rescue": [{k: v for k, v in s.items() if k != "scope"} | {"scope": "job"} for s in rescue],
    }  # fmt: skip
    return definition, builder.shown


class _Builder:
    def __init__(self) -> None:
        self.shown: dict[str, Record] = {}
        self.names: dict[str, str] = {}
        """Step id → name of the translated step."""
        self.jumps: list[tuple[Record, str, str]] = []

    def lay_out(self, listed: Any, field: str, after: str | None, depth: int) -> list[Record]:
        """The steps in a list. The last one continues at step `after`; None ends the workflow."""
        if not isinstance(listed, list):
            raise BadFlow(field, "a list is expected")
        if depth > MAX_DEPTH:
            raise BadFlow(field, f"branches are nested deeper than {MAX_DEPTH}")
        if len(self.names) + len(listed) > MAX_STEPS + MAX_RESCUE:
            raise BadFlow(field, f"more than {MAX_STEPS} steps")
        heads = [self._name(entry, f"{field}.{n}") for n, entry in enumerate(listed)]
        found: list[Record] = []
        for n, entry in enumerate(listed):
            last = n + 1 == len(listed)
            found += self._step(entry, heads[n], after if last else heads[n + 1], f"{field}.{n}", depth, last and depth > 0)
        return found

    def _name(self, entry: Any, field: str) -> str:
        if not isinstance(entry, Mapping):
            raise BadFlow(field, "an object is expected")
        step_id = str(entry.get("id") or "")
        if not step_id or step_id in self.names:
            raise BadFlow(f"{field}.id", "a unique id is expected")
        action = str(entry.get("action") or entry.get("provider") or "")
        ours = ALIASES.get(action, action.replace("-", "_"))
        if not _ACTION.fullmatch(ours) or len(ours) > 100:
            raise BadFlow(f"{field}.action", "the name of an action is expected")
        slug = re.sub(r"[^a-z0-9]+", "-", str(entry.get("name") or action).lower()).strip("-")[:40]
        name = f"s{len(self.names) + 1}-{slug}".rstrip("-")
        self.names[step_id] = name
        self.shown[name] = {"step_id": step_id, "name": str(entry.get("name") or ""), "provider": action, "action": ours}
        return name

    def _step(self, entry: Mapping[str, Any], name: str, after: str | None, field: str, depth: int, jumps: bool) -> list[Record]:
        config = entry.get("config") or {}
        if not isinstance(config, Mapping):
            raise BadFlow(f"{field}.config", "an object is expected")
        step: Record = {
            "name": name, "action": self.shown[name]["action"], "scope": "file", "config": dict(config), "retry": dict(RETRY),
        }  # fmt: skip
        rules: list[Record] = []
        branches: list[Record] = []
        for n, block in enumerate(entry.get("next") or []):
            at = f"{field}.next.{n}"
            if not isinstance(block, Mapping):
                raise BadFlow(at, "an object is expected")
            inner = self.lay_out(block.get("steps") or [], f"{at}.steps", after, depth + 1)
            self._rules(step, rules, block, inner, after, at)
            branches += inner
        rules.sort(key=lambda rule: "code" not in rule)
        if rules or jumps or branches:
            # Without a rule of its own, a step would continue into the branches that follow it in the list.
            rules += [{"status": status, "to": after or "end"} for status in ("OK", "SKIP")]
        if rules:
            step["next"] = rules
        return [step, *branches]

    def _rules(
        self, step: Record, rules: list[Record], block: Mapping[str, Any], inner: Sequence[Record], after: str | None, field: str
    ) -> None:
        status, code = str(block.get("status") or ""), block.get("code") or None
        if status not in ("", "OK", "SKIP", "KO", "TIMEOUT"):
            raise BadFlow(f"{field}.status", "OK, SKIP, KO or TIMEOUT is expected")
        if block.get("stop"):
            to = "end"
        elif inner:
            to = inner[0]["name"]
        else:
            to = after or "end"
        for ours, ours_code in _fitting(status, code):
            rule: Record = {"status": ours, "to": to, **({"code": ours_code} if ours_code else {})}
            rules.append(rule)
            if block.get("step_id") and not inner and not block.get("stop"):
                self.jumps.append((rule, str(block["step_id"]), f"{field}.step_id"))

    def resolve(self, steps: Sequence[Record]) -> None:
        """Replace ids of jump targets by names of steps."""
        order = {step["name"]: n for n, step in enumerate(steps)}
        for rule, step_id, field in self.jumps:
            source = next((n for n, s in enumerate(steps) if any(r is rule for r in s.get("next", []))), None)
            if source is None:
                continue
            target = self.names.get(step_id)
            if target is None or order.get(target, -1) <= source:
                raise BadFlow(field, "a later step of the same list is expected")
            rule["to"] = target


def _fitting(status: str, code: str | None) -> list[tuple[str, str | None]]:
    if status == "TIMEOUT":
        return [("ERR", c) for c in TIMEOUTS]
    found = [status] if status else ["OK", "SKIP", "KO"]
    # In Invopop an error without retries left is a KO.
    return [(s, code) for s in found] + ([("ERR", code)] if "KO" in found else [])
