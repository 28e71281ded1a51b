"""Hand in a job with plain aiokafka. Usage: python producer.py BOOTSTRAP WORKFLOW ORDER"""

import asyncio
import os
import ssl
import sys
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from contracts import CreateJob, JobRequest, Tenancy, derived, to_record


def security() -> dict:
    """aiokafka's options for the user in `KAFKA_*`, as `stageline env` prints them."""
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    options = {"security_protocol": protocol}
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = os.environ.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        options["sasl_plain_username"] = os.environ["KAFKA_SASL_USERNAME"]
        options["sasl_plain_password"] = os.environ["KAFKA_SASL_PASSWORD"]
    if protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=os.environ.get("KAFKA_SSL_CAFILE"))
    return options


async def main(bootstrap: str, workflow: str, order: str) -> None:
    job_id = derived(order, "job")  # the same order is the same job, so a doubtful send is simply repeated
    command = CreateJob(
        command_id=derived(order, "create"), job_id=job_id, owner=Tenancy(tenant_id="default", user_name="billing"),
        issued_at=datetime.now(UTC), job=JobRequest(workflow=workflow, metadata={"order": order}),
    )  # fmt: skip
    record = to_record(command, "/acme/billing")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **security(), enable_idempotence=True, max_batch_size=262_144)
    await producer.start()
    try:
        await producer.send_and_wait("job.commands", record.value, record.key, headers=list(record.headers))
    finally:
        await producer.stop()
    print(job_id)


asyncio.run(main(*sys.argv[1:4]))
