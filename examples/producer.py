"""Hand in a job from your own program. Install the kit by its path: pip install ../contracts ../stageline_kit"""

import asyncio
import sys
from datetime import UTC, datetime

from contracts import CreateJob, JobRequest, Tenancy
from stageline_kit import Producer
from stageline_kit.producer import new_id


async def main(bootstrap: str, workflow: str, order: str) -> None:
    owner = Tenancy(tenant_id="default", user_name="billing")
    job = CreateJob(
        command_id=new_id(f"{order}-create"), job_id=new_id(order), owner=owner, issued_at=datetime.now(UTC),
        job=JobRequest(workflow=workflow, metadata={"order": order}),
    )  # fmt: skip
    async with Producer(bootstrap, "/acme/billing") as producer:
        await producer.publish(job)  # Kafka has it; run again with the same order, it is the same job
    print(job.job_id)


asyncio.run(main(*sys.argv[1:4]))
