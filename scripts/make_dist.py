"""`make dist`: build the wheels and source distributions, try them as a user would, and list what they bring (SBOM).

The wheel and its extra `embedded` go into an empty environment, at the versions of `requirements.lock`. From an empty folder
it starts the pipeline, hands in a document and stops. The CycloneDX list is made of that same environment. The wheels of the contracts and
of the kit go into another one, in which a worker that `stageline new worker` has made passes its test.
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


def build(target: Path) -> dict[str, Path]:
    """Write wheels and source distributions into `target`, alike for the same commit; package → its wheel."""
    committed = run("git", "log", "-1", "--format=%ct").strip()
    os.environ["SOURCE_DATE_EPOCH"] = committed
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("contracts", "stageline_kit"):  # copies: a build leaves its files beside the source
            shutil.copytree(
                ROOT / folder, Path(scratch) / folder, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
            )
        for source in (ROOT, Path(scratch) / "contracts", Path(scratch) / "stageline_kit"):
            uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", target, source)
    (target / ".gitignore").unlink(missing_ok=True)
    return {wheel.name.partition("-")[0]: wheel for wheel in target.glob("*.whl")}


def installed(lock: str, folder: Path, *requirements: str | Path) -> Path:
    """An empty environment with these requirements, at the versions of the lock file; its folder of programs."""
    uv("venv", "--quiet", "--python", sys.executable, folder)
    uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", ROOT / lock, *requirements)
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


def try_kit(stageline: Path, wheels: dict[str, Path], scratch: Path) -> None:
    """Make a worker, and run its test beside the kit's wheels alone. Ends the program when it fails."""
    print(run(stageline, "new", "worker", "tried-out", "--wheels", wheels["stageline_kit"].parent, cwd=scratch).rstrip())
    kit = wheels["stageline_contracts"], wheels["stageline_kit"], "pytest", scratch / "tried-out"
    programs = installed("requirements-dev.lock", scratch / "kit", *kit)
    print(run(programs / "python", "-m", "pytest", "-q", "tried-out", cwd=scratch).rstrip())


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
    wheels = build(target)
    wheel = wheels["stageline"]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        programs = installed("requirements.lock", place / "stageline", f"stageline[embedded] @ {wheel.as_uri()}")
        try_out(programs / "stageline", place / "empty")
        try_kit(programs / "stageline", wheels, place)
        tools = installed("requirements-sbom.lock", place / "tools", "cyclonedx-bom")
        list_contents(programs / "python", tools, target / f"{wheel.name.split('-py3')[0]}.cdx.json")
    for path in sorted(target.iterdir()):
        print(f"{path.stat().st_size >> 10:>6} KiB  {path}")


main()
