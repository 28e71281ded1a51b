"""Generated documents are up to date and agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from contracts.registry import check
from contracts.topics import TOPICS, Topic, task_topic
from scripts.docs import clients, commands, settings, states, topics
from scripts.docs.generated import ROOT, SECTIONS, rendered, whole_files
from services.job_orchestrator.core.job import BRANCH_TABLE, BranchState


@pytest.mark.parametrize("path", SECTIONS, ids=str)
def test_generated_sections_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == rendered(path), "run `make docs`"


@pytest.mark.parametrize("path", whole_files(), ids=str)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == whole_files()[path], "run `make docs`"


def test_a_vendor_whose_clients_have_no_results_has_no_table() -> None:
    assert clients.section("nobody")() == ""


def test_the_contracts_are_those_released_and_are_compatible() -> None:
    assert check() == []


@pytest.mark.parametrize("topic", [*TOPICS, task_topic("{action}")], ids=lambda topic: topic.name)
def test_the_topic_reference_names_the_messages_of_each_topic(topic: Topic) -> None:
    section = re.split(r"^## ", topics.page(), flags=re.M)
    (mine,) = [part for part in section if part.startswith(f"{topic.name}\n")]
    assert re.findall(r"^\| `(\w+)` \|", mine, re.M) == [model.__name__ for model in topic.models]
    (row,) = [line for line in topics.topic_table((topic,)).splitlines() if line.startswith(f"| [`{topic.name}`]")]
    assert row.endswith(f"| {len(topic.models)} |") and "events" not in row.replace(topic.name, "").replace(
        topics._anchor(topic), ""
    )


def test_every_link_of_the_topic_reference_leads_to_a_file() -> None:
    links = re.findall(r"\]\((\.\./[^)#]+)\)", topics.page())
    assert links and all((ROOT / "docs" / "reference" / link).resolve().is_file() for link in links)


@pytest.mark.parametrize(
    "group", [settings.Settings, settings.KAFKA, *settings.SERVICES.values()], ids=lambda group: group.__name__
)
def test_every_setting_has_a_meaning(group: type[BaseSettings]) -> None:
    assert set(group.model_fields) - {"kafka"} <= settings.docstrings(group).keys()


def test_the_command_reference_has_every_command_and_what_it_does() -> None:
    known = dict(commands.known_commands())
    assert {"stageline submit", "stageline kafka apply", "stageline workflows check-running"} <= known.keys()
    assert all(command.help for command in known.values())


def test_the_diagram_of_states_is_readable_and_complete() -> None:
    drawn = [line for line in states.diagram().splitlines() if "-->" in line]
    assert len(drawn) <= 12
    grouped = [state for _, members in states.GROUPS.values() for state in members]
    assert sorted(grouped) == sorted(BranchState)
    table = states.table_of_transitions()
    assert sum(len(row.split(",")) for row in _cells(table, 1) if row != "none") == len(BRANCH_TABLE)


def _cells(table: str, column: int) -> list[str]:
    return [line.strip("| ").split(" | ")[column] for line in table.splitlines()[2:]]
