"""Hand in a job with plain aiokafka. Usage: python producer.py BOOTSTRAP WORKFLOW ORDER"""

import asyncio
import sys
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from contracts import CreateJob, JobRequest, Tenancy, derived, to_record


async def main(bootstrap: str, workflow: str, order: str) -> None:
    job_id = derived(order, "job")  # the same order is the same job, so a doubtful send is simply repeated
    command = CreateJob(
        command_id=derived(order, "create"), job_id=job_id, owner=Tenancy(tenant_id="default", user_name="billing"),
        issued_at=datetime.now(UTC), job=JobRequest(workflow=workflow, metadata={"order": order}),
    )  # fmt: skip
    record = to_record(command, "/acme/billing")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=262_144)
    await producer.start()
    try:
        await producer.send_and_wait("job.commands", record.value, record.key, headers=list(record.headers))
    finally:
        await producer.stop()
    print(job_id)


asyncio.run(main(*sys.argv[1:4]))
