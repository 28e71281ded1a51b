"""Full-text search over the files' texts: FTS5 on SQLite, tsvector on PostgreSQL, with the same hits for the same words."""

from __future__ import annotations

import unicodedata
from typing import Any

from sqlalchemy import Connection, text

from shared.database.statements import is_shared

Record = dict[str, Any]
MAX_WORDS_BYTES = 500_000
"""Largest text of a file that is indexed on PostgreSQL, whose tsvector ends at 1 MiB."""
_DONE = text("DELETE FROM index_pending WHERE file_id = :f AND blob = :blob")
_WAITS = text("SELECT 1 FROM index_pending WHERE file_id = :f AND blob = :blob")
_ENTER = text(
    "INSERT INTO search (file_id, tenant_id, file_name, body, words) VALUES (:f, :t, :n, :b, to_tsvector('simple', CAST(:w AS text))) "
    "ON CONFLICT (file_id) DO UPDATE SET file_name = excluded.file_name, body = excluded.body, words = excluded.words"
)
_FIND = text(
    "SELECT file_id, file_name, ts_headline('simple', body, q, 'StartSel=[, StopSel=], MaxWords=16, MinWords=8, MaxFragments=1') "
    "FROM search, to_tsquery('simple', CAST(:e AS text)) q WHERE tenant_id = :t AND words @@ q "
    "ORDER BY ts_rank_cd(words, q) DESC, file_id LIMIT :n"
)
_FIND_LITE = text(
    "SELECT file_id, file_name, snippet(search, 3, '[', ']', ' … ', 16) AS snippet FROM search "
    "WHERE search MATCH :e AND tenant_id = :t ORDER BY rank LIMIT :n"
)


def is_pending(connection: Connection, row: Any) -> bool:
    """False when the file was taken out of the index meanwhile, or another replica has indexed it."""
    return connection.execute(_WAITS, {"f": row.file_id, "blob": row.blob}).first() is not None


def enter_search(connection: Connection, row: Any, body: str) -> None:
    """Index a file's text, replacing an earlier one. `row` is a row of `index_pending`."""
    if is_shared(connection):
        clean = body.replace("\x00", " ")
        words = plain(f"{row.file_name} {clean}").encode()[:MAX_WORDS_BYTES].decode("utf-8", "ignore")
        values = {"f": row.file_id, "t": row.tenant_id, "n": row.file_name, "b": clean, "w": words}
        connection.execute(_ENTER, values)
    else:
        _enter_lite(connection, row, body)
    connection.execute(_DONE, {"f": row.file_id, "blob": row.blob})


def _enter_lite(connection: Connection, row: Any, body: str) -> None:
    # Under the file's row id, so that a second text replaces the first.
    number = connection.execute(text("SELECT rowid FROM file_view WHERE id = :f"), {"f": row.file_id}).scalar()
    if number is not None:
        connection.execute(text("DELETE FROM search WHERE rowid = :r"), {"r": number})
        connection.execute(
            text("INSERT INTO search (rowid, file_id, tenant_id, file_name, body) VALUES (:r, :f, :t, :n, :b)"),
            {"r": number, "f": row.file_id, "t": row.tenant_id, "n": row.file_name, "b": body},
        )


def plain(words: str) -> str:
    """Letters and digits without accents, as FTS5's `unicode61 remove_diacritics 2` tokenizes."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", words) if not unicodedata.combining(c))
    return "".join(c if c.isalnum() else " " for c in bare)


def _terms(words: str) -> list[tuple[str, bool]]:
    printable = "".join(c if c.isprintable() else " " for c in words)
    found = [(word.rstrip("*"), word.endswith("*")) for word in printable.split()[:32]]
    return [(word, prefix) for word, prefix in found if any(c.isalnum() for c in word)]


def match_expression(words: str) -> str | None:
    """FTS5 expression for words as people write them: all must occur, each taken literally, `word*` as a prefix. None if empty."""
    terms = ['"' + word.replace('"', '""') + '"' + "*" * prefix for word, prefix in _terms(words)]
    return " ".join(terms) or None


def ts_query(words: str) -> str | None:
    """The same as a tsquery. Parts of one word (`INV-17`) must be adjacent in the text."""
    terms: list[str] = []
    for word, prefix in _terms(words):
        parts = plain(word).split()
        ends = ":*" if prefix else ""
        terms.append(" <-> ".join(f"'{part}'" for part in parts) + ends if parts else "")
    return " & ".join(f"({term})" for term in terms if term) or None


def search(connection: Connection, tenant: str, words: str, limit: int) -> list[Record]:
    """The tenant's best matches: `{file_id, file_name, snippet}`. Hits in the snippet are in square brackets."""
    shared = is_shared(connection)
    expression = ts_query(words) if shared else match_expression(words)
    if expression is None:
        return []
    rows = connection.execute(_FIND if shared else _FIND_LITE, {"e": expression, "t": tenant, "n": limit})
    return [{"file_id": f, "file_name": n, "snippet": s} for f, n, s in rows]
