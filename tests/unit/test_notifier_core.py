"""Signatures by the published vector, verdicts by the published schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from contracts.event_names import spellings_of, wanted
from contracts.job_events import JobFinished
from services.notifier.adapters.sender import HttpSender
from services.notifier.core.delivery import (
    RETRY_AFTER_MAX_S,
    SCHEDULE_S,
    DeliveryState,
    Result,
    delay_s,
    judge,
    retry_after_s,
)  # fmt: skip
from services.notifier.core.signature import new_secret, sign
from services.notifier.ports import Delivery
from shared.net.networks import LOOPBACK
from tests.webhook_receiver import Receiver


def test_the_published_vector() -> None:
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_public_library_verifies_ours() -> None:
    secret, now = new_secret(b"k" * 32), int(datetime.now(UTC).timestamp())
    headers = {"webhook-id": "e-1", "webhook-timestamp": str(now), "webhook-signature": sign(secret, "e-1", now, b'{"a": 1}')}
    assert Webhook(secret).verify(b'{"a": 1}', headers) == {"a": 1}


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_YWJj", "v1,whsec_abc"])
def test_a_bad_secret_says_what_is_wrong(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        sign(secret, "e", 1, b"")


def test_an_id_with_a_full_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="full stop"):
        sign(new_secret(b"k" * 24), "a.b", 1, b"")


@pytest.mark.parametrize("event_id", ["e-1", "order/4711~a", "a.b", "line\r\nbreak", "größe", "x" * 1000])
async def test_an_event_arrives_whatever_its_id_holds(event_id: str) -> None:
    sender = HttpSender(5, LOOPBACK)
    async with Receiver() as receiver:
        receiver.secret = new_secret(b"k" * 32)
        delivery = Delivery("end-1", event_id, "t", "job.finished", None, b'{"a": 1}', None, 1, receiver.url, receiver.secret)
        for _ in range(2):
            result = await sender.send(delivery, int(datetime.now(UTC).timestamp()))
            assert (result.status_code, result.error) == (204, None)
        [first, again] = [id_ for id_, _, _ in receiver.received]
        assert first == again and receiver.bad_signatures == 0
        assert (first == event_id) == (event_id in ("e-1", "order/4711~a"))
    await sender.close()


async def test_a_secret_that_cannot_sign_is_the_result_of_the_attempt() -> None:
    sender = HttpSender(5, LOOPBACK)
    delivery = Delivery("end-1", "e-1", "t", "job.finished", None, b"{}", None, 1, "http://127.0.0.1:9/", "no secret")
    assert (await sender.send(delivery, 1)).error == "sender_error"
    await sender.close()


def test_ten_attempts_over_three_days() -> None:
    assert len(SCHEDULE_S) == 10 and sum(SCHEDULE_S) == 75 * 3600 + 35 * 60 + 5


@pytest.mark.parametrize(
    ("result", "attempt", "state", "outcome"),
    [
        (Result(204), 1, DeliveryState.DELIVERED, "delivered"),
        (Result(302), 1, DeliveryState.RETRYING, "retrying"),
        (Result(404), 1, DeliveryState.RETRYING, "retrying"),
        (Result(500), 9, DeliveryState.RETRYING, "retrying"),
        (Result(500), 10, DeliveryState.EXHAUSTED, "exhausted"),
        (Result(410), 1, DeliveryState.SUPPRESSED, "disabled"),
        (Result(error="ssrf_refused"), 1, DeliveryState.REFUSED, "refused"),
        (Result(error="dns_error"), 1, DeliveryState.RETRYING, "retrying"),
    ],
)
def test_verdicts(result: Result, attempt: int, state: DeliveryState, outcome: str) -> None:
    verdict = judge(result, attempt, 1000.0, "seed", None)
    assert (verdict.state, verdict.outcome) == (state, outcome)
    assert (verdict.due_at is not None) == (state is DeliveryState.RETRYING)
    assert (verdict.disable is not None) == (outcome in ("disabled", "refused"))


def test_only_a_long_failure_disables_an_exhausted_endpoint() -> None:
    assert judge(Result(500), 10, 1e6, "s", 1e6 - 3600).disable is None
    assert "6 days" in str(judge(Result(500), 10, 1e6, "s", 1e6 - 6 * 86_400).disable)


def test_jitter_is_bounded_and_repeatable() -> None:
    delays = [delay_s(300, Result(500), f"s{n}") for n in range(200)]
    assert all(240 <= d <= 360 for d in delays) and len(set(delays)) > 100
    assert delay_s(300, Result(500), "x") == delay_s(300, Result(500), "x")


def test_retry_after_counts_within_bounds() -> None:
    assert delay_s(300, Result(503, retry_after_s=400), "s") == 400
    assert delay_s(300, Result(503, retry_after_s=1e9), "s") == RETRY_AFTER_MAX_S
    assert delay_s(300, Result(503, retry_after_s=1), "s") >= 240
    assert delay_s(86_400, Result(503, retry_after_s=1e9), "s") <= 2 * 1.2 * 86_400, "longer than the limit where the plan is"


def test_retry_after_counts_on_the_first_retry() -> None:
    verdict = judge(Result(429, retry_after_s=120), 1, 1000.0, "s", None)
    assert verdict.due_at == 1120.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("9" * 400, 999_999_999_999.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("\u00b2", None),
        ("Wed, 99 Oct 2015 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2015, 10, 21, 7, 28, tzinfo=UTC).timestamp()) == seconds


@pytest.mark.parametrize(
    ("filters", "hit"),
    [
        ([], True),
        (["*"], True),
        (["job.*"], True),
        (["job.finished"], True),
        (["job_finished_event"], True),
        (["file.*"], False),
        (["job"], False),
    ],
)
def test_filters(filters: list[str], hit: bool) -> None:
    names = spellings_of(JobFinished)
    assert names[0] == "job.finished" and wanted(filters, names) is hit
