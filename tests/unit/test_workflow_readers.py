"""Who may read a workflow's configuration, and who may run it."""

from __future__ import annotations

import pytest

from contracts import WorkflowPublished, derived
from services.ingest.core.workflow_readers import may_read, may_run
from shared import clock


@pytest.mark.parametrize(
    ("name", "owner", "reads", "runs"),
    [
        ("documents", "*", {"default", "acme", "other"}, {"default", "acme", "other"}),
        ("letters", "default", {"default"}, {"default", "acme", "other"}), ("letters", None, {"default"}, {"default", "acme", "other"}),
        ("tenant.1", "acme", {"acme"}, {"acme"}), ("tenant.1", None, set(), set()), ("letters", "acme", {"acme"}, {"acme"}),
    ],
)  # fmt: skip
def test_readers(name: str, owner: str | None, reads: set[str], runs: set[str]) -> None:
    tenants = ("default", "acme", "other")
    record = {"name": name, "owner": owner}
    assert {t for t in tenants if may_read(record, t, "default")} == reads
    assert {t for t in tenants if may_run(record, t, "default")} == runs


def test_a_version_whose_owner_becomes_known_is_another_message() -> None:
    def published(owner: str | None) -> WorkflowPublished:
        return WorkflowPublished(name="letters", version=2, definition={}, published_at=clock.now(), owner=owner)

    assert published(None).message_id == derived("letters", 2, "published"), "as earlier releases derive it"
    assert len({published(owner).message_id for owner in (None, "*", "acme")}) == 3
    assert len({published(owner).key for owner in (None, "*", "acme")}) == 1
