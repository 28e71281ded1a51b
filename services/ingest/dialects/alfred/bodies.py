"""Request bodies and example answers of Alfred's dialect. Unknown fields are ignored; the vendor's lenient spellings are
accepted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from contracts import JobRequest
from services.ingest.core.fields import Meta, Whole, WorkflowName

UUID_1 = "0f767925-b464-4ffa-b621-1a0aeacac256"
UUID_2 = "7d0c6b1e-6f37-4f0c-9a5b-0e7d8a1b2c3d"


_LOOSE = [{"type": "boolean"}, {"type": "string"}, {"type": "number"}]
Loose = Annotated[bool, WithJsonSchema({"anyOf": _LOOSE, "default": False})]
"""A boolean as the vendor's clients send it: also as text or a number."""
LooseCount = Annotated[int | None, WithJsonSchema({"anyOf": [*_LOOSE, {"type": "null"}]})]


def _choice(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class _JobFields(BaseModel):
    model_config = ConfigDict(extra="ignore")

    metadata: Meta = None
    propagate_metadata: Meta = None
    merge: Loose = False
    parent_file_prefix: str | None = Field(default=None, max_length=400)
    priority: Annotated[Literal["low", "normal", "high"], BeforeValidator(_choice)] = "normal"
    channel: str = Field(default="library", max_length=100)
    workflow: WorkflowName = Field(default="documents", description="Extension: the workflow to run")
    workflow_version: Whole | None = Field(default=None, ge=1, description="Extension: a version other than the newest")

    def job_request(self) -> JobRequest:
        """The request as the contract defines it. `merge` and `decompose` select a variant of the `documents` workflow."""
        fields = {k: v for k, v in self.model_dump().items() if k in JobRequest.model_fields}
        if self.workflow == "documents" and fields.get("merge"):
            fields |= {"workflow": "documents-merged", "workflow_version": None}
        elif self.workflow == "documents" and fields.get("decompose"):
            rotation = {"split": {"rotation": fields.get("page_rotation") or 0}}
            fields |= {"workflow": "documents-decomposed", "workflow_version": None, "args": rotation}
        return JobRequest(**fields)


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Path = Annotated[str, Field(min_length=1, max_length=1024)]


class _Remote(_JobFields):
    """Files in a container that the operator configured. The vendor's clients write the names with or without underscores."""

    source: str | None = Field(default=None, max_length=100)
    container: str | None = Field(default=None, max_length=100)
    file_names: Annotated[Annotated[list[Path], Field(max_length=100)] | Path | None, AfterValidator(_list)] = Field(
        default=None, validation_alias=AliasChoices("file_names", "filenames", "file_name", "filename")
    )


class JobCreate(_Remote):
    """A job from the files of a session. Only `session_id` is required."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"session_id": UUID_1, "metadata": {"case": "42"}}]}
    )

    session_id: str = Field(min_length=1, max_length=200)
    decompose: Loose = False
    page_rotation: LooseCount = None


class RemoteUpload(_Remote):
    """A job from remote files: `url`, or `urls`, or `container` with `file_names`."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"urls": ["https://example.com/files/invoice1.pdf"]}]}
    )

    url: str | None = Field(default=None, max_length=2048)
    urls: list[Annotated[str, Field(max_length=2048)]] | None = Field(default=None, max_length=100)


class Cancel(BaseModel):
    """Reason of a cancellation."""

    reason: str = Field(default="", max_length=1000)


def example(value: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """A 200 answer with an example."""
    return {200: {"content": {"application/json": {"example": value}}}}


def _error(status: int, title: str, message: str) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": title,
            "content": {"application/json": {"example": {"error": title, "message": message}}},
        }
    }


NOT_FOUND = _error(404, "Not Found", "Deferred Session with ID 456f1234-e89b-12d3-a456-426655440000 does not exist.")
CONFLICT = _error(409, "Conflict", f"Deferred Session with ID {UUID_1} is closed: job {UUID_2} was created from it.")
TOO_LARGE = _error(413, "Content Too Large", "the file is larger than the limit of 104857600 bytes")
UPLOAD_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "session_id"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "session_id": {"type": "string", "examples": [UUID_1]},
                        "metadata": {"type": "string", "description": "JSON text", "examples": ['{"case": "42"}']},
                    },
                }
            }
        },
    }
}


def file_entry(record: dict[str, Any]) -> dict[str, Any]:
    """A file as it appears in the list of a job or session."""
    names = (
        "id",
        "creation_date",
        "update_date",
        "file_name",
        "tag_name",
        "is_parent",
        "is_children",
        "status",
        "code",
        "message",
    )
    return {name: record[name] for name in names}
