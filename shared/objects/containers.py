"""Containers: object stores that documents may be read from (Alfred's remote sources), configured by the operator.

A caller names a container and a path, never a URL. The gateway knows the names, the worker has the credentials; tasks carry
`container://NAME/path`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from obstore.store import ObjectStore, from_url
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import Stop

SCHEME = "container://"
_PATH = re.compile(r"[^\x00-\x1f\\]{1,1024}")


class Container(BaseModel):
    """One container. `url` as `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///…`; `options` are obstore's, such as credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["aws", "gcp", "azure", "local"]
    url: str = Field(min_length=1)
    tenants: tuple[str, ...] = ()
    """Tenants that may read from it; `*` for all. By default none."""
    options: dict[str, str] = Field(default_factory=dict)
    allow_http: bool = False
    """Allow plain HTTP, for a server in a closed network."""

    def open_to(self, tenant: str) -> bool:
        """True when this tenant may read from it."""
        return tenant in self.tenants or "*" in self.tenants

    def store(self) -> ObjectStore:
        """Open the object store. Raises `ValueError` when obstore does not accept the URL or an option."""
        over_http: dict[str, Any] = {"client_options": {"allow_http": True}} if self.allow_http else {}
        try:
            return from_url(self.url, **self.options, **over_http)  # type: ignore[call-overload, no-any-return]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - obstore panics on an unknown option, and its panic is no Exception
            raise ValueError(str(error)) from None


Containers = dict[str, Container]
_READER = TypeAdapter(Containers)


def read_containers(path: Path | None) -> Containers:
    """Containers of a JSON file by name, each opened once; none without a file. Raises `Stop` naming the container and the reason."""
    if path is None:
        return {}
    try:
        containers = _READER.validate_python(json.loads(path.read_text()))
    except (OSError, ValueError, ValidationError) as error:
        raise Stop("containers_file", f"{path}: {error}") from error
    for name, container in containers.items():
        try:
            container.store()
        except ValueError as error:
            raise Stop("containers_file", f"{path}: {name}: {error}") from None
    return containers


def container_url(name: str, path: str) -> str:
    """The address of a container's file, `container://NAME/path`. Raises `ValueError` for a path that leaves the container."""
    if not _PATH.fullmatch(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a path inside the container is expected, without empty, . or .. parts")
    return f"{SCHEME}{name}/{path}"


def parse_container_url(url: str) -> tuple[str, str]:
    """Container and path of a `container_url`. Raises `ValueError` for another address."""
    name, _, path = url.removeprefix(SCHEME).partition("/")
    container_url(name, path)
    return name, path
