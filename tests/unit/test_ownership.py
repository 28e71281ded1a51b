"""Names of objects: judged at one place, and every method that takes a name asks it."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore, S3Store

from contracts.ownership import foreign_object, is_tenant, object_names, owns
from shared.objects.object_store import ForeignObject, Objects, TenantObjects, open_objects

TRICKS = (
    "b/ab/x", "a", "a/", "/a/x", "a//x", "a/./x", "a/../b/x", "../b/x", "a/..", "ab/x", "A/x", "a\\..\\b\\x", "a/%2e%2e/b/x", "a%2fx", "a/x\n",
    "incoming/b/x", "incoming/a", "incoming/../a/x", "incoming/incoming/a/x", "incoming/x", "", "a/" + "x" * 400,
)  # fmt: skip
TENANTS = ("a", "acme-1", "Société", "a b", "t.1", "...")
NO_TENANTS = ("", ".", "..", "a/b", "/", "a\\b", "incoming", "Incoming", "a%2fb", "a\n", "\x00", "x" * 201)
OTHERS = {"name": "b/ab/x", "data": b"x", "valid": timedelta(seconds=1), "sha256": None, "part": None}


@pytest.mark.parametrize("name", TRICKS)
def test_what_is_not_the_tenants(name: str) -> None:
    assert not owns("a", name)


@pytest.mark.parametrize("tenant", TENANTS)
def test_what_is_the_tenants(tenant: str) -> None:
    assert is_tenant(tenant) and owns(tenant, f"{tenant}/ab/x") and owns(tenant, f"incoming/{tenant}/up/0001")
    assert not any(owns(other, f"{tenant}/ab/x") for other in TENANTS if other != tenant)


@pytest.mark.parametrize("tenant", NO_TENANTS)
def test_a_tenant_that_no_name_can_begin_with_owns_nothing(tenant: str) -> None:
    assert not is_tenant(tenant) and not owns(tenant, f"{tenant}/ab/x")
    with pytest.raises(ForeignObject):
        Objects(MemoryStore()).of(tenant)


def taking_a_name() -> list[str]:
    found = inspect.getmembers(TenantObjects, inspect.isfunction)
    return [n for n, f in found if not n.startswith("_") and "name" in inspect.signature(f).parameters]


def test_every_method_on_a_name_is_known() -> None:
    assert set(taking_a_name()) == {
        "delete_object", "get_object", "object_size", "owned", "presigned_put_url", "put_named", "stream_object",
    }  # fmt: skip
    public = {n for n, _ in inspect.getmembers(Objects, inspect.isfunction) if not n.startswith("_")}
    assert public == {"of", "delete_unneeded", "written_at", "stale_pages", "delete_torn"}, (
        "a method that takes a caller's name belongs to TenantObjects"
    )


def test_nobody_else_opens_an_object_store() -> None:
    root = Path(__file__).parents[2]
    sources = [p for folder in ("services", "cli", "stageline_kit", "shared") for p in (root / folder).rglob("*.py")]
    found = {str(p.relative_to(root)) for p in sources if re.search(r"^\s*(import|from) obstore", p.read_text(), re.M)}
    # Containers are read by the worker, by configuration of the operator and per tenant.
    assert found == {
        "shared/objects/access.py",
        "shared/objects/object_store.py",
        "shared/objects/verified_reads.py",
        "shared/objects/containers.py",
        "services/stage_worker/adapters/downloads.py",
    }


def test_the_worker_stores_for_a_job_alone() -> None:
    """Equal content of two jobs is two objects: the erasure of one job takes nothing from the other."""
    root = Path(__file__).parents[2] / "services" / "stage_worker"
    asked = [found for p in root.rglob("*.py") for found in re.findall(r"objects\.of\(([^)]*)\)", p.read_text())]
    assert asked and {a.split(", ")[-1].rpartition(".")[2] for a in asked} == {"job_id"}


def test_the_gateway_claims_an_object_before_it_stores_it() -> None:
    """By `Admission.objects` or `Gateway.claiming`: an object that is stored first may be deleted before it is claimed."""
    root = Path(__file__).parents[2] / "services" / "ingest"
    stored = re.compile(
        r"objects\.of\([^)]*\)\s*\.(?:put_object|put_stream|put_json|stage_stream|commit_staged)|receive\(\s*request, gateway"
    )
    assert [str(p) for p in root.rglob("*.py") if stored.search(p.read_text())] == []


@pytest.mark.parametrize("method", taking_a_name())
@pytest.mark.parametrize("name", ["b/ab/x", "a/../b/ab/x", "incoming/b/ab/x"])
async def test_every_method_refuses_another_tenants_name(method: str, name: str, tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    await objects.of("b").put_named("b/ab/x", b"secret")
    if method == "presigned_put_url":
        objects = Objects(S3Store("bucket", config={"access_key_id": "x", "secret_access_key": "x", "region": "x"}))
    function = getattr(objects.of("a"), method)
    wanted = {n: OTHERS[n] for n, p in inspect.signature(function).parameters.items() if p.default is inspect.Parameter.empty}
    with pytest.raises(ForeignObject):
        found: Any = function(**{**wanted, "name": name})
        await found
    assert (tmp_path / "b/ab/x").read_bytes() == b"secret"


async def test_a_tenant_reads_what_it_stored(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    stored = await objects.of("a").put_object(b"mine")
    assert await objects.of("a").get_object(stored.name) == b"mine"
    assert obstore.list(objects.store) is not None


def test_names_are_found_at_any_depth() -> None:
    value = {"text_blob": "a/1", "outputs": [{"blob_name": "a/2"}], "tag": {"x_blob": "b/3"}, "empty_blob": "", "none_blob": None}
    assert sorted(object_names(value)) == ["a/1", "a/2", "b/3"]
    assert foreign_object("a", value) == "tag.x_blob"
    assert foreign_object("a", {"list": [{"x_blob": ["a/1"]}]}) == "list.0.x_blob", "a name is a text"
