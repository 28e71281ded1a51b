"""A real PostgreSQL 17 for tests and trials: the portable build that zonky publishes on Maven Central.

Source: https://github.com/zonkyio/embedded-postgres-binaries (Apache-2.0; PostgreSQL licence inside).
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from shared.embedded.jars import ensure_jars, pinned
from shared.errors import Stop

MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}
UNPRIVILEGED = 65534
"""PostgreSQL refuses to run as root; then it runs as `nobody`."""


def unpack() -> Path:
    """Folder with `bin/postgres`, downloaded and unpacked once. Raises `Stop` when there is no build for this machine."""
    kind = MACHINES.get(platform.machine().lower())
    pins = [pin for pin in pinned("postgres.lock") if f"-linux-{kind}:" in pin[0]]
    if platform.system() != "Linux" or not pins:
        raise Stop("no_postgres", f"there is no portable PostgreSQL for {platform.system()} on {platform.machine()}")
    [jar] = ensure_jars(pins)
    # Not in the cache, because `nobody` cannot read a home directory.
    target = Path(tempfile.gettempdir()) / f"stageline-postgres-{pins[0][1][:16]}-{os.getuid()}"
    if not target.exists():
        part = Path(tempfile.mkdtemp(prefix="stageline-postgres-"))
        with zipfile.ZipFile(jar) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".txz"))
            with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r|xz") as tar:
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(part, filter="data")
                else:  # Python before 3.11.4 (Debian has 3.11.2) has no filters; the archive's hash is pinned
                    tar.extractall(part)
        part.chmod(0o755)
        try:
            part.rename(target)
        except OSError:
            shutil.rmtree(part)  # another process was first
    if target.stat().st_uid != os.getuid():
        raise Stop("not_ours", f"{target} belongs to somebody else")
    return target


class EmbeddedPostgres:
    """A server on the loopback `port`, with its data in a new temporary folder."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="stageline-pgdata-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the superuser on database `postgres`."""
        return f"postgresql+asyncpg://postgres:postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Initialise and start; returns when connections are accepted. Raises `Stop` with the end of the server's log."""
        home = unpack()
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            os.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
            as_user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
        password = self.folder.with_suffix(".pw")
        password.write_text("postgres")
        password.chmod(0o644)
        data = str(self.folder / "data")
        command = [str(home / "bin/initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--locale=C", "--no-sync"]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **as_user)
        password.unlink()
        if made.returncode != 0:
            raise Stop("initdb", (made.stderr.strip().splitlines() or ["initdb failed"])[-1])
        serve = [str(home / "bin/postgres"), "-D", data, "-p", str(self.port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        with self.folder.with_suffix(".log").open("wb") as out:
            # Less than the usual 128 MB, which a trial does not need.
            command = [*serve, "-c", "max_connections=200", "-c", "shared_buffers=48MB"]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder, **as_user)
        self._await_ready(home)

    def _await_ready(self, home: Path) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 30
        status = self.folder / "data" / "postmaster.pid"
        # Line 8 of the file is what pg_ctl itself waits for.
        while not status.exists() or "ready" not in (status.read_text().splitlines() + [""] * 8)[7]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Stop("postgres", f"PostgreSQL did not start: {self.folder.with_suffix('.log').read_text()[-500:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Fast shutdown; the data is removed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)
