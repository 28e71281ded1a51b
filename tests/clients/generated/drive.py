"""Submits a job, waits for its end and reads its results, by the clients that openapi-python-client generated. Prints what came out."""

from __future__ import annotations

import json
import os
import sys

from stageline_client import AuthenticatedClient
from stageline_client.api.about import get_about
from stageline_client.api.jobs import create_job, get_job, get_job_results
from stageline_client.models import About, CreatedJob, JobDetail, JobResult, NewJob, Problem
from stageline_notifier_client import AuthenticatedClient as NotifierClient
from stageline_notifier_client.api.webhooks import list_endpoints
from stageline_notifier_client.models import Endpoints

KEY = os.environ["STAGELINE_KEY"]


def main() -> None:
    remote, mark = sys.argv[1:]
    client = AuthenticatedClient(os.environ["STAGELINE_URL"], KEY, prefix="", auth_header_name="X-API-Key", timeout=90)
    about = get_about.sync(client=client)
    assert isinstance(about, About) and about.notifier_url
    body = NewJob(workflow="documents", urls=[remote])
    made = create_job.sync(client=client, body=body, idempotency_key=mark)
    again = create_job.sync(client=client, body=body, idempotency_key=mark, prefer="wait=60")
    assert isinstance(made, CreatedJob) and isinstance(again, CreatedJob) and made.job_id == again.job_id
    job = get_job.sync(made.job_id, client=client, prefer="wait=60")
    assert isinstance(job, JobDetail) and job.files[0].job_id == job.id
    results = get_job_results.sync(made.job_id, client=client)
    assert isinstance(results, JobResult)
    refused = create_job.sync(client=client, body=NewJob(workflow="documnts"))
    assert isinstance(refused, Problem)
    notifier = NotifierClient(about.notifier_url, KEY, prefix="", auth_header_name="X-API-Key", timeout=30)
    endpoints = list_endpoints.sync(client=notifier)
    assert isinstance(endpoints, Endpoints)
    shown = {
        "stage": job.stage,
        "tag": results.files[0].tag,
        "fields": results.files[0].fields.to_dict(),
        "refused": refused.detail,
    }
    print(json.dumps(shown))


main()
