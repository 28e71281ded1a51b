"""Judges: pure functions from evidence to violations. A unit test plants a violation for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tests.chaos.harness.evidence import Evidence, Violation
from tests.chaos.harness.judges import delivery, jobs, processes, views

Judge = Callable[[Evidence], Iterator[Violation]]
EVENTUAL: tuple[Judge, ...] = (
    jobs.accepted_jobs_are_there, jobs.jobs_end_once_and_truthfully, jobs.sequences_are_dense, jobs.files_agree, jobs.job_state_agrees,
    delivery.stream_is_whole, delivery.webhooks_deliver_each_event,
)  # fmt: skip
"""What holds soon after the load; a run waits for it."""
FINAL: tuple[Judge, ...] = (
    views.services_are_ready,
    views.faults_were_applied,
    views.requests_are_answered,
    delivery.webhooks_keep_one_id, delivery.one_webhook_in_flight_per_job,
    delivery.retry_after_is_obeyed,
    delivery.stream_keeps_the_order, views.read_model_agrees, views.verify_finds_nothing,
    views.answers_are_no_server_errors, processes.logs_have_no_tracebacks, processes.errors_are_about_faults, processes.use_is_as_before,
    views.nothing_is_left,
)  # fmt: skip
JUDGES = (*EVENTUAL, *FINAL)
BLIND: tuple[Judge, ...] = (*views.WITHOUT_TOPICS, processes.logs_have_no_tracebacks, processes.errors_are_about_faults)
"""What is judged when Kafka cannot be read at the end."""


def judged(evidence: Evidence, judges: Iterable[Judge] = JUDGES) -> list[Violation]:
    """All violations."""
    return [violation for judge in judges for violation in judge(evidence)]
