"""TLS to PostgreSQL by the parameters of libpq, against a real server with a certificate of its own authority."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import trustme
from sqlalchemy import text
from sqlalchemy.engine import make_url

from shared.database.open import open_store
from shared.database.tls import tls_of
from shared.embedded.postgres import UNPRIVILEGED, EmbeddedPostgres
from shared.errors import Retry, Stop
from tests.eventually import eventually
from tests.servers import free_port

STRANGER = "stranger.pem"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, Path]]:
    """URL of a server that takes TLS alone, and the folder with its authority, `ca.pem`, and with another one's."""
    folder, authority, database = tmp_path_factory.mktemp("tls"), trustme.CA(), EmbeddedPostgres(free_port())
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / STRANGER)
    database.start()
    data = database.folder / "data"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(data / "server.crt")
    issued.private_key_pem.write_to_path(data / "server.key")
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    for name in ("server.crt", "server.key", "pg_hba.conf"):
        (data / name).chmod(0o600)
        if os.getuid() == 0:
            os.chown(data / name, UNPRIVILEGED, UNPRIVILEGED)
    connection = await asyncpg.connect(database.url.replace("+asyncpg", ""))
    await connection.execute("ALTER SYSTEM SET ssl = on")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()

    async def ready() -> bool:
        return await used(f"{database.url}?sslmode=require") is True

    await eventually(ready, 10)
    yield database.url, folder
    database.stop()


async def used(url: str) -> bool | str:
    """True when the connection is encrypted; the reason when there is none."""
    store = open_store(url)
    try:
        query = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(await store.read(lambda c: c.execute(query).scalar()))
    except (Retry, Stop) as error:
        return str(error)
    finally:
        await store.close()


async def test_each_mode_does_what_libpq_says(server: tuple[str, Path]) -> None:
    url, folder = server
    by_name = url.replace("127.0.0.1", "localhost")
    assert "no encryption" in str(await used(f"{url}?sslmode=disable"))
    for mode in ("prefer", "require", f"verify-ca&sslrootcert={folder}/ca.pem", f"verify-full&sslrootcert={folder}/ca.pem"):
        assert await used(f"{url}?sslmode={mode}") is True, mode
    assert await used(f"{by_name}?sslmode=verify-ca&sslrootcert={folder}/ca.pem") is True, "the name is not compared"
    for wrong in (
        f"{by_name}?sslmode=verify-full&sslrootcert={folder}/ca.pem",
        f"{url}?sslmode=verify-ca&sslrootcert={folder}/{STRANGER}",
        f"{url}?sslmode=verify-full",
    ):
        assert "certificate verify failed" in str(await used(wrong)).lower().replace("_", " "), wrong


@pytest.mark.parametrize(("query", "named"), [
    ("sslmode=sometimes", "sslmode is 'sometimes'"), ("sslrootcert=/x.pem", "sslmode is ''"),
    ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert=/nowhere/ca.pem"),
    ("sslmode=require&sslcert=/nowhere/own.pem", "sslcert=/nowhere/own.pem"),
])  # fmt: skip
def test_a_wrong_parameter_is_named(query: str, named: str) -> None:
    with pytest.raises(Stop, match="STAGELINE_DATABASE_URL") as refused:
        tls_of(make_url(f"postgresql+asyncpg://user@host/db?{query}"))
    assert named in str(refused.value)


def test_without_parameters_nothing_changes() -> None:
    url = make_url("postgresql+asyncpg://user@host/db?schema=ingest")
    assert tls_of(url) == (url, {})
