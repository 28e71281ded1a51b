"""Watched folders: other programs write into them, and a fault of one file costs that file alone."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.ingest.adapters.store.object_claims import Claim
from services.ingest.adapters.store.reservations import OverLimit
from services.ingest.dialects.pdftools import folder_files
from services.ingest.dialects.pdftools.folder_files import Changed, Facts, OpenFile, Unfit, fitted, listed, write_atomically
from services.ingest.dialects.pdftools.watched_folders import WatchedFolder, WatchedFolders
from shared.errors import Retry
from shared.objects.object_store import open_objects


class Gateway:
    """What a watched folder needs of the gateway. `broken` names files whose commands are not accepted."""

    def __init__(self, folder: Path) -> None:
        self.objects = open_objects((folder / "objects").as_uri())
        self.settings = SimpleNamespace(max_file_bytes=1000)
        self.store = self.publisher = self.limits = self
        self.deletion_wake = asyncio.Event()
        self.full = False
        self.kept: set[str] = set()
        self.delivery_wake = asyncio.Event()
        self.created: list[Any] = []
        self.uploads = 0
        self.broken: set[str] = set()
        self._of = self.objects.of
        self.objects.of = self._counting  # type: ignore[method-assign]

    def _counting(self, tenant: str) -> Any:
        objects = self._of(tenant)
        announcing = objects.announcing

        def count(naming: Any) -> Any:
            self.uploads += 1
            return announcing(naming)

        objects.announcing = count  # type: ignore[method-assign]
        return objects

    async def record(self, table: str, record_id: str, tenant: str) -> None:
        return None

    async def transact(self, work: Any) -> Any:
        return Claim(True, True, True)

    async def reserve(self, tenant: str, places: Any, hold_s: float = 0.0) -> set[str]:
        if self.full:
            raise OverLimit("1 jobs are open, which is the limit.", 5)
        return {place.id for place in places}

    def claiming(self, tenant: str, file_id: str) -> Any:
        async def claim(blob: str, size: int) -> None:
            self.kept.add(blob)

        return self._of(tenant).announcing(claim)

    async def read(self, work: Any) -> list[Any]:
        return []  # no workflow is known here

    async def publish_command(self, topic: str, command: Any, trace: Any) -> None:
        if command.files[0].file_name in self.broken:
            raise Retry("kafka_unavailable", "an outage")
        self.created.append(command)

    @property
    def names(self) -> list[str]:
        return [command.files[0].file_name for command in self.created]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


class Folder:
    """One watched folder under a clock of its own."""

    def __init__(self, path: Path, gateway: Gateway) -> None:
        self.time = 0.0
        self.path = path
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        self.watched = WatchedFolders(gateway, {}, lambda: self.time)  # type: ignore[arg-type]

    def put(self, name: str | bytes, content: bytes = b"content", place: str = "in") -> Path:
        folder_files.prepare(self.path)
        path = self.path / place / os.fsdecode(name)
        path.write_bytes(content)
        return path

    async def scan(self, times: int = 2, seconds: float = 1.0) -> None:
        for _ in range(times):
            await self.watched.scan("scans", WatchedFolder(path=self.path))
            self.time += seconds

    def names(self, place: str) -> list[bytes]:
        return sorted(os.listdir(os.fsencode(self.path / place)))


@pytest.fixture
def folder(tmp_path: Path, gateway: Gateway) -> Folder:
    return Folder(tmp_path / "scans", gateway)


LATIN = "M\xfcller.pdf".encode("latin-1")


@pytest.mark.parametrize("place", ["in", "taken"])
async def test_a_latin_1_name_fails_alone(place: str, folder: Folder, gateway: Gateway) -> None:
    folder.put(LATIN if place == "in" else b"17-" + LATIN, place=place)
    folder.put("good.pdf")
    await folder.scan()
    assert gateway.names == ["good.pdf"] and folder.names("in") == []
    assert folder.names("failed") == sorted([LATIN, "M\ufffdller.pdf.log".encode()])
    assert "not UTF-8" in (folder.path / "failed" / "M\ufffdller.pdf.log").read_text()


async def test_the_same_file_has_the_same_job_after_a_restart(folder: Folder, gateway: Gateway) -> None:
    folder.put("Übersicht.pdf")
    await folder.scan()
    folder.watched = WatchedFolders(gateway, {}, lambda: folder.time)  # type: ignore[arg-type]
    await folder.scan(1)
    first, again = gateway.created
    assert (first.job_id, first.command_id) == (again.job_id, again.command_id) and gateway.names == ["Übersicht.pdf"] * 2


async def test_a_submitted_file_is_left_alone(folder: Folder, gateway: Gateway) -> None:
    folder.put("a.pdf")
    await folder.scan(20)
    assert gateway.names == ["a.pdf"] and gateway.uploads == 1


async def test_files_of_an_outage_are_tried_ever_less_often(folder: Folder, gateway: Gateway) -> None:
    gateway.broken = {"a.pdf"}
    folder.put("a.pdf")
    await folder.scan(60)
    assert gateway.uploads == 6, "after 1, 2, 4, 8, 16 s"
    folder.put("b.pdf")
    await folder.scan(3)
    assert gateway.names == ["b.pdf"], "another file does not wait for it"
    gateway.broken = set()
    await folder.scan(200)
    assert gateway.names == ["b.pdf", "a.pdf"]


async def test_a_file_without_rights_or_too_large_fails_alone(
    folder: Folder, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("large.pdf", b"x" * 1001)
    folder.put("locked.pdf")
    folder.put("good.pdf")
    real = os.open

    def opened(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("locked.pdf"):
            raise PermissionError(13, "Permission denied")  # root has every right, so it is played here
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", opened)
    await folder.scan()
    assert gateway.names == ["good.pdf"]
    assert folder.names("failed") == [b"large.pdf", b"large.pdf.log", b"locked.pdf", b"locked.pdf.log"]
    assert "no right" in (folder.path / "failed" / "locked.pdf.log").read_text()


async def test_long_names_are_taken_too(folder: Folder, gateway: Gateway) -> None:
    folder.put("ü" * 124 + "x.pdf")
    folder.put("b" * 255)
    await folder.scan()
    assert len(gateway.names) == 2 and gateway.names[1].endswith("ü.pdf") and folder.names("in") == []
    assert all(len(name) <= 255 for name in folder.names("taken"))


async def test_links_pipes_and_folders_are_not_opened(folder: Folder, gateway: Gateway, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    places = folder_files.prepare(folder.path)
    for place in ("in", "taken"):
        (places[place] / "1-link.pdf").symlink_to(secret)
        os.mkfifo(places[place] / "2-pipe.pdf")
        (places[place] / "3-folder.pdf").mkdir()
    await folder.scan(3)
    assert gateway.created == [] and gateway.uploads == 0


async def test_what_is_opened_is_what_was_listed(tmp_path: Path) -> None:
    path, secret = tmp_path / "a.pdf", tmp_path / "secret"
    path.write_bytes(b"content")
    secret.write_bytes(b"another")
    [facts] = listed(tmp_path / ".." / tmp_path.name, [tmp_path / ".." / tmp_path.name / "secret"]).values()
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        OpenFile(path, facts)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Changed):
        OpenFile(path, facts)
    path.unlink()
    secret.rename(path)
    with pytest.raises(Changed):
        OpenFile(path, facts)


@pytest.mark.parametrize("change", ["longer", "shorter", "other bytes"])
async def test_a_file_that_changes_while_it_is_read_is_not_taken(change: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"x" * 3_000_000)
    opened = OpenFile(path, Facts.of(path.stat()))
    with pytest.raises(Changed):
        async for _ in opened.chunks():
            if change == "longer":
                with path.open("ab") as stream:
                    stream.write(b"more")
            elif change == "shorter":
                os.truncate(path, 2_000_000)
            else:
                path.write_bytes(b"y" * 3_000_000)
    opened.close()


async def test_results_do_not_follow_links_and_have_the_rights_of_their_folder(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("untouched")
    for mode in (0o755, 0o2770, 0o700):
        out.mkdir()
        out.chmod(mode)
        (out / ".a.pdf.part").symlink_to(victim)
        (out / "a.pdf").symlink_to(victim)
        await write_atomically(out / "a.pdf", b"made")
        assert victim.read_text() == "untouched" and (out / "a.pdf").read_bytes() == b"made"
        assert stat.S_IMODE((out / "a.pdf").lstat().st_mode) == mode & 0o666
        for path in out.iterdir():
            path.unlink()
        out.rmdir()


def test_places_have_the_rights_of_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    folder.chmod(0o2775)
    before = os.umask(0o077)
    try:
        places = folder_files.prepare(folder)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(place.stat().st_mode) for place in places.values()} == {0o2775}


@pytest.mark.parametrize(
    ("name", "suffix", "room", "made"),
    [("a.pdf", "", 255, "a.pdf"), ("a.pdf", ".log", 255, "a.pdf.log"), ("abcdef.pdf", "", 8, "abcd.pdf"), ("abcdef", ".log", 8, "abcd.log"),
     ("üüü.pdf", "", 9, "üü.pdf"), ("üüü.pdf", "", 8, "üü.pdf"), (".pdf", "", 3, ".pd"), ("a" * 300, "", 255, "a" * 255)],
)  # fmt: skip
def test_names_fit(name: str, suffix: str, room: int, made: str) -> None:
    assert fitted(name, suffix, room) == made


def test_unfit_says_why() -> None:
    with pytest.raises(Unfit, match="UTF-8"):
        folder_files.readable_name(Path(os.fsdecode(LATIN)))


async def test_a_full_quota_delays_a_file_and_loses_nothing(folder: Folder, gateway: Gateway) -> None:
    folder.put("a.pdf")
    gateway.full = True
    await folder.scan()
    await folder.scan()
    assert gateway.created == [] and gateway.uploads == 0
    gateway.full = False
    folder.time += 60.0
    await folder.scan()
    assert gateway.names == ["a.pdf"]
    [command] = gateway.created
    assert {a["options_blob"] for a in command.job.args.values()} == gateway.kept, "no deletion may take the options"
