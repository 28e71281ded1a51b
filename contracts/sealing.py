"""Sealed records: each job's records are encrypted with a key of the job's own, which its erasure destroys.

A seal key is a tree of keys (Goldreich, Goldwasser, Micali: "How to construct random functions", 1986). Each node gives its two
children by HMAC-SHA256, so the 16 bytes of the root stand for the keys of all jobs. To destroy the key of one job, the nodes on its path
are replaced by their siblings (a "puncturable" function: Boneh and Waters, 2013). All other jobs keep their keys, and nobody who
holds the new tree can compute the destroyed one. So processes share one small key instead of one key per job.

This module has no cipher: readers and writers of sealed records bring AES-GCM (`Cipher`).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

NODE_BYTES: Final = 16
DEPTH: Final = 64
"""Levels below the root. A subject's leaf is named by the first 64 bits of its SHA-256."""
PART_DEPTH: Final = 8
"""Nodes at this depth or below are kept in one of 256 parts, so that no record grows with all erasures of a key."""
MAIN: Final = -1
"""The part with the nodes above the others."""
CONTENT_TYPE: Final = b"application/vnd.stageline.sealed"
SEAL_HEADER: Final = "stageline-seal"
"""Header with the id of the seal key."""
SUBJECT_HEADER: Final = "stageline-seal-subject"
"""Header with the subject, where it is not the record's key: the job of a task that is keyed by file."""
INNER_TYPE_HEADER: Final = "stageline-seal-content-type"
"""Header with the content type of what is sealed."""
NONCE_BYTES: Final = 12

Node = tuple[int, int]
"""Depth (0 is the root) and the leading bits of the leaves below it."""
Tree = Mapping[Node, bytes]


class Aead(Protocol):
    """An authenticated cipher with one key, such as `cryptography`'s `AESGCM`."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The sealed bytes, with their tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plain bytes. Raises when key, nonce, data or associated data are others."""
        ...


Cipher = Callable[[bytes], Aead]
"""Makes an AES-128-GCM of 16 bytes."""


def leaf_of(subject: str) -> int:
    """The leaf of a subject (a job's or a session's id)."""
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big")


def key_of(tree: Tree, subject: str) -> bytes | None:
    """The 16 bytes of the subject's key; None when it is destroyed."""
    leaf = leaf_of(subject)
    for depth in range(DEPTH, -1, -1):
        node = tree.get((depth, leaf >> (DEPTH - depth)))
        if node is not None:
            return _descend(node, leaf, depth)
    return None


def puncture(tree: Tree, subject: str) -> dict[Node, bytes]:
    """The tree without the subject's key. A second puncture changes nothing."""
    leaf = leaf_of(subject)
    for depth in range(DEPTH + 1):
        top = (depth, leaf >> (DEPTH - depth))
        if top in tree:
            break
    else:
        return dict(tree)
    found = dict(tree)
    node = found.pop(top)
    for level in range(depth, DEPTH):
        bit = leaf >> (DEPTH - level - 1) & 1
        children = _children(node)
        found[(level + 1, (leaf >> (DEPTH - level - 1)) ^ 1)] = children[1 - bit]
        node = children[bit]
    return found


def part_of(node: Node) -> int:
    """The part that keeps a node."""
    depth, prefix = node
    return MAIN if depth < PART_DEPTH else prefix >> (depth - PART_DEPTH)


def pack(tree: Tree, part: int) -> str:
    """The nodes of one part as Base64 text: depth (1 byte), leading bits (8 bytes, left-aligned), key (16 bytes), in order."""
    raw = bytearray()
    for (depth, prefix), key in sorted(tree.items()):
        if part_of((depth, prefix)) == part:
            raw += bytes([depth]) + (prefix << (DEPTH - depth)).to_bytes(8, "big") + key
    return b64encode(bytes(raw)).decode()


def unpack(text: str) -> dict[Node, bytes]:
    """The nodes of `pack`. Raises `ValueError` for any other text."""
    raw = b64decode(text, validate=True)
    size = 1 + 8 + NODE_BYTES
    if len(raw) % size:
        raise ValueError(f"nodes: {len(raw)} bytes are no multiple of {size}")
    found: dict[Node, bytes] = {}
    for at in range(0, len(raw), size):
        depth = raw[at]
        if depth > DEPTH:
            raise ValueError(f"nodes: depth {depth} is more than {DEPTH}")
        found[(depth, int.from_bytes(raw[at + 1 : at + 9], "big") >> (DEPTH - depth))] = raw[at + 9 : at + size]
    return found


def changed_parts(before: Tree, after: Tree) -> list[int]:
    """Parts that differ, those below first: a reader that takes them in this order lacks no key in between."""
    parts = {part_of(node) for node in before.keys() ^ after.keys()}
    return sorted(parts, reverse=True)


def seal(cipher: Cipher, key: bytes, nonce: bytes, value: bytes, bound_to: bytes) -> bytes:
    """The value of a sealed record: nonce, then the encrypted value with its tag. `bound_to` is the record's key: no other record's value opens in its place."""
    return nonce + cipher(key).encrypt(nonce, value, bound_to)


def reveal(cipher: Cipher, key: bytes, value: bytes, bound_to: bytes) -> bytes:
    """The plain value. Raises what the cipher raises for bytes that were not sealed with this key for this record."""
    return cipher(key).decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], bound_to)


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """Text of a header, or None."""
    return next((raw.decode("utf-8", "replace") for n, raw in headers if n == name and raw is not None), None)


class KeyDestroyed(ValueError):
    """The key of a sealed record is destroyed, or its seal key is not known here."""


class SealKeys:
    """The seal keys that a process knows, from the records of `seal.keys`. Not thread-safe."""

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher
        self._parts: dict[str, dict[int, dict[Node, bytes]]] = {}
        self._created: dict[str, float] = {}
        self.newest: str | None = None
        """Id of the seal key to seal with; None while none is known."""
        self._key = lru_cache(maxsize=20_000)(self._derive)

    def apply(self, key_id: str, part: int, nodes: str | None, created_at: float) -> None:
        """Take over a record of `seal.keys`. `nodes` None: the seal key is gone. Raises `ValueError` for nodes that cannot be read."""
        if nodes is None:
            self._parts.pop(key_id, None)
            self._created.pop(key_id, None)
        else:
            self._parts.setdefault(key_id, {})[part] = unpack(nodes)
            self._created[key_id] = created_at
        self.newest = max(self._created, key=lambda k: (self._created[k], k), default=None)
        # Derived keys of erased jobs must not outlive the tree.
        self._key.cache_clear()

    def knows(self, headers: Sequence[tuple[str, bytes | None]]) -> bool:
        """True when the seal key of a sealed record is known here; its own key may be destroyed."""
        return header(headers, SEAL_HEADER) in self._created

    def key(self, key_id: str, subject: str) -> bytes | None:
        """The key of a subject under a seal key; None when it is destroyed, or the seal key is not known."""
        return self._key(key_id, subject)

    def _derive(self, key_id: str, subject: str) -> bytes | None:
        parts = self._parts.get(key_id)
        if parts is None:
            return None
        below = parts.get(leaf_of(subject) >> (DEPTH - PART_DEPTH))
        found = key_of(below, subject) if below is not None else None
        return found if found is not None or below is not None else key_of(parts.get(MAIN, {}), subject)

    def seal(self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], nonce: bytes) -> tuple[bytes, tuple[tuple[str, bytes], ...]] | None:  # fmt: skip
        """Value and headers of the sealed record; None when the subject's key is destroyed. Raises `LookupError` while no seal key is known."""
        key_id = self.newest
        if key_id is None:
            raise LookupError("no seal key is known")
        derived = self.key(key_id, subject_of(key, headers))
        if derived is None:
            return None
        content = header(headers, "content-type") or "application/json"
        kept = [(n, v) for n, v in headers if n != "content-type"]
        more = [("content-type", CONTENT_TYPE), (SEAL_HEADER, key_id.encode()), (INNER_TYPE_HEADER, content.encode())]
        return seal(self.cipher, derived, nonce, value, key or b""), (*more, *kept)

    def open(
        self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes | None]]
    ) -> tuple[bytes, tuple[tuple[str, bytes | None], ...]]:
        """Value and headers as they were before sealing. Raises `KeyDestroyed` when the key is destroyed, unknown or another."""
        derived = self.key(header(headers, SEAL_HEADER) or "", subject_of(key, headers))
        if derived is None:
            raise KeyDestroyed("the job of this record is erased, or its seal key is not known here")
        try:
            plain = reveal(self.cipher, derived, value, key or b"")
        except Exception as error:  # the cipher's own class of error
            raise KeyDestroyed("the record was not sealed with this key") from error
        content = header(headers, INNER_TYPE_HEADER) or "application/json"
        ours = ("content-type", SEAL_HEADER, INNER_TYPE_HEADER)
        return plain, (("content-type", content.encode()), *((n, v) for n, v in headers if n not in ours))


def is_sealed(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """True for the headers of a sealed record."""
    return any(name == SEAL_HEADER for name, _ in headers)


def subject_of(key: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Whose key seals a record: the job's, else the session's."""
    return header(headers, SUBJECT_HEADER) or (key or b"").decode("utf-8", "replace")


def _children(node: bytes) -> tuple[bytes, bytes]:
    both = hmac.digest(node, b"stageline seal", "sha256")
    return both[:NODE_BYTES], both[NODE_BYTES:]


def _descend(node: bytes, leaf: int, depth: int) -> bytes:
    for level in range(depth, DEPTH):
        node = _children(node)[leaf >> (DEPTH - level - 1) & 1]
    return node
