"""Every router of the gateway, in the order in which paths are matched."""

from __future__ import annotations

from services.ingest.dialects.alfred import account as alfred_account
from services.ingest.dialects.alfred import files as alfred_files
from services.ingest.dialects.alfred import jobs as alfred_jobs
from services.ingest.dialects.alfred import token
from services.ingest.dialects.invopop import absent, linked_files, silo, silo_files, states
from services.ingest.dialects.invopop import jobs as invopop_jobs
from services.ingest.dialects.invopop import workflows as invopop_workflows
from services.ingest.dialects.pdftools import administration, simple_api
from services.ingest.dialects.pdftools import jobs as pdftools_jobs
from services.ingest.dialects.pdftools import results as pdftools_results
from services.ingest.dialects.v1 import (
    about,
    accounts,
    audit,
    bulk,
    erase,
    file_changes,
    files,
    jobs,
    keys,
    operations,
    presigned,
    results,
    schedules,
    secrets,
    sessions,
    shares,
    tags,
    task_objects,
    tenant_actions,
    tenants,
    tus,
    workflows,
)

FIRST = (jobs.router, alfred_jobs.router)
"""Paths are compared one after the other, so those that are asked most come first."""
ALFRED = (alfred_jobs.uploads, alfred_files.router, alfred_account.router, token.router)
V1 = (
    files.router, file_changes.router, operations.router, audit.router, bulk.router, erase.router, sessions.router, workflows.router, schedules.router, accounts.router,
    tenants.router, tenant_actions.router, keys.router, shares.router, secrets.router, tags.router, presigned.router, tus.router, results.router, about.router,
    task_objects.router,
)  # fmt: skip
INVOPOP = (
    silo.by_key, absent.router, silo_files.raw, silo_files.router, linked_files.router, invopop_jobs.router, invopop_workflows.router,
    states.router, silo.router,
)  # fmt: skip
PDFTOOLS = (administration.router, pdftools_results.router, pdftools_jobs.router, simple_api.router)
ROUTERS = (*FIRST, *ALFRED, *V1, *INVOPOP, *PDFTOOLS)
