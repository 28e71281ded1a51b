"""`make dist`: build the wheel and the source distribution, try the wheel as a user would, and list what it brings (SBOM).

The wheel and its extra `embedded` go into an empty environment, at the versions of `requirements.lock`. From an empty folder
it starts the pipeline, hands in a document and stops. The CycloneDX list is made of that same environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "samples" / "documents" / "invoice-acme-2026-0042.pdf"


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command without this program's own Python settings; its standard output. Ends the program when it fails."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "STAGELINE_DATA_DIR")
    }
    done = subprocess.run([*map(str, command)], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def uv(*arguments: str | Path) -> str:
    """Run uv, which the development environment holds."""
    program = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    return run(program or "uv", *arguments)


def build(target: Path) -> Path:
    """Write wheel and source distribution into `target`, alike for the same commit; the wheel's path."""
    committed = run("git", "log", "-1", "--format=%ct").strip()
    os.environ["SOURCE_DATE_EPOCH"] = committed
    uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", target, ROOT)
    (target / ".gitignore").unlink(missing_ok=True)
    [wheel] = target.glob("stageline-*.whl")
    return wheel


def installed(requirement: str, lock: str, folder: Path) -> Path:
    """An empty environment with one requirement, at the versions of the lock file; its folder of programs."""
    uv("venv", "--quiet", "--python", sys.executable, folder)
    uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", ROOT / lock, requirement)
    return folder / "bin"


def try_out(stageline: Path, folder: Path) -> None:
    """Start the pipeline from an empty folder, hand in a document and stop. Ends the program when the job does not complete."""
    folder.mkdir()
    run(stageline, "--help", cwd=folder)
    print(run(stageline, "up", "--port", "0", "--kafka-port", "0", "--detach", cwd=folder).rstrip())
    try:
        print(run(stageline, "submit", DOCUMENT, "--watch", cwd=folder).rstrip())
    finally:
        print(run(stageline, "down", cwd=folder).rstrip())


def list_contents(python: Path, tools: Path, target: Path) -> None:
    """Write the CycloneDX list of an environment, alike for the same environment."""
    run(
        tools / "cyclonedx-py", "environment", "--output-reproducible", "--pyproject", ROOT / "pyproject.toml",
        "--output-file", target, python,
    )  # fmt: skip


def main() -> None:
    """Do all of it; the arguments are those of `make dist`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go; its former contents are deleted")
    target = parser.parse_args().out.resolve()
    shutil.rmtree(target, ignore_errors=True)
    wheel = build(target)
    with tempfile.TemporaryDirectory() as scratch:
        programs = installed(f"stageline[embedded] @ {wheel.as_uri()}", "requirements.lock", Path(scratch) / "stageline")
        try_out(programs / "stageline", Path(scratch) / "empty")
        tools = installed("cyclonedx-bom", "requirements-sbom.lock", Path(scratch) / "tools")
        list_contents(programs / "python", tools, target / f"{wheel.name.split('-py3')[0]}.cdx.json")
    for path in sorted(target.iterdir()):
        print(f"{path.stat().st_size >> 10:>6} KiB  {path}")


main()
