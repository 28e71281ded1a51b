"""Creates and deletes SCRAM users of a cluster (KIP-554), which aiokafka's admin client does not offer."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactBytes, CompactString, Int8, Int16, Int32, Schema, TaggedFields

from shared.errors import Stop
from shared.kafka.connection import KafkaAccess

SHA_512 = 2
ITERATIONS = 4096
"""Kafka's smallest number. Passwords here are 256 random bits, which no number of rounds makes safer."""
NOT_FOUND = 91
"""Kafka's error code for a user that has no such credential."""


class AlterScramResponse(Response):  # type: ignore[misc]
    """`AlterUserScramCredentialsResponse`, version 0."""

    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")), ("error_code", Int16), ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class AlterScramStruct(RequestStruct):  # type: ignore[misc]
    """`AlterUserScramCredentialsRequest`, version 0."""

    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = AlterScramResponse
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")), ("mechanism", Int8), ("iterations", Int32), ("salt", CompactBytes),
                ("salted_password", CompactBytes), ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class AlterScram(Request[AlterScramStruct]):  # type: ignore[misc]
    """The request: users to delete, and users to create or change with their passwords."""

    API_KEY = 51

    def __init__(self, deleted: Iterable[str], passwords: Mapping[str, str]) -> None:
        self._deleted: list[tuple[str, int, dict[int, bytes]]] = [(user, SHA_512, {}) for user in deleted]
        self._upserted = [_upsertion(user, password) for user, password in passwords.items()]

    def build(self, request_struct_class: type[AlterScramStruct]) -> AlterScramStruct:
        """See `Request`."""
        return request_struct_class(self._deleted, self._upserted, {})


def _upsertion(user: str, password: str) -> tuple[str, int, int, bytes, bytes, dict[int, bytes]]:
    salt = secrets.token_bytes(24)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return user, SHA_512, ITERATIONS, salt, salted, {}


async def alter_users(access: KafkaAccess, passwords: Mapping[str, str], deleted: Iterable[str] = ()) -> None:
    """Create users, or change their passwords, and delete others. Deleting an unknown user changes nothing.

    Raises `Stop` with the user and the reason when Kafka refuses, and `KafkaError` when it does not answer.
    """
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    try:
        response = await admin._send_to_controller(AlterScram(deleted, passwords))
        for user, code, message, _ in response.results:
            if code and code != NOT_FOUND:
                raise Stop("kafka_user", f"{user}: {for_code(code).__name__}: {message or 'refused'}")
    finally:
        await admin.close()
