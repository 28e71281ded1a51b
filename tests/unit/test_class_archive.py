"""The class archive: complete ones only, and only for the Java and the jars that made them."""

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


def test_the_next_broker_uses_the_archive_of_the_last(java: Path, tmp_path: Path) -> None:
    first = ClassArchive(java, 17, JARS, tmp_path)
    assert first.reading() == [] and f"-XX:ArchiveClassesAtExit={first.made}" in first.writing()
    first.keep()
    assert first.kept() is None, "nothing was written, nothing is kept"
    first.made.write_bytes(b"classes")
    first.keep()
    second = ClassArchive(java, 17, JARS, tmp_path / "other")
    second.made.parent.mkdir()
    kept = second.kept()
    assert kept is not None and f"-XX:SharedArchiveFile={kept}" in second.writing() == second.reading()
    assert kept.read_bytes() == b"classes" and not first.made.exists()
    kept.write_bytes(b"class")
    assert second.reading() == [], "an archive that was cut off is none"
    second.made.write_bytes(b"classes")
    second.keep()
    assert first.kept() == kept


def test_another_java_or_other_jars_have_another_archive(java: Path, tmp_path: Path) -> None:
    one = ClassArchive(java, 17, JARS, tmp_path).key
    assert ClassArchive(java, 17, JARS, tmp_path).key == one
    assert ClassArchive(java, 17, JARS[::-1], tmp_path).key != one
    os.utime(java, ns=(1, 1))
    assert ClassArchive(java, 17, JARS, tmp_path).key != one


def test_java_25_uses_an_aot_cache(java: Path, tmp_path: Path) -> None:
    archive = ClassArchive(java, 25, JARS, tmp_path)
    assert f"-XX:AOTCacheOutput={archive.made}" in archive.writing()
    archive.made.write_bytes(b"classes")
    archive.keep()
    assert f"-XX:AOTCache={archive.kept()}" in archive.reading()


def test_the_file_of_a_killed_broker_is_not_used(java: Path, tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, 1, 2)
    broker.ended(0)  # never prepared
    broker.classes = archive = ClassArchive(java, 17, JARS, tmp_path)
    archive.made.write_bytes(b"half")
    broker.ended(-9)
    assert archive.kept() is None
    archive.writing()
    assert not archive.made.exists(), "the next broker writes a new archive"
    archive.made.write_bytes(b"whole")
    broker.ended(143)
    kept = archive.kept()
    assert kept is not None and kept.read_bytes() == b"whole"


def test_a_full_disk_leaves_no_archive(java: Path, tmp_path: Path) -> None:
    archive = ClassArchive(java, 17, JARS, tmp_path)
    archive.made.write_bytes(b"classes")
    archive.cache.rmdir()
    archive.keep()
    assert not archive.made.exists() and archive.reading() == []
