"""The version of this release. `pyproject.toml`, the HTTP applications and telemetry read it here."""

VERSION = "0.3.0"
