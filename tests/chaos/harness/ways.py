"""The ways in: one function per dialect, each of which ends with the accepted job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiokafka.errors import KafkaError

from contracts import AddFile, CloseSession, CreateJob, FileRef, JobRequest, Message, OpenSession, Tenancy
from shared.web.form_data import FormData
from stageline_kit import Producer
from tests.chaos.harness.door import PATIENCE_S, Door, Unanswered
from tests.chaos.harness.evidence import Accepted
from tests.chaos.harness.plan import Request
from tests.chaos.harness.receiver import Receiver
from tests.chaos.harness.system import now, passed

OWNER = Tenancy(tenant_id="default", tenant_name="Default", user_name="chaos")
ACKNOWLEDGED_S = 30.0
CONVERSION = "/conversion/v1.0/rest"


class Ways:
    """What the ways share: the HTTP client, the producer, and the receiver that serves documents."""

    def __init__(self, door: Door, producer: Producer, receiver: Receiver, unanswered: set[str]) -> None:
        self.door = door
        self.producer = producer
        self.receiver = receiver
        self.unanswered = unanswered
        self.ways: dict[str, Callable[[Request], Awaitable[Accepted | None]]] = {
            "v1": self.v1, "alfred": self.alfred, "invopop": self.invopop, "conversion": self.conversion,
            "kafka_job": self.kafka_job, "kafka_session": self.kafka_session,
        }  # fmt: skip

    async def submit(self, request: Request) -> Accepted | None:
        """The accepted job; None where the request was refused, or had no answer."""
        return await self.ways[request.way](request)

    def _accepted(
        self, request: Request, job_id: str | None, files: int | None = None, session_id: str | None = None
    ) -> Accepted:
        return Accepted(
            request.number, request.way, now(), frozenset({request.ends}), job_id, session_id, files, files_end=bool(request.files)
        )  # fmt: skip

    async def _answered(self, ids: tuple[str, ...], asking: Awaitable[tuple[int, object]]) -> tuple[int, dict[str, str]]:
        try:
            status, body = await asking
        except Unanswered:
            self.unanswered |= set(ids)
            return 0, {}
        return status, body if isinstance(body, dict) else {}

    async def v1(self, request: Request) -> Accepted | None:
        """Our own API, under an id of the client's."""
        body = {"workflow": request.workflow, "job_id": request.job_id, "metadata": {"number": request.number}}
        status, _ = await self._answered((request.job_id,), self.door.call("POST", "/v1/jobs", json=body))
        return self._accepted(request, request.job_id, 0) if status == 201 else None

    async def invopop(self, request: Request) -> Accepted | None:
        """Invopop: a silo entry and its job in one call."""
        body = {"workflow_id": request.workflow, "data": {"number": request.number}}
        asking = self.door.call("PUT", f"/transform/v1/jobs/{request.job_id}", json=body)
        status, _ = await self._answered((request.job_id,), asking)
        return self._accepted(request, request.job_id) if status in (200, 202) else None

    async def alfred(self, request: Request) -> Accepted | None:
        """Alfred: a session, files, and the job that closes it."""
        key = f"{request.job_id}-alfred"
        status, body = await self._answered((), self.door.call("POST", "/api/deferred/create", key=key))
        if status != 200:
            return None
        session = body["session_id"]
        for n, text in enumerate(request.files):

            def form(n: int = n, text: str = text) -> FormData:
                parts = FormData()
                parts.add_field("session_id", session)
                parts.add_field("file", text.encode(), filename=f"note-{request.number}-{n}.txt", content_type="text/plain")
                return parts

            uploading = self.door.call("POST", "/api/file/uploadfile", key=f"{key}-{n}", form=form, content=text)
            if (await self._answered((session,), uploading))[0] != 200:
                return None
        closing = self.door.call("POST", "/api/job/create", json={"session_id": session, "metadata": {"number": request.number}})
        status, body = await self._answered((session,), closing)
        return self._accepted(request, body["job_id"], len(request.files), session) if status == 200 else None

    async def conversion(self, request: Request) -> Accepted | None:
        """The Conversion Service: create, add, start."""
        creating = self.door.call("POST", f"{CONVERSION}/jobs/", json=[], params={"workflow": "Convert to XML"})
        status, body = await self._answered((), creating)
        if status != 201:
            return None
        job_id = body["jobId"]

        def form() -> FormData:
            parts = FormData()
            parts.add_field("data", request.files[0].encode(), filename=f"note-{request.number}.txt", content_type="text/plain")
            return parts

        adding = self.door.call("POST", f"{CONVERSION}/jobs/{job_id}/data/", form=form, content=request.files[0])
        if (await self._answered((job_id,), adding))[0] != 201:
            return None
        # A repeat of a start whose answer was lost is 409.
        starting = self.door.call("POST", f"{CONVERSION}/jobs/{job_id}:start", expected=(409,))
        status, _ = await self._answered((job_id,), starting)
        # The id of this dialect is the session's; the job has its own.
        return self._accepted(request, None, None, job_id) if status in (204, 409) else None

    async def kafka_job(self, request: Request) -> Accepted | None:
        """A command on `job.commands`."""
        command = CreateJob(
            command_id=f"{request.job_id}-create", job_id=request.job_id, owner=OWNER, issued_at=datetime.now(UTC),
            job=JobRequest(workflow=request.workflow, metadata={"number": request.number}),
        )  # fmt: skip
        return self._accepted(request, request.job_id, 0) if await self._publish(request, command) else None

    async def kafka_session(self, request: Request) -> Accepted | None:
        """Commands on `session.commands`. The files are fetched from the receiver's address."""
        session, at = f"session-{request.job_id}", datetime.now(UTC)
        commands: list[Message] = [OpenSession(command_id=f"{session}-open", session_id=session, owner=OWNER, issued_at=at)]
        for n, text in enumerate(request.files):
            name = f"note-{request.number}-{n}.txt"
            self.receiver.documents[name] = text
            url = f"{self.receiver.base}/document/{name}"
            file = FileRef(file_id=f"{session}-{n}", file_name=name, content_type="text/plain", url=url)
            commands.append(AddFile(command_id=f"{session}-add-{n}", session_id=session, owner=OWNER, issued_at=at, file=file))
        job = JobRequest(workflow=request.workflow, metadata={"number": request.number})
        commands.append(CloseSession(command_id=f"{session}-close", session_id=session, owner=OWNER, issued_at=at, job=job))
        for command in commands:
            if not await self._publish(request, command, session):
                return None
        return self._accepted(request, None, len(request.files), session)

    async def _publish(self, request: Request, command: Message, session: str = "") -> bool:
        """Repeats the same command until Kafka acknowledges it."""
        until = now() + PATIENCE_S
        while now() < min(until, self.door.closes):
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self.producer.publish(command), ACKNOWLEDGED_S)
                return True
            await passed(0.5)
        self.unanswered |= {i for i in (request.job_id, session) if i}
        return False
