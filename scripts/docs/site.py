"""MkDocs hook: adds the repository files that pages link to, and rewrites the links between pages and these files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
DOCS, OTHERS = "docs/", "repository/"
"""Folder of the pages in the repository; folder of all other files in the site."""
LINK = re.compile(r"(\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
ELSEWHERE = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
FENCE = re.compile(r"^\s*```")


def on_files(files: Files, config: Any) -> Files:
    """Add every file outside `docs/` that a page links to, directly or through another such file."""
    waiting = [DOCS + file.src_uri for file in files.documentation_pages()]
    known = set(waiting)
    for path in waiting:
        for target in linked(path):
            if target not in known and not target.startswith(DOCS):
                known.add(target)
                files.append(
                    File.generated(config, OTHERS + target, abs_src_path=str(ROOT / target), inclusion=InclusionLevel.NOT_IN_NAV)
                )
                waiting += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with links that are valid in the site. A link to a folder without a README becomes plain text."""
    path = repository_path(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        label, link, anchor = match[1], match[2], match[3] or ""
        target = target_of(path, link)
        if target is None:
            return match[0]
        if not (ROOT / target).is_file():
            return label[1:-1] if (ROOT / target).is_dir() else match[0]
        return f"{label}({posixpath.relpath(site_uri(target), posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return outside_fences(markdown, lambda line: LINK.sub(rewrite, line))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The page, unchanged. Raises `PluginError` if a browser would load a part of it from another host."""
    found = ELSEWHERE.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri} loads a part of it from another host: {found[0]}")
    return output


def linked(path: str) -> Iterator[str]:
    """Files of the repository that a Markdown file links to."""
    found: list[str] = []
    outside_fences((ROOT / path).read_text(), lambda line: found.extend(match[2] for match in LINK.finditer(line)) or line)
    for link in found:
        target = target_of(path, link)
        if target is not None and (ROOT / target).is_file():
            yield target


def target_of(path: str, link: str) -> str | None:
    """The repository path that a link in the file `path` leads to; a folder leads to its README. None: the link leaves the repository."""
    if "://" in link or link.startswith(("/", "mailto:")):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    readme = posixpath.join(target, "README.md")
    return readme if (ROOT / readme).is_file() else target


def site_uri(path: str) -> str:
    """The path of a repository file in the site's sources."""
    return path.removeprefix(DOCS) if path.startswith(DOCS) else OTHERS + path


def repository_path(uri: str) -> str:
    """The repository file that a source of the site is made from."""
    return uri.removeprefix(OTHERS) if uri.startswith(OTHERS) else DOCS + uri


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """The text with `change` applied to each line that is not in a code block."""
    lines, fenced = [], False
    for line in markdown.splitlines():
        fenced ^= bool(FENCE.match(line))
        lines.append(line if fenced else change(line))
    return "\n".join(lines) + "\n"
