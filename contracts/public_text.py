"""Texts that tenants may see: without paths of the server that an error named."""

from __future__ import annotations

import os
import re

USUAL_ROOTS = frozenset(
    (
        "Applications", "Library", "System", "Users", "Volumes", "app", "bin", "boot", "data", "dev", "etc", "home", "lib", "lib64",
        "media", "mnt", "opt", "private", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
    )
)  # fmt: skip
"""First parts of the paths of servers, ours and those of others."""
PATH = "[path]"
_ROOT = r"/(?P<{0}>[^\s/'\"<>|:;,()\[\]{{}}]+)"
_QUOTED = re.compile(rf"(?P<quote>['\"]){_ROOT.format('quoted')}[^'\"\n]*(?P=quote)")
_PLAIN = re.compile(rf"(?<![\w/:.]){_ROOT.format('plain')}(?:/[^\s'\"<>|:;,()\[\]{{}}]*)?")
_OTHER = re.compile(r"file:///?[^\s'\"]*|(?<![\w/])[A-Za-z]:\\[^\s'\"]*")


def _roots() -> frozenset[str]:
    """Also what stands at the root of this server: its data may be anywhere."""
    try:
        return USUAL_ROOTS | frozenset(os.listdir("/"))
    except OSError:
        return USUAL_ROOTS


ROOTS = _roots()


def public_text(text: str) -> str:
    """`text` with `[path]` in place of each path of a server. Addresses (`https://…`) and JSON pointers stay as they are."""
    if "/" not in text and "\\" not in text:
        return text

    def plain(found: re.Match[str]) -> str:
        root = next(part for part in (found.groupdict().get("quoted"), found.groupdict().get("plain")) if part)
        return PATH if root in ROOTS else found[0]

    return _PLAIN.sub(plain, _QUOTED.sub(plain, _OTHER.sub(PATH, text)))
