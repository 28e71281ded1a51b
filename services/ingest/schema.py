"""Every table of the service, for its migrations: each module that owns tables lists them as `MODELS`."""

from __future__ import annotations

from sqlmodel import SQLModel

from services.ingest.adapters.store import accounts, catalogue, erasures, operations, quotas, read_model, uploads
from services.ingest.dialects.invopop import store as invopop_store
from services.ingest.dialects.pdftools import store as pdftools_store

MODELS: tuple[type[SQLModel], ...] = (
    *read_model.MODELS, *operations.MODELS, *erasures.MODELS, *accounts.MODELS, *quotas.MODELS, *catalogue.MODELS, *uploads.MODELS,
    *invopop_store.MODELS, *pdftools_store.MODELS,
)  # fmt: skip
