"""Tenants, users, keys and applications on the command line: each is made, listed and taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import clock
from tests.conftest import Pipeline

pytestmark = pytest.mark.kafka


@pytest.fixture
def tenant(pipeline: Pipeline) -> Iterator[str]:
    made = f"t-{clock.new_root()}"
    done = pipeline.command("tenants", "create", made, "--name", "Acme", "--quota", "jobs_open=7", "--json")
    assert json.loads(done.stdout)["quotas"]["jobs_open"] == 7, done.stderr
    yield made
    assert pipeline.command("tenants", "revoke", made, "--yes").returncode == 0


def found(pipeline: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(pipeline.command(*arguments, "--json").stdout)
    return listed


def test_a_key(pipeline: Pipeline, tenant: str) -> None:
    done = pipeline.command("keys", "create", "--user", "billing", "--role", "reader", "--tenant", tenant)
    key_id, _, key = done.stdout.strip().partition("\nkey: ")
    assert key.startswith("sl_"), done.stderr
    assert [k["key_id"] for k in found(pipeline, "keys", "list", "--tenant", tenant)] == [key_id]
    plain = pipeline.command("keys", "list", "--tenant", tenant).stdout
    assert key_id in plain and "billing" in plain and key not in plain, "the key is shown once"
    theirs = Pipeline(pipeline.data_dir, environment={**pipeline.environment, "STAGELINE_KEY": key})
    assert theirs.command("jobs").returncode == 0 and theirs.command("keys", "list").returncode == 5, "a reader lists no keys"
    assert pipeline.command("keys", "revoke", key_id).returncode == 0
    assert theirs.command("jobs").returncode == 5 and found(pipeline, "keys", "list", "--tenant", tenant) == []


def test_a_user(pipeline: Pipeline, tmp_path: Path) -> None:
    user, password = f"ann-{clock.new_root()}", tmp_path / "password"
    password.write_text("correct horse battery\n")
    done = pipeline.command("users", "create", user, "--role", "reader", "--right", "share", "--password-file", str(password))
    assert done.stdout == f"{user}: reader\n", done.stderr
    assert {"user_name": user, "role": "reader", "rights": ["share"], "disabled": False} in found(pipeline, "users", "list")
    assert pipeline.command("users", "create", user, "--keep-password", "--disabled").returncode == 0
    assert "disabled" in pipeline.command("users", "list").stdout
    assert pipeline.command("users", "revoke", user).returncode == 0
    assert user not in [u["user_name"] for u in found(pipeline, "users", "list")]


def test_an_application(pipeline: Pipeline) -> None:
    done = pipeline.command("applications", "create", "--user", "sdk", "--json")
    made = json.loads(done.stdout)
    assert made["secret_key"] in [a["secret_key"] for a in found(pipeline, "applications", "list")]
    plain = pipeline.command("applications", "list").stdout
    assert made["secret_key"] in plain and made["api_key"] not in plain
    assert pipeline.command("applications", "revoke", made["secret_key"]).returncode == 0
    assert made["secret_key"] not in pipeline.command("applications", "list").stdout


def test_a_tenant(pipeline: Pipeline, tenant: str) -> None:
    listed = {t["tenant_id"]: t for t in found(pipeline, "tenants", "list")}
    assert listed[tenant]["name"] == "Acme" and "jobs_open=7" in pipeline.command("tenants", "list").stdout
    asked = pipeline.command("tenants", "revoke", tenant)
    assert asked.returncode == 2 and "--yes" in asked.stderr, "nothing is erased without a word"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("keys", "revoke", "ab" * 32), 4), (("users", "revoke", "nobody"), 4), (("applications", "revoke", "app_none"), 4),
        (("tenants", "revoke", "default", "--yes"), 5), (("keys", "create", "--user", "x", "--expires-at", "2001-01-01T00:00:00Z"), 2),
        (("keys", "create", "--user", "x", "--expires-at", "soon"), 2), (("keys", "create"), 2), (("keys", "create", "--user", "x", "--role", "boss"), 2),
        (("tenants", "create", "acme", "--quota", "many"), 2), (("tenants", "create", "a b"), 2), (("users", "create", "x", "--password-file", "/none"), 2),
        (("users", "create", "nobody", "--keep-password"), 2),
    ],
)  # fmt: skip
def test_exit_codes(pipeline: Pipeline, arguments: tuple[str, ...], code: int) -> None:
    done = pipeline.command(*arguments)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
