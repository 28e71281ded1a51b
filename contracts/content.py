"""What the records of each topic hold of people and documents. The page about erasure is generated from it and from the topic table."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.topics import TASK_PREFIX, TENANT_PREFIX, Topic

FILES = "file names, metadata and URLs of files; names of users"
NONE = "none: ids, numbers and words of the system"
CONTENT: Mapping[str, str] = {
    "session.commands": f"{FILES}; metadata and arguments of jobs",
    "session.events": f"{FILES}; metadata and arguments of jobs",
    "job.commands": f"{FILES}; metadata and arguments of jobs; data of signals",
    "operator.commands": "reasons that operators gave; metadata and arguments of re-runs and schedules; data of signals; workflows",
    "job.answers": "reasons that operators gave; names of users",
    "job.events": "metadata of jobs; results of steps; names of users; error messages, which may name files",
    "file.events": f"{FILES}; tags, extracted fields and values; results of steps; error messages",
    "job.state": "metadata of jobs; results of steps; error messages, which may name files. An erasure writes a tombstone",
    "stage.reports": "results of steps: extracted fields, short texts, names of output files; error messages",
    "stage.refusals": NONE,
    "stage.cancellations": "reasons that operators gave",
    "stage.workers": NONE,
    "dispatch.backlog": "ids of tenants; reasons that operators gave",
    "workflow.events": "none of documents: a workflow's configuration. A deletion empties it",
    "schedule.state": "metadata, arguments and URLs of the jobs that a schedule makes; names of users. A deletion empties it",
    "delivery.events": "the first part of a receiver's answer, which may repeat what it was sent",
    "access.events": "names of users and tenants. A revocation leaves the key's hash alone",
    "webhook.commands": "an endpoint's URL; names of users",
    "webhook.answers": "names of users; reasons of their acts",
    "secret.events": "sealed secrets; names of users. A deletion leaves the secret's name and who deleted it",
    "seal.keys": "none: keys, from which an erasure removes those of the job",
    "job.erasures": "reasons that operators gave; names of users; hashes of erased objects",
}
"""Topic → its personal content."""
TASKS = f"{FILES}; parameters of steps and results of earlier steps"
TENANT_COMMANDS = CONTENT["job.commands"]
TENANT_EVENTS = "copies of the tenant's records of `job.events`, `file.events`, `session.events` and `job.answers`"


def content_of(topic: Topic) -> str:
    """What a topic's records hold of people and documents. Raises `KeyError` for a topic that nobody has described."""
    if topic.name.startswith(TASK_PREFIX):
        return TASKS
    if topic.name.startswith(TENANT_PREFIX):
        return TENANT_EVENTS if topic.name.endswith(".events") else TENANT_COMMANDS
    return CONTENT[topic.name]
