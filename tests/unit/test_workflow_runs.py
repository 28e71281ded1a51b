"""A run of steps: consecutive steps of one scope. It never extends from the steps into the rescue steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orchestration import workflow

SCOPES = st.lists(st.sampled_from(["file", "job"]), min_size=1, max_size=8)


@given(SCOPES, st.integers(0, 3))
def test_a_run_ends_where_the_scope_changes_or_the_part_ends(scopes: list[str], rescues: int) -> None:
    rescue = [{"name": f"r{n}", "action": "tidy", "scope": "job"} for n in range(rescues)]
    flow = workflow(*({"scope": scope} for scope in scopes), rescue=rescue)
    for index in range(len(flow.all_steps)):
        part_ends = len(scopes) if index < len(scopes) else len(flow.all_steps)
        scope = flow.all_steps[index].scope
        run = next((i for i in range(index, part_ends) if flow.all_steps[i].scope != scope), part_ends)
        assert flow.run_end(index) == run
