"""Every table of the service, for its migrations: each module that owns tables lists them as `MODELS`."""

from __future__ import annotations

from sqlmodel import SQLModel

from services.ingest.adapters.store import (
    accounts,
    audit,
    catalogue,
    erasure_requests,
    erasures,
    former_files,
    known_names,
    letter_acts,
    link_keys,
    object_claims,
    operations,
    quotas,
    read_model,
    recycle_bin,
    reservations,
    row_turns,
    shares,
    signins,
    tenant_erasures,
    tenant_secrets,
    uploads,
    workers,
)
from services.ingest.dialects.invopop import store as invopop_store
from services.ingest.dialects.pdftools import store as pdftools_store

MODELS: tuple[type[SQLModel], ...] = (
    *read_model.MODELS, *operations.MODELS, *erasures.MODELS, *former_files.MODELS, *recycle_bin.MODELS, *known_names.MODELS, *erasure_requests.MODELS, *tenant_erasures.MODELS, *accounts.MODELS, *quotas.MODELS, *catalogue.MODELS, *uploads.MODELS,
    *reservations.MODELS, *object_claims.MODELS, *row_turns.MODELS, *audit.MODELS, *shares.MODELS, *link_keys.MODELS, *signins.MODELS,
    *tenant_secrets.MODELS, *letter_acts.MODELS, *workers.MODELS, *invopop_store.MODELS, *pdftools_store.MODELS,
)  # fmt: skip
