"""What a broker keeps of its classes: only whole archives, only for the Java and jars that they were made with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.embedded.classes import ClassArchive
from shared.embedded.kafka import EmbeddedKafka

JARS = [Path("/jars/a.jar"), Path("/jars/b.jar")]


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAGELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "kafka").mkdir(parents=True)
    program = tmp_path / "java"
    program.touch()
    return program


def test_what_a_broker_wrote_is_used_by_the_next(java: Path, tmp_path: Path) -> None:
    first = ClassArchive(java, 17, JARS, tmp_path)
    assert first.reading() == [] and f"-XX:ArchiveClassesAtExit={first.made}" in first.writing()
    first.keep()
    assert not first.path.exists(), "nothing was written, nothing is kept"
    first.made.write_bytes(b"classes")
    first.keep()
    second = ClassArchive(java, 17, JARS, tmp_path / "elsewhere")
    assert f"-XX:SharedArchiveFile={first.path}" in second.writing() == second.reading()
    assert first.path.read_bytes() == b"classes" and not first.made.exists()


def test_another_java_or_other_jars_have_another_archive(java: Path, tmp_path: Path) -> None:
    one = ClassArchive(java, 17, JARS, tmp_path).path
    assert ClassArchive(java, 17, JARS, tmp_path).path == one
    assert ClassArchive(java, 17, JARS[::-1], tmp_path).path != one
    os.utime(java, ns=(1, 1))
    assert ClassArchive(java, 17, JARS, tmp_path).path != one


def test_a_newer_java_has_a_way_of_its_own(java: Path, tmp_path: Path) -> None:
    archive = ClassArchive(java, 25, JARS, tmp_path)
    assert f"-XX:AOTCacheOutput={archive.made}" in archive.writing()
    archive.path.touch()
    assert f"-XX:AOTCache={archive.path}" in archive.reading()


def test_what_a_killed_broker_left_is_never_taken_for_whole(java: Path, tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, 1, 2)
    broker.ended(0)  # never prepared
    broker.classes = archive = ClassArchive(java, 17, JARS, tmp_path)
    archive.made.write_bytes(b"half")
    broker.ended(-9)
    assert not archive.path.exists()
    archive.writing()
    assert not archive.made.exists(), "the next broker begins anew"
    archive.made.write_bytes(b"whole")
    broker.ended(143)
    assert archive.path.read_bytes() == b"whole"


def test_a_cache_without_room_is_done_without(java: Path, tmp_path: Path) -> None:
    archive = ClassArchive(java, 17, JARS, tmp_path)
    archive.made.write_bytes(b"classes")
    (archive.path.parent).rmdir()
    archive.keep()
    assert not archive.made.exists() and archive.reading() == []
