"""Unfinished objects of killed processes in a local store: kept apart from complete ones, and deleted later."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from contracts.ownership import CONTENT
from shared import clock
from shared.errors import Retry
from shared.objects.object_store import open_objects
from shared.objects.verified_reads import ObjectDamaged


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


class Killed(BaseException):
    """Simulates the end of the process."""


async def test_an_object_gets_its_name_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_objects(f"file://{tmp_path}")

    async def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(obstore, "rename_async", killed)
        await objects.of("acme").put_object(b"result")
    assert all(name.startswith("incoming/") for name in files(tmp_path))
    stored = await objects.of("acme").put_object(b"result")
    assert await objects.of("acme").get_object(stored.name, stored.sha256) == b"result"


async def test_only_old_unfinished_files_are_deleted(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    assert await objects.delete_torn(clock.now()) == 0, "the folder may not exist yet"
    names = ["incoming/a#1", "incoming/acme/b#12", "incoming/c", "incoming/d#1", "acme/e#1"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    old = (clock.now() - timedelta(days=2)).timestamp()
    for name in names[:3]:
        os.utime(tmp_path / name, (old, old))
    assert await objects.delete_torn(clock.now() - timedelta(days=1)) == 2
    assert files(tmp_path) == set(names[2:])


async def test_the_names_of_a_tenant_are_its_own(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    assert await objects.of("acme").list_names(10) == []
    names = {(await objects.of("acme").put_object(bytes([n]) * 9)).name for n in range(5)}
    await objects.of("acme-2").put_object(b"of another")
    await objects.of("acme").put_named("incoming/acme/part", b"half")
    assert set(await objects.of("acme").list_names(100)) == {*names, "incoming/acme/part"}
    assert len(await objects.of("acme").list_names(3)) == 3


async def test_equal_content_of_two_jobs_is_two_objects(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    one, other, uploaded = [await objects.of("acme", job).put_object(b"the same page") for job in ("job-1", "job-2", None)]
    assert len({one.name, other.name, uploaded.name}) == 3
    assert (await objects.of("acme", "job-1").put_object(b"the same page")).name == one.name, "a retry stores it where it was"
    for stored in (one, other, uploaded):
        found = CONTENT.fullmatch(stored.name)
        assert found is not None and found["sha256"] == stored.sha256
    await objects.of("acme").delete_object(one.name)
    assert await objects.of("acme").get_object(other.name) == b"the same page"
    (tmp_path / other.name).write_bytes(b"another page")
    with pytest.raises(ObjectDamaged):
        await objects.of("acme").get_object(other.name)


def test_a_store_whose_folder_cannot_be_made_is_away(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("in the way")
    with pytest.raises(Retry, match="objects"):
        open_objects(f"file://{tmp_path / 'objects'}")
