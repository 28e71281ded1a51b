"""What a user installs: the wheel, in an empty environment and from an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def tracked(*patterns: str) -> set[str]:
    """Files of the repository by glob patterns."""
    return set(
        subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_dist_builds_a_wheel_that_starts_the_pipeline(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_dist.py"), "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed  1/1 files" in done.stdout and "stopped;" in done.stdout
    name = f"stageline-{VERSION}"
    built = {
        f"{package}-{VERSION}{end}"
        for package in ("stageline", "stageline_contracts", "stageline_kit")
        for end in ("-py3-none-any.whl", ".tar.gz")
    }
    assert {p.name for p in tmp_path.iterdir()} == {*built, f"{name}.cdx.json"}
    assert done.stdout.index("made tried-out") < done.stdout.index("2 passed"), (
        "a made worker passes its test beside the kit's wheels"
    )

    packages = [f"{package}/**" for package in ("contracts", "shared", "services", "cli", "stageline_kit")]
    needed = {p for p in tracked(*packages) if Path(p).suffix in (".py", ".yaml", ".lock") or p.startswith("contracts/schemas/")}
    wheel = set(zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl").namelist())
    assert needed <= wheel, needed - wheel
    assert not {p for p in wheel if p.startswith(("tests/", "benchmarks/")) or "/build/" in p}
    with tarfile.open(tmp_path / f"{name}.tar.gz") as source:
        assert {f"{name}/{p}" for p in needed} <= set(source.getnames())

    contents = json.loads((tmp_path / f"{name}.cdx.json").read_text())
    assert contents["bomFormat"] == "CycloneDX"
    root = contents["metadata"]["component"]
    assert (root["name"], root["version"]) == ("stageline", VERSION)
    assert {"aiokafka", "pydantic", "jgo"} <= {c["name"] for c in contents["components"]}
