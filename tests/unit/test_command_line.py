"""What every command has in common: ids, names in paths, exit codes, forms of the output, widths, and what it says when things go wrong."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cli.commands.submit import find_files
from shared.version import VERSION
from tests.eventually import eventually
from tests.unit.canned_gateway import FILE, JOB, LISTS, Gateway, serving
from tests.unit.recorded_commands import COMMAND, GROUPS, READS, ROOT, invoke, names

HARMFUL = ("cancel", "terminate", "erase", "delete", "revoke", "discard", "reset", "down", "stop")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


def stageline(url: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """A process of its own, for what a process alone can meet."""
    environment = {
        **os.environ,
        "STAGELINE_URL": url,
        "STAGELINE_NOTIFIER_URL": url,
        "STAGELINE_KEY": "sk",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "cli", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, env=environment, text=True, cwd=ROOT, **streams)


@pytest.mark.parametrize("given", [JOB, JOB[:8], JOB[:13].upper(), "@last"])
def test_a_job_is_named_by_its_id_its_beginning_or_as_the_last(gateway: Gateway, given: str) -> None:
    code, said, wrong = invoke(["jobs", "show", given], gateway.url)
    assert code == 0 and said.startswith(JOB), wrong


def test_a_beginning_that_no_job_has_is_not_found(gateway: Gateway) -> None:
    code, _, wrong = invoke(["jobs", "cancel", "ffffffff"], gateway.url)
    assert code == 4 and "ffffffff" in wrong and not any(method == "POST" for method, _ in gateway.requests)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["schedules", "delete", "nightly #1"], "/v1/schedules/nightly%20%231"),
        (["schedules", "delete", "a/b?c"], "/v1/schedules/a%2Fb%3Fc"),
        (["control", "action:acme.kit#x", "--pause"], "/v1/controls/action/acme.kit%23x"),
        (["keys", "revoke", "k #1"], "/v1/keys/k%20%231"),
        (["users", "revoke", "ann#2"], "/v1/users/ann%232"),
        (["secrets", "delete", "crm#2"], "/v1/secrets/crm%232"),
        (["workflows", "show", "a#b"], "/v1/workflows/a%23b"),
        (["text", "f#1"], "/v1/files/f%231/text"),
    ],
)
def test_a_name_is_one_segment_of_the_path(gateway: Gateway, arguments: list[str], path: str) -> None:
    invoke(arguments, gateway.url)
    assert [target.partition("?")[0] for _, target in gateway.requests] == [path]


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"], ["jobs", "fly"], ["jobs", "list", "--colour"], ["jobs", "list", "--output", "xml"], ["jobs", "list", "--limit", "0"],
        ["jobs", "list", "--limit", "many"], ["jobs", "list", "--since", "soon"], ["jobs", "list", "--since", ""],
        ["jobs", "list", "--metadata", "x"], ["jobs", "show"], ["jobs", "show", ""], ["schedules", "delete", ".."], ["submit"],
        ["submit", "/no/such/file"], ["submit", "--url", "https://x.example", "--metadata", "{"], ["bulk", "start", "retry"],
        ["control", "job:7", "--pause"], ["users", "create"], ["results", "x", "--tag", "y"], ["jobs", "list", "more"],
        ["tenants", "revoke", "acme"], ["jobs", "erase", JOB], ["up", "--port", "99999"], ["up", "--kafka-port", "-1"],
        ["up", "--scale", "ingest"], ["up", "--scale", "nobody=2"], ["up", "--scale", "ingest=0"],
        ["workflows", "validate", "/no/such/file"], ["workflows", "publish", "/no/such/file"], ["grants", "add"],
        ["grants", "add", "u", "pilot"], ["api", "GET", "v1/jobs"], ["api", "FLY", "/v1/jobs"], ["api", "POST", "/v1/jobs", "-d", "{"],
        ["logs", "--level", "loud"], ["jobs", "list", "--query", "a", "--stage", "failed"], ["--output", "json", "jobs"],
    ],
)  # fmt: skip
def test_wrong_use_is_exit_code_2_and_one_line(gateway: Gateway, arguments: list[str]) -> None:
    code, said, wrong = invoke(arguments, gateway.url)
    assert code == 2 and said == "", (said, wrong)
    assert wrong.startswith("stageline: ") and wrong.count("\n") == 1, wrong
    assert not any(method != "GET" for method, _ in gateway.requests), "nothing was changed"


def test_no_suggestion_destroys_something(gateway: Gateway) -> None:
    groups = [[], *([name] for name, child in COMMAND.commands.items() if hasattr(child, "commands"))]
    for group in groups:
        for verb in HARMFUL:
            for typo in (verb[:-1], verb + "x", verb[0] + verb):
                wrong = invoke([*group, typo], gateway.url)[2]
                assert not any(f"mean {harmful}?" in wrong for harmful in HARMFUL), wrong
    assert "Did you mean jobs?" in invoke(["jbos"], gateway.url)[2]


@pytest.mark.parametrize("name", [name for name in names() if name not in GROUPS])
def test_every_help_ends_with_an_example_that_the_parser_takes(name: str) -> None:
    command, words = COMMAND, name.split()
    while words:
        command = command.commands[words.pop(0)]
    example = (command.epilog or "").removeprefix("Example: ").removeprefix('eval "$(').removesuffix(')"')
    assert example.startswith("stageline "), f"{name} has no example"
    command, words = COMMAND, shlex.split(example)[1:]
    while hasattr(command, "commands"):
        words = words if words and words[0] in command.commands else [command.default, *words]
        command = command.commands[words.pop(0)]
    command.make_context(name, words, resilient_parsing=False)


def test_version_and_help(gateway: Gateway) -> None:
    assert invoke(["--version"], gateway.url)[1] == f"stageline {VERSION}\n"
    for words in ([], ["jobs"], ["jobs", "list"]):
        code, said, _ = invoke([*words, "-h"], gateway.url)
        assert code == 0 and said == invoke([*words, "--help"], gateway.url)[1]
    assert invoke(["bulk", "start", "-h"], gateway.url)[0] == 0 and not gateway.requests


@pytest.mark.parametrize("name", sorted(name for name in READS if name.endswith(" list")))
def test_names_are_one_line_each_and_a_narrow_terminal_cuts_none(gateway: Gateway, name: str) -> None:
    _, said, _ = invoke([*name.split(), "--output", "name"], gateway.url)
    assert said.count("\n") == 1 and said.strip()
    for width in (30, 50, 80, 200):
        table = invoke([*name.split(), "--output", "table"], gateway.url, width, terminal=True)[1]
        assert said.strip() in table, table


@pytest.mark.parametrize("arguments", [["jobs", "show", JOB], ["results", JOB], ["files", "list"], ["search", "pump"]])
@pytest.mark.parametrize("width", [40, 60, 10_000])
def test_an_id_of_a_file_and_a_name_with_brackets_are_whole(gateway: Gateway, arguments: list[str], width: int) -> None:
    said = invoke(arguments, gateway.url, width, terminal=width < 10_000)[1]
    assert FILE in said, said
    assert "invoice[7].pdf" in said.replace(" ", "").replace("\n", ""), said


def test_every_form_of_the_output_is_well_formed(gateway: Gateway) -> None:
    assert json.loads(invoke(["jobs", "--json"], gateway.url)[1])[0]["id"] == JOB
    assert invoke(["jobs", "-o", "json"], gateway.url)[1] == invoke(["jobs", "list", "--json"], gateway.url)[1]
    head, row = invoke(["jobs", "-o", "csv"], gateway.url)[1].splitlines()
    assert head.count(",") == row.count(",") and row.startswith(JOB)
    assert "\x1b" not in invoke(["jobs", "show", JOB], gateway.url, 100, terminal=True)[1], "NO_COLOR is set"


def test_filters_are_sent_as_the_search_has_them(gateway: Gateway) -> None:
    options = ["--stage", "failed", "--stage", "invalid", "--workflow", "doc*", "--metadata", "a=b=c", "--since", "2d"]
    for command in (["jobs", "list"], ["find"], ["results"]):
        gateway.requests.clear()
        invoke([*command, *options], gateway.url)
        sent = gateway.requests[0][1]
        for part in ("stage=failed", "stage=invalid", "workflow=doc*", "metadata=a%3Db%3Dc", "created_after=2026-11-"):
            assert part in sent.replace("%2A", "*").replace("a=b=c", "a%3Db%3Dc"), (command, sent)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.pdf", ".b.pdf", ".git/c.pdf", "d/.e/f.pdf", "d/g.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [path.name for path in find_files([tmp_path])] == ["a.pdf", "g.pdf"]


def test_an_address_that_nobody_answers_at_fails_in_seconds() -> None:
    with mock.patch("cli.client.FIRST_S", 0.1):
        for command in (["jobs", "list"], ["events"], ["webhooks", "list"]):
            code, said, wrong = invoke(command, "http://127.0.0.1:9")
            assert code == 3 and said == "" and wrong.count("\n") == 1, (command, wrong)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_wrong_use(url: str) -> None:
    code, _, wrong = invoke(["jobs"], url)
    assert code == 2 and wrong.startswith("stageline: STAGELINE_") and wrong.count("\n") == 1, wrong


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": 7, "supervisor": 1}', "\x00\xff"])
@pytest.mark.parametrize("command", ["jobs", "status", "down", "env"])
def test_a_damaged_state_file_is_one_line(tmp_path: Path, text: str, command: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text(text)
    with mock.patch.dict(os.environ):
        for name in ("STAGELINE_URL", "STAGELINE_NOTIFIER_URL", "STAGELINE_KEY"):
            os.environ.pop(name, None)
        code, said, wrong = invoke([command, "--data-dir", str(tmp_path)], None)
    assert code == 1 and said == "" and "state.json" in wrong and wrong.count("\n") == 1, wrong


def test_a_full_or_closed_output_is_one_line_at_most(gateway: Gateway) -> None:
    with open("/dev/full", "w") as full:  # noqa: SIM117
        with stageline(gateway.url, "jobs", "--json", stdout=full) as process:
            wrong = process.communicate(timeout=30)[1]
    assert process.returncode == 1 and wrong.startswith("stageline: ") and wrong.count("\n") == 1, wrong
    reading, writing = os.pipe()
    os.close(reading)
    with stageline(gateway.url, "jobs", "--json", stdout=writing) as process:
        os.close(writing)
        assert process.communicate(timeout=30)[1] == "" and process.returncode != 0


async def test_ctrl_c_leaves_the_id_of_a_watched_job(gateway: Gateway) -> None:
    gateway.records["/v1/jobs/{}"] = {**gateway.records["/v1/jobs/{}"], "stage": "running"}

    async def is_watching() -> bool:
        return sum(path == f"/v1/jobs/{JOB}" for _, path in gateway.requests) > 1

    with stageline(gateway.url, "jobs", "watch", JOB) as process:
        await eventually(is_watching)
        process.send_signal(signal.SIGINT)
        said, wrong = process.communicate(timeout=30)
    assert process.returncode == 130 and JOB in said + wrong and "Traceback" not in wrong, wrong


@pytest.mark.parametrize(
    "name", ["a [b].pdf", "Rechnung März.pdf", "new\nline.pdf", "\x1b[31mred.pdf", os.fsdecode(b"\xff.pdf"), "-x.pdf"]
)
def test_a_file_with_an_odd_name_is_submitted(gateway: Gateway, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    code, said, wrong = invoke(["submit", str(tmp_path), "--metadata", "case=7", "--metadata", "who=ann"], gateway.url)
    assert (code, said, wrong) == (0, f"{JOB}\n", "")
    assert any(b"hello" in sent for sent in gateway.uploads)
    assert gateway.bodies[-1]["metadata"] == {"case": "7", "who": "ann"}


def test_a_watched_submission_has_the_exit_code_of_its_job(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("hello")
    code, said, _ = invoke(["submit", str(tmp_path / "a.pdf"), "--watch", "-o", "json"], gateway.url)
    assert code == 1 and json.loads(said)["stage"] == "failed"


def test_what_cannot_be_read_or_written_is_one_line(gateway: Gateway, tmp_path: Path) -> None:
    for arguments in (["submit", str(tmp_path / "none")], ["jobs", "export", "--to", str(tmp_path / "no" / "x.jsonl")]):
        code, said, wrong = invoke(arguments, gateway.url)
        assert code in (1, 2) and said == "" and wrong.startswith("stageline: ") and wrong.count("\n") == 1, wrong


def test_an_export_is_one_line_per_job_and_appears_whole(gateway: Gateway, tmp_path: Path) -> None:
    target = tmp_path / "jobs.jsonl"
    assert invoke(["jobs", "export", "--to", str(target)], gateway.url)[0] == 0
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [JOB]
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.jsonl"]


def test_an_operation_on_many_jobs_is_sent_with_its_filter(gateway: Gateway) -> None:
    code, _, wrong = invoke(
        ["bulk", "start", "retry", "--stage", "failed", "--metadata", "a=b", "--where", "tag=invoice"], gateway.url
    )
    assert code == 0, wrong
    assert gateway.bodies[-1]["filter"] == {"stage": ["failed"], "metadata": ["a=b"], "tag": "invoice"}


def test_an_erasure_is_sent_only_when_it_is_confirmed(gateway: Gateway) -> None:
    assert invoke(["jobs", "erase", JOB[:8]], gateway.url)[0] == 2
    assert all(method == "GET" for method, _ in gateway.requests)
    assert invoke(["jobs", "erase", JOB[:8], "--yes"], gateway.url)[0] == 0
    assert gateway.requests[-1] == ("DELETE", f"/v1/jobs/{JOB}")


def test_any_path_can_be_asked(gateway: Gateway) -> None:
    code, said, _ = invoke(["api", "GET", f"/v1/jobs/{JOB}"], gateway.url)
    assert code == 0 and json.loads(said)["id"] == JOB
    assert invoke(["api", "GET", "/v1/nothing"], gateway.url)[0] == 4


def test_a_page_of_another_server_is_no_answer(gateway: Gateway) -> None:
    gateway.records["/v1/jobs/{}"] = "<html>"
    with mock.patch("tests.unit.canned_gateway.TEXT", "text/html"):
        code, said, wrong = invoke(["jobs", "show", JOB], gateway.url)
    assert code == 3 and said == "" and wrong.count("\n") == 1, wrong


def test_an_encoding_without_the_characters_of_a_name_is_escaped(gateway: Gateway) -> None:
    key = {**LISTS["/v1/keys"][0], "user_name": "Zo\u00eb"}
    ascii_alone = mock.patch.dict(os.environ, {"PYTHONIOENCODING": "ascii"})
    with mock.patch.dict(LISTS, {"/v1/keys": [key]}), ascii_alone, stageline(gateway.url, "keys", "list") as process:
        said, wrong = process.communicate(timeout=30)
    assert process.returncode == 0 and "Zo\\xeb" in said, wrong
