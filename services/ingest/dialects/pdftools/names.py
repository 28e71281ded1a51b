"""Names of the Conversion Service's workflows, profiles and connections, in all its versions (reference/vendor-apis.md §3.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WORKFLOWS: Mapping[str, str] = {
    "Convert to PDF": "convert-to-pdf", "Create Dossier PDF": "dossier", "Archive as TIFF": "archive-as-tiff",
    "Extract XML from PDF": "extract-xml", "Archive as PDF/A-1": "archive-pdfa1", "Archive as PDF/A-2": "archive-pdfa2",
    "Archive as PDF/A-3": "archive-pdfa3", "Sign PDF": "sign", "Prepare Invoice PDF": "prepare-invoice", "Convert to XML": "convert-to-xml",
}  # fmt: skip
"""The vendor's ten workflows → our workflows."""
FORMER_WORKFLOWS: Mapping[str, str] = {
    "Conversion": "Convert to PDF", "Dossier": "Create Dossier PDF", "Invoice": "Prepare Invoice PDF", "Sign": "Sign PDF",
    **{f"Archive PDF/A-{part}": f"Archive as PDF/A-{part}" for part in (1, 2, 3)},
}  # fmt: skip
"""Name of a workflow in versions 4 and 5 → its name today."""
STEPS = ("convert", "merge", "archive", "sign", "invoice")
"""Names of the steps that take conversion options, in all of these workflows."""
DEFAULT_WORKFLOW, DEFAULT_PROFILE = "Convert to PDF", "Default"
PROFILES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("Archive as PDF/A-2", "Print Optimization"): {},
    ("Archive as PDF/A-2", "Web Optimization"): {"PDF.LINEARIZE": "true", "IMAGE.LONGEST_SIDE": "2400"},
    ("Archive as PDF/A-2", "Email Optimization"): {"IMAGE.LONGEST_SIDE": "1600"},
}
"""(workflow, profile) → option values, for the built-in profiles. Each workflow also has `Default`."""
OTHER_PROFILES: Mapping[tuple[str, str], str] = {
    ("Convert to PDF", "All to PDF"): DEFAULT_PROFILE, ("Create Dossier PDF", "Merge"): DEFAULT_PROFILE,
    ("Archive as PDF/A-2", "Archive PDF/A-2"): DEFAULT_PROFILE, ("Archive as PDF/A-3", "Archive PDF/A-3"): DEFAULT_PROFILE,
    ("Archive as PDF/A-2", "Ready to Print PDF/A-2"): "Print Optimization",
    ("Archive as PDF/A-2", "Ready for Web PDF/A-2"): "Web Optimization",
    ("Archive as PDF/A-2", "Ready for Email PDF/A-2"): "Email Optimization",
}  # fmt: skip
"""(workflow, name of a profile on the vendor's pages of connections) → the profile."""
BUILT_IN_CONNECTIONS: Mapping[str, tuple[str, str]] = {
    "convert-to-pdf": ("Convert to PDF", DEFAULT_PROFILE), "dossier-default": ("Create Dossier PDF", DEFAULT_PROFILE),
    "archive-pdfa2-default": ("Archive as PDF/A-2", DEFAULT_PROFILE), "archive-pdfa3-default": ("Archive as PDF/A-3", DEFAULT_PROFILE),
    "archive-pdfa2-print-optimization": ("Archive as PDF/A-2", "Print Optimization"),
    "archive-pdfa2-web-optimization": ("Archive as PDF/A-2", "Web Optimization"),
    "archive-pdfa2-email-optimization": ("Archive as PDF/A-2", "Email Optimization"),
}  # fmt: skip
"""Built-in connection → its workflow and profile."""


def workflow_named(name: str, published: Iterable[str] = ()) -> str | None:
    """Today's name of the workflow that `name` means, in any case; None if there is none. `published`: our own workflows."""
    return _meant(name, {**FORMER_WORKFLOWS, **{n: n for n in published}, **{n: n for n in WORKFLOWS}})


def profile_named(workflow: str, name: str, own: Iterable[str] = ()) -> str | None:
    """The profile of `workflow` that `name` means, in any case; None if there is none. `own`: profiles that the tenant made."""
    other = {theirs: ours for (flow, theirs), ours in OTHER_PROFILES.items() if flow == workflow}
    return _meant(name, {**other, **{n: n for n in (*built_in_profiles(workflow), *own)}})


def built_in_profiles(workflow: str) -> list[str]:
    """Names of the profiles that `workflow` has without anybody's doing."""
    return [DEFAULT_PROFILE, *(profile for flow, profile in PROFILES if flow == workflow)]


def _meant(wanted: str, known: Mapping[str, str]) -> str | None:
    """What `wanted` means: the name that is spelled so, else the first that differs in case alone."""
    if wanted in known:
        return known[wanted]
    return next((meant for name, meant in known.items() if name.casefold() == wanted.casefold()), None)
