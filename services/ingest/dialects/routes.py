"""Every router of the gateway, in the order in which paths are matched."""

from __future__ import annotations

from services.ingest.dialects.alfred import account as alfred_account
from services.ingest.dialects.alfred import files as alfred_files
from services.ingest.dialects.alfred import jobs as alfred_jobs
from services.ingest.dialects.alfred import token
from services.ingest.dialects.invopop import jobs as invopop_jobs
from services.ingest.dialects.invopop import silo
from services.ingest.dialects.invopop import workflows as invopop_workflows
from services.ingest.dialects.pdftools import jobs as pdftools_jobs
from services.ingest.dialects.pdftools import results as pdftools_results
from services.ingest.dialects.pdftools import simple_api
from services.ingest.dialects.v1 import (
    accounts,
    bulk,
    erase,
    files,
    jobs,
    operations,
    presigned,
    results_zip,
    schedules,
    tags,
    tus,
    workflows,
)

ALFRED = (alfred_jobs.router, alfred_jobs.uploads, alfred_files.router, alfred_account.router, token.router)
V1 = (
    files.router, operations.router, jobs.router, bulk.router, erase.router, workflows.router, schedules.router, accounts.router,
    tags.router, presigned.router, tus.router, results_zip.router,
)  # fmt: skip
INVOPOP = (silo.raw, invopop_jobs.router, invopop_workflows.router, silo.router)
PDFTOOLS = (simple_api.admin, pdftools_results.router, pdftools_jobs.router, simple_api.router)
ROUTERS = (*ALFRED, *V1, *INVOPOP, *PDFTOOLS)
