"""Checks of the idle pipeline: nothing is lost, nothing happened twice, and every reader sees the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

from contracts import CreateJob, ReportRefused, SessionClosed, StageReport, StageTask, TaskStatus
from contracts.alfred import AlfredEvent
from contracts.job_events import JOB_EVENTS
from services.job_orchestrator.core.job import Job
from tests.simulation.observer import must
from tests.simulation.world import World, read_model


def check(world: World) -> None:
    """Raises `Broken` naming the invariant."""
    jobs: dict[str, Job] = {i: job for i, (job, _) in world.jobs.tables.get("job", {}).items()}
    _nothing_lost(world, jobs)
    _sessions(world, jobs)
    _outboxes(world)
    _readers(world, jobs)
    _conserved(world)
    _refused(world)
    _dead_letters_twice(world)


def _refused(world: World) -> None:
    """S10: reports without the lease had no effect. S14: tasks handed out at a job's end were cancelled."""
    refused = {e.message.report_id for e in world.broker.records("stage.refusals") if isinstance(e.message, ReportRefused)}
    for entry in world.broker.records("stage.reports"):
        report = entry.message
        if (
            isinstance(report, StageReport)
            and report.status is not TaskStatus.RUN
            and (report.lease == "forged" or report.tenant_id == "other")
        ):
            must(report.report_id in refused, "S10", f"a forged report on {report.job_id} was not refused")
    for lease, (job_id, commit) in world.observer.tasks.items():
        end = world.observer.end_commit.get(job_id)
        must(
            end is None or commit < end or lease in world.observer.revoked,
            "S14",
            f"a task of {job_id} at its end was not revoked",
        )


def _nothing_lost(world: World, jobs: dict[str, Job]) -> None:
    wanted = {m.job_id for m in world.sent if isinstance(m, CreateJob)}
    closed = {e.message.job_id for e in world.broker.records("session.events") if isinstance(e.message, SessionClosed)}
    children = {m.job_id for e in world.broker.records("job.commands") if isinstance(m := e.message, CreateJob)}
    reruns = {i for i, job in jobs.items() if job.rerun_of}
    must(wanted | closed <= set(jobs), "S1", f"lost: {sorted((wanted | closed) - set(jobs))}")
    must(
        set(jobs) <= wanted | closed | children | reruns,
        "S2",
        f"from nowhere: {sorted(set(jobs) - wanted - closed - children - reruns)}",
    )
    open_ = sorted(i for i, job in jobs.items() if not job.ended)
    must(not open_, "L2", f"not ended although everything is well again: {[(i, jobs[i].stage.value) for i in open_]}")
    took = world.rested_at - world.healed_at
    must(took < 90_000, "L2", f"came to rest only after {took:.0f} s")
    for job_id, job in jobs.items():
        sequence = world.observer.sequences[job_id]
        must(sequence == list(range(1, job.sequence + 1)), "S7", f"{job_id}: {job.sequence} decided, published {sequence}")
        must(job_id in world.observer.ended, "S3", f"{job_id} has ended and no event says so")


def _sessions(world: World, jobs: dict[str, Job]) -> None:
    closings: dict[str, set[bytes]] = {}
    for entry in world.broker.records("session.events"):
        if isinstance(entry.message, SessionClosed):
            closings.setdefault(entry.message.session_id, set()).add(entry.value)
    for session_id, bodies in closings.items():
        must(len(bodies) == 1, "S13", f"{session_id} was closed {len(bodies)} times")
        session = world.sessions.tables["session"][session_id]
        files = sum(1 for s, _ in world.sessions.tables["file"] if s == session_id)
        must(
            files == session.file_count == jobs[session.job_id].total,
            "S13",
            f"{session_id}: {files} files, job has {jobs[session.job_id].total}",
        )


def _outboxes(world: World) -> None:
    for database in (world.jobs, world.sessions):
        left = database.tables.get("outbox", {})
        must(not left, "S7", f"{len(left)} outbox rows were never published")
    ready = world.jobs.tables.get("ready", {})
    must(not ready, "L3", f"{sorted(ready)} wait for a credit for ever")
    flight = {k: n for k, n in world.jobs.tables.get("flight", {}).items() if n}
    must(not flight, "credits", f"{flight} are counted in flight, and nothing runs")
    for entry in world.broker.records("stage.tasks.a") + world.broker.records("stage.tasks.b"):
        must(isinstance(entry.message, StageTask), "S2", "a task topic holds something else")


def _readers(world: World, jobs: dict[str, Job]) -> None:
    rebuilt: dict[str, Any] = {}
    seen: set[str] = set()
    ends: set[str] = set()
    early: dict[str, int] = {}
    for entry in world.broker.records("job.events") + world.broker.records("file.events"):
        event = entry.message
        if isinstance(event, AlfredEvent) and event.message_id not in seen | ends:
            (seen if isinstance(event, JOB_EVENTS) else ends).add(event.message_id)
            read_model(rebuilt, early, event, {})
    live = world.view.tables.get("job_view", {})
    must(
        rebuilt == live,
        "S18",
        f"rebuilt and live read models differ for {sorted(i for i in rebuilt if rebuilt[i] != live.get(i))}",
    )
    history = world.view.tables.get("history", {})
    for job_id, job in jobs.items():
        numbers = history.get(job_id)
        must(numbers == list(range(1, job.sequence + 1)), "S6", f"{job_id} has {job.sequence} events, its history is {numbers}")
        record = rebuilt.get(job_id, {})
        said = record.get("file_ends")
        must(said == job.file_ends, "S18", f"{job_id} has {job.file_ends} files that have ended, {said} are said")
        must(
            record.get("stage") == job.stage.value and record.get("sequence") == job.sequence,
            "S18",
            f"{job_id} is {job.stage.value}, readers see {record.get('stage')}",
        )
    effects = world.consumer.tables.get("effect", {})
    must(set(effects) == seen, "S6", f"a consumer missed {len(seen - set(effects))} events")
    must(all(n == 1 for n in effects.values()), "S6", "a consumer counted an event twice")


def _conserved(world: World) -> None:
    """S15: every record was applied, recognised as a duplicate or dead-lettered. S9: no offset was committed before."""
    for name, group in world.broker.groups.items():
        if name == "workers":
            continue
        hows: dict[Any, set[str]] = {}
        for (who, place, offset, how), _ in world.observer.settles.items():
            if who == name:
                hows.setdefault((place, offset), set()).add(how)
        for place, log in world.broker.logs.items():
            if place[0] in group.topics:
                missing = [n for n in range(len(log)) if (place, n) not in hows]
                must(not missing, "S15", f"{name} passed over {place} {missing[:5]}")
                must(
                    group.committed.get(place, 0) == len(log),
                    "S9",
                    f"{name} is at {group.committed.get(place, 0)} of {len(log)} in {place}",
                )


def _dead_letters_twice(world: World) -> None:
    """S16: a dead letter that is sent again twice has its effect once. The second copy is a duplicate, or a dead letter again."""
    unreadable = [x for x in world.dead_letters if x[1].message is None]
    written = sum(1 for log in world.broker.logs.values() for e in log if e.message is None)
    must(len(unreadable) >= written, "S15", f"{written} records cannot be read, {len(unreadable)} were put aside")
    for topic, entry, _ in world.dead_letters:
        if entry.message is not None and topic == "stage.reports":
            key = f"{entry.message.message_id}|{entry.message.TYPE}"
            must(key not in world.jobs.tables["seen"], "S16", f"{entry.message.message_id} was put aside and counts as handled")
    again = [(topic, e) for topic, e, _ in world.dead_letters if e.message is not None]
    before = {job_id: job.sequence for job_id, (job, _) in world.jobs.tables.get("job", {}).items()}
    nowhere = _of_no_job(world)
    for _ in range(2):
        for topic, entry in again:
            world.broker.append(topic, entry)
        world._until_quiet()
    after = {job_id: job.sequence for job_id, (job, _) in world.jobs.tables.get("job", {}).items()}
    must(before == after, "S16", "dead letters sent again changed jobs that had ended")
    letters = _of_no_job(world)
    vanished = [report_id for report_id, n in nowhere.items() if letters[report_id] < n + 2]
    must(not vanished, "S16", f"reports on a job that nobody knows vanished when they were sent again: {vanished}")


def _of_no_job(world: World) -> Counter[str]:
    """Report id → dead letters of reports on an unknown job. Two of one id in one batch make one dead letter."""
    reports = [e.message for _, e, _ in world.dead_letters if isinstance(e.message, StageReport)]
    return Counter(report.report_id for report in reports if report.job_id == "nowhere")
