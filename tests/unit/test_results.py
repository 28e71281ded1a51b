"""What steps return is in the job's and the files' last events, in the state, in the records, and in a table that a spreadsheet reads."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import TaskStatus
from services.ingest.core import file_view, job_view
from services.ingest.http.archive import manifest_of
from services.job_orchestrator.core.snapshot import state_of
from shared.web.result_table import FIRST, FORMULA, as_csv, result_of, rows_of
from tests.unit.orchestration import Drive, workflow

FLOW = workflow(
    {"name": "translate"},
    {"name": "read", "action": "fields.extract"},
    {"name": "total", "scope": "job"},
    {"name": "empty", "scope": "job"},
)
OUTPUT = {"file_name": "o.csv", "blob_name": "t1/o", "content_type": "text/csv", "size": 1, "sha256": "0" * 64}


def run(drive: Drive, results: dict[str, Any], last: TaskStatus = TaskStatus.OK) -> Drive:
    """Every task ends with the result of its step's name; the step `empty` with `last`."""
    drive.feed(drive.start)
    done = 0
    while done < len(drive.tasks):
        task, done = drive.tasks[done], done + 1
        status = last if task.step == "empty" else TaskStatus.OK
        drive.report(task, status, result=results.get(task.step, {}) if status is TaskStatus.OK else {})
    return drive


RESULTS = {
    "translate": {"language": "de", "outputs": [OUTPUT]},
    "read": {"properties": {"pages": 2}},
    "total": {"sum": 7.5, "by": {"a": [1, 2]}},
}


def event(drive: Drive, name: str) -> Any:
    """The last event of a name."""
    return [e for e in drive.events if name == e.event.NAME][-1]


def test_the_end_of_a_job_and_of_a_file_say_what_their_steps_returned() -> None:
    drive = run(Drive(FLOW), RESULTS)
    finished, done = event(drive, "job_finished_event"), event(drive, "file_done_event")
    assert finished.event.results == {"total": RESULTS["total"]}, "without steps that returned nothing"
    assert done.event.results == {"translate": {"language": "de"}}, "without output files and the results of built-in actions"
    assert drive.job is not None and state_of(drive.job).results == finished.event.results
    unloaded = run(Drive(FLOW, files=3), RESULTS)
    assert event(unloaded, "job_finished_event").event.results == finished.event.results


def test_a_failed_job_keeps_the_results_of_the_steps_before() -> None:
    drive = run(Drive(FLOW), RESULTS, TaskStatus.KO)
    failed = event(drive, "job_failed_event")
    assert failed.event.results == {"total": RESULTS["total"]}
    record = job_view.new_job("job-1", "t1", drive.now)
    for one in drive.events:
        if one.event.KIND == "job_event":
            record = job_view.apply_event(record, one)
    assert record["stage"] == "failed" and record["results"] == {"total": RESULTS["total"]}


def records(drive: Drive) -> dict[str, Any]:
    """The gateway's result of a job, from its events."""
    job = job_view.new_job("job-1", "t1", drive.now)
    files: dict[str, Any] = {}
    for one in drive.events:
        if one.event.KIND == "job_event":
            job = job_view.apply_event(job, one)
        else:
            file_id = getattr(one.event, "file_id", None) or one.event.file_log_id
            files[file_id] = file_view.apply_event(files.get(file_id) or file_view.new_file(file_id, "t1", drive.now), one)
    return result_of(job, list(files.values()))


def test_a_table_has_a_row_per_file_and_a_column_per_value() -> None:
    found = records(run(Drive(FLOW, files=2), RESULTS))
    rows = list(csv.DictReader(io.StringIO(as_csv(rows_of([found])))))
    assert [r["file_name"] for r in rows] == ["file0.pdf", "file1.pdf"]
    assert {r["results.total.sum"] for r in rows} == {"7.5"} and {r["results.translate.language"] for r in rows} == {"de"}
    assert {r["results.total.by.a"] for r in rows} == {"[1, 2]"} and {r["stage"] for r in rows} == {"completed"}
    assert found["files"][0]["outputs"][0]["url"] == "/v1/files/f0/outputs/1"
    manifest = json.loads(manifest_of(found, [("file0.pdf/1-o.csv", "t1/o")]))
    assert manifest["entries"] == ["file0.pdf/1-o.csv"] and len(manifest["files"]) == 2


def test_a_job_without_files_has_one_row_with_its_error() -> None:
    job = job_view.new_job("job-1", "t1", Drive(FLOW).now) | {"error_messages": ["no worker"], "workflow": "w@1"}
    [row] = rows_of([result_of(job, [])])
    assert row["message"] == "no worker" and row["file_id"] is None


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.integers(), st.booleans(), st.none())))
def test_every_table_can_be_read_back_and_holds_no_formula(fields: dict[str, Any]) -> None:
    record = file_view.new_file("f", "t1", Drive(FLOW).now) | {"fields": fields}
    job = job_view.new_job("job-1", "t1", Drive(FLOW).now)
    header, *rows = csv.reader(io.StringIO(as_csv(rows_of([result_of(job, [record])])), newline=""))
    assert tuple(header[: len(FIRST)]) == FIRST and [len(row) for row in rows] == [len(header)]
    for cell in rows[0]:
        assert not cell.startswith(FORMULA) or cell.strip().lstrip("+-").replace(".", "").replace(",", "").isdigit()


def test_every_task_carries_the_metadata_of_its_job() -> None:
    d = Drive(workflow({}, {}), metadata={"order": "o-7"})
    d.feed(d.start)
    d.report(d.tasks[0])
    assert [t.metadata for t in d.tasks] == [{"order": "o-7"}] * 2
