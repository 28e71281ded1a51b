"""Request bodies and example answers of Alfred's dialect. Unknown fields are ignored; the vendor's lenient spellings are
accepted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, to_json

from contracts import JobRequest
from contracts.loose import check_metadata
from services.ingest.core.fields import Id, Meta, Whole, WorkflowName

UUID_1 = "0f767925-b464-4ffa-b621-1a0aeacac256"
UUID_2 = "7d0c6b1e-6f37-4f0c-9a5b-0e7d8a1b2c3d"


_LOOSE = [{"type": "boolean"}, {"type": "string"}, {"type": "number"}]
Loose = Annotated[bool, WithJsonSchema({"anyOf": _LOOSE, "default": False})]
"""A boolean as the vendor's clients send it: also as text or a number."""


def _right_angle(value: int | None) -> int | None:
    if value is not None and (value % 90 or abs(value) > 360):
        raise ValueError("a multiple of 90 degrees from -360 to 360 is expected")
    return value


Rotation = Annotated[int | None, AfterValidator(_right_angle), WithJsonSchema({"anyOf": _LOOSE})]
PRIORITIES = ("low", "normal", "high")
"""In the order of the .NET client's enumeration, whose numbers begin with 0."""


def _choice(value: Any) -> Any:
    if isinstance(value, (int, str)) and not isinstance(value, bool) and str(value).strip() in ("0", "1", "2"):
        return PRIORITIES[int(value)]
    return value.lower() if isinstance(value, str) else value


_PRIORITY = {"anyOf": [{"enum": [*PRIORITIES, 0, 1, 2]}, {"type": "string"}], "default": "normal"}
Priority = Annotated[Literal["low", "normal", "high"], BeforeValidator(_choice), WithJsonSchema(_PRIORITY)]
"""A priority by name, in any case, or by number."""


def _flag(value: Any) -> Any:
    # As for `merge`, a boolean may come as text. Other text is metadata.
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


Propagated = Annotated[
    Annotated[bool, Strict()] | dict[str, Any] | list[Any] | str | None, BeforeValidator(check_metadata), BeforeValidator(_flag),
    Field(description="`true` gives the job's metadata to each of its files. An object is given to each file itself."),
]  # fmt: skip
MAX_PROPAGATED_BYTES = 8192
"""Most bytes of metadata that every file of a session may get: a session may have thousands of files."""


class _Lenient(BaseModel):
    """A body whose optional members may be null: typed clients send every member, also one that is not set."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core))
        for name, member in schema.get("properties", {}).items():
            kinds = member.get("anyOf", [])
            if name not in schema.get("required", ()) and {"type": "null"} not in kinds:
                about = {key: member.pop(key) for key in ("title", "description", "default") if key in member}
                schema["properties"][name] = {"anyOf": [*(kinds or [member]), {"type": "null"}], **about}
        return schema


class _JobFields(_Lenient):
    metadata: Meta = None
    propagate_metadata: Propagated = Field(default=None, validation_alias=AliasChoices("propagate_metadata", "propagateMetadata"))
    merge: Loose = False
    parent_file_prefix: str | None = Field(
        default=None, max_length=400, validation_alias=AliasChoices("parent_file_prefix", "parentFilePrefix")
    )
    priority: Priority = "normal"
    channel: str = Field(default="library", max_length=100)
    workflow: WorkflowName = Field(default="documents", description="Extension: the workflow to run")
    workflow_version: Whole | None = Field(default=None, ge=1, description="Extension: a version other than the newest")

    def for_each_file(self) -> Any:
        """The metadata that each file gets; None when the job's metadata is not for its files."""
        if self.propagate_metadata is True:
            return self.metadata if isinstance(self.metadata, (dict, str)) else {}
        return None if self.propagate_metadata is False else self.propagate_metadata

    def job_request(self) -> JobRequest:
        """The request as the contract defines it. `merge` and `decompose` select a variant of the `documents` workflow."""
        fields = {k: v for k, v in self.model_dump().items() if k in JobRequest.model_fields}
        fields["propagate_metadata"] = self.for_each_file()
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

    session_id: Id = Field(min_length=1)
    decompose: Loose = False
    page_rotation: Rotation = None

    @field_validator("propagate_metadata")
    @classmethod
    def _small_enough(cls, value: Any, info: ValidationInfo) -> Any:
        given = info.data.get("metadata") if value is True else value
        size = len(to_json(given)) if isinstance(given, (dict, list, str)) else 0
        if size > MAX_PROPAGATED_BYTES:
            raise ValueError(f"{size} bytes of JSON for each file; the limit is {MAX_PROPAGATED_BYTES}")
        return value


class RemoteUpload(_Remote):
    """A job from remote files: `url`, or `urls`, or `container` with `file_names`."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"urls": ["https://example.com/files/invoice1.pdf"]}]}
    )

    url: str | None = Field(default=None, max_length=2048)
    urls: list[Annotated[str, Field(max_length=2048)]] | None = Field(default=None, max_length=100)


class Cancel(_Lenient):
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
