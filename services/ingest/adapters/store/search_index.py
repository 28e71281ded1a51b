"""Full-text search over the files' texts: FTS5 on SQLite, tsvector on PostgreSQL, the same words for the same hits."""

from __future__ import annotations

import unicodedata
from typing import Any

from sqlalchemy import Connection, text

from shared.database.statements import is_shared

Record = dict[str, Any]
MAX_WORDS_BYTES = 500_000
"""Text of a file beyond this is not searchable on PostgreSQL, whose tsvector ends at 1 MiB."""
_DONE = text("DELETE FROM index_pending WHERE file_id = :f AND blob = :blob")
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


def enter_search(connection: Connection, row: Any, body: str) -> None:
    """Put a file's text into the index, replacing what was there; `row` is what `await_index` noted."""
    if is_shared(connection):
        clean = body.replace("\x00", " ")
        words = plain(f"{row.file_name} {clean}").encode()[:MAX_WORDS_BYTES].decode("utf-8", "ignore")
        values = {"f": row.file_id, "t": row.tenant_id, "n": row.file_name, "b": clean, "w": words}
        connection.execute(_ENTER, values)
    else:
        _enter_lite(connection, row, body)
    connection.execute(_DONE, {"f": row.file_id, "blob": row.blob})


def _enter_lite(connection: Connection, row: Any, body: str) -> None:
    # Under the file's own row number, so that a second text replaces the first.
    number = connection.execute(text("SELECT rowid FROM file_view WHERE id = :f"), {"f": row.file_id}).scalar()
    if number is not None:
        connection.execute(text("DELETE FROM search WHERE rowid = :r"), {"r": number})
        connection.execute(
            text("INSERT INTO search (rowid, file_id, tenant_id, file_name, body) VALUES (:r, :f, :t, :n, :b)"),
            {"r": number, "f": row.file_id, "t": row.tenant_id, "n": row.file_name, "b": body},
        )


def plain(words: str) -> str:
    """Letters and digits alone, without their accents: what FTS5's `unicode61 remove_diacritics 2` makes of a text."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", words) if not unicodedata.combining(c))
    return "".join(c if c.isalnum() else " " for c in bare)


def _terms(words: str) -> list[tuple[str, bool]]:
    printable = "".join(c if c.isprintable() else " " for c in words)
    found = [(word.rstrip("*"), word.endswith("*")) for word in printable.split()[:32]]
    return [(word, prefix) for word, prefix in found if any(c.isalnum() for c in word)]


def match_expression(words: str) -> str | None:
    """FTS5 expression of a person's words: all must occur, each taken literally, `word*` for a prefix. None if empty."""
    terms = ['"' + word.replace('"', '""') + '"' + "*" * prefix for word, prefix in _terms(words)]
    return " ".join(terms) or None


def ts_query(words: str) -> str | None:
    """The same as a tsquery: what stands together as one word (`INV-17`) must stand together in the text."""
    terms: list[str] = []
    for word, prefix in _terms(words):
        parts = plain(word).split()
        ends = ":*" if prefix else ""
        terms.append(" <-> ".join(f"'{part}'" for part in parts) + ends if parts else "")
    return " & ".join(f"({term})" for term in terms if term) or None


def search(connection: Connection, tenant: str, words: str, limit: int) -> list[Record]:
    """Best matches of a tenant: `{file_id, file_name, snippet}`; hits in the snippet stand between `[` and `]`."""
    shared = is_shared(connection)
    expression = ts_query(words) if shared else match_expression(words)
    if expression is None:
        return []
    rows = connection.execute(_FIND if shared else _FIND_LITE, {"e": expression, "t": tenant, "n": limit})
    return [{"file_id": f, "file_name": n, "snippet": s} for f, n, s in rows]
