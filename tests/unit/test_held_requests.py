"""One caller cannot hold the places of all others: waits, streams and sockets are counted by key, by tenant and in total."""

from __future__ import annotations

import pytest

from shared.web.concurrency import HeldRequests, TooMany


def test_a_key_a_tenant_and_everybody_have_a_limit() -> None:
    held = HeldRequests("streams", total=4, per_tenant=3, per_key=2)
    held.take("a", "k1")
    held.take("a", "k1")
    with pytest.raises(TooMany, match="for this key") as key:
        held.take("a", "k1")
    held.take("a", "k2")
    with pytest.raises(TooMany, match="for this tenant") as tenant:
        held.take("a", "k3")
    held.take("b", "k1")
    with pytest.raises(TooMany, match="4 streams are open") as everybody:
        held.take("c", "k1")
    assert [e.value.status for e in (key, tenant, everybody)] == [429, 429, 503]
    assert everybody.value.code == "overloaded"


def test_a_refused_request_counts_nothing_and_a_place_is_given_back() -> None:
    held = HeldRequests("waits", total=1, per_tenant=1, per_key=1)
    for _ in range(3):
        with held.hold("a", "k"), pytest.raises(TooMany):
            held.take("b", "k")
    with pytest.raises(RuntimeError), held.hold("a", "k"):
        raise RuntimeError
    with held.hold("b", "k"):
        assert len(held._held) == 3
    assert not held._held, "callers that left take no memory"
