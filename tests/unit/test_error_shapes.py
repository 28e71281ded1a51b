"""No error answer names a path of the server, in any dialect."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from services.ingest.http.errors import Unprocessable, _invopop, shaped
from services.notifier.adapters.http import problem

SAID = "the object cannot be read: [Errno 13] Permission denied: '/var/lib/stageline/objects/default/3d/a b'"


def asked(path: str) -> Request:
    """A request for `path`."""
    return Request(
        {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "server": ("localhost", 80)}
    )


@pytest.mark.parametrize(
    "path",
    [
        "/api/file/detail/x",
        "/token",
        "/v1/files/x",
        "/v1/uploads/x",
        "/transform/v1/jobs/x",
        "/silo/v1/entries",
        "/conversion/v1.0/rest/jobs",
    ],
)
@pytest.mark.parametrize("shape", [shaped, problem])
def test_a_path_of_the_server_is_in_no_answer(path: str, shape: object) -> None:
    body = shape(asked(path), 500, "object_damaged", SAID, "file").body.decode()  # type: ignore[operator]
    assert "/var/lib" not in body and "[path]" in body and "Permission denied" in body


def test_nor_in_the_reasons_of_several_fields() -> None:
    error = Unprocessable({"steps.0.config": SAID})
    body = _invopop(error.status, error.code, error.message, error.fields).body.decode()
    assert "/var/lib" not in body and body.count("[path]") == 2
