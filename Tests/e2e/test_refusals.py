"""What a client is told when a limit or an idempotency key is in its way: its own code, the numbers that decided, and when to come
again; on two gateways that share one database.
"""

import asyncio
import json
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from api import assert_problem, assert_served, get, predict, predict_body, predict_headers
from books import usage_entries
from deadline import wait_until
from installation import Gateway, Installation, model_file
from load import read_answer
from quota_watch import quota_samples
from tenancy import Tenant, make_model, make_tenant, make_tier, route, unique
from wire import Wire, head

pytestmark = pytest.mark.timeout(120)

LEASE_SECONDS = 2
SLOW_MS = 2_000
MONTH_SECONDS = 31 * 86_400


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Installation, list[Gateway]]]:
    with Installation() as installation:
        delay = ["--delay-ms", str(SLOW_MS), "--model", str(model_file(installation, "slow"))]
        with installation.worker("slow", *delay) as slow:
            make_model(installation, "slow")
            route(installation, "slow", slow.address)
            environment = {"WEIR_LEASE_SECONDS": str(LEASE_SECONDS)}
            yield installation, [installation.gateway(name, environment).start() for name in ("one", "two")]


def limited(installation: Installation, unit: str, amount: int, tier: str | None = None) -> Tenant:
    code = tier or unique("narrow")
    make_tier(installation, code, [{"unit": unit, "frequency": "month", "amount": amount, "mode": "hard"}])
    return make_tenant(installation, code)


def nothing_held(installation: Installation, tenant: Tenant) -> bool:
    with installation.database() as database:
        return all(sample.granted == 0 for sample in quota_samples(database, tenant.id))


def test_over_the_quota_of_requests(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, (one, two) = stage
    tenant = limited(installation, "requests", 1)
    assert_served(predict(one.public_url, tenant.key))
    for gateway in (two, one):
        answer = predict(gateway.public_url, tenant.key)
        body = assert_problem(answer, 429, "quota_exceeded")
        assert body["violated-policies"] == ["requests-month"]
        numbers = body["quota"]
        assert (numbers["unit"], numbers["limit"], numbers["requested"]) == ("requests", 1, 1)
        assert numbers["settled"] + numbers["held"] == 1
        wait = int(answer.header("retry-after") or -1)
        assert 0 < wait <= MONTH_SECONDS
        assert answer.header("x-should-retry") == "false", "no client library should wait for a month"
        assert answer.header("ratelimit") == f'"requests-month";r=0;t={wait}'
        assert (answer.header("ratelimit-policy") or "").startswith('"requests-month";q=1;w=')
        assert answer.header("x-ratelimit-limit-requests") == "1"
        assert answer.header("x-ratelimit-remaining-requests") == "0"
        assert answer.header("x-ratelimit-reset-requests")


def test_over_the_quota_of_tokens(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, "tokens", 400)
    used = 0
    for number in range(200):
        answer = predict(gateways[number % 2].public_url, tenant.key)
        if answer.status != 200:
            break
        used += sum(assert_served(answer)["usage"][name] for name in ("input_tokens", "output_tokens"))
    body = assert_problem(answer, 429, "quota_exceeded")
    assert body["violated-policies"] == ["tokens-month"]
    numbers = body["quota"]
    left = 400 - numbers["settled"] - numbers["held"]
    assert numbers["unit"] == "tokens" and 0 <= left < numbers["requested"]
    assert 0 < used <= 400
    assert f'r={left};' in (answer.header("ratelimit") or "")
    assert 'qu="tokens"' in (answer.header("ratelimit-policy") or "")
    assert answer.header("x-ratelimit-remaining-tokens") == str(left)
    assert int(answer.header("retry-after") or 0) > 0


def test_over_the_limit_of_requests_at_once(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, (one, two) = stage
    tenant = make_tenant(installation)
    limits = [{"scope": "tenant", "unit": "concurrency", "amount": 1}]
    installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"rate_limits": limits}, (200,))
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(predict, one.public_url, tenant.key, "slow")
        shown = wait_until(lambda: slots_left(two, tenant) == 0 and rate_line(two, tenant), "the slot is taken", 5)
        answer = predict(two.public_url, tenant.key)
        assert_served(busy.result())
    assert shown == {"policy": "concurrency", "scope": "tenant", "unit": "concurrency", "limit": 1, "remaining": 0,
                     "mode": "exact"}
    body = assert_problem(answer, 429, "rate_limited")
    assert body["violated-policies"] == ["concurrency"]
    assert body["rate_limit"] == {
        "policy": "concurrency", "scope": "tenant", "unit": "concurrency", "limit": 1, "burst": 1, "remaining": 0,
        "requested": 1, "retry_after_ms": 1_000,
    }
    assert answer.header("retry-after") == "1" and answer.header("x-should-retry") is None
    assert answer.header("ratelimit") == '"concurrency";r=0'
    assert answer.header("ratelimit-policy") == '"concurrency";q=1;qu="concurrent-requests"'
    wait_until(lambda: predict(two.public_url, tenant.key).status == 200, "the slot is free again", 5)


def rate_line(gateway: Gateway, tenant: Tenant) -> dict:
    (line,) = get(gateway.public_url, "/api/v1/quota", tenant.key).json()["rate_limits"]
    return line


def slots_left(gateway: Gateway, tenant: Tenant) -> int:
    return rate_line(gateway, tenant)["remaining"]


def test_rate_limits_are_shown_as_the_headers_say(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, (one, two) = stage
    tenant = make_tenant(installation)
    limits = [{"scope": "tenant", "unit": "requests", "amount": 60, "burst": 30}]
    installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"rate_limits": limits}, (200,))
    # A gateway that served nothing knows as much as the one that did.
    line = rate_line(two, tenant)
    assert line == {
        "policy": "rpm", "scope": "tenant", "unit": "requests", "limit": 60, "burst": 30, "window_seconds": 60,
        "remaining": 30, "reset_seconds": 0, "mode": "exact",
    }
    for _ in range(10):
        answer = predict(one.public_url, tenant.key)
        assert_served(answer)
    after = int(answer.header("x-ratelimit-remaining-requests") or -1)
    for gateway in (one, two):
        # A unit is earned every second; what the first gateway has left goes back when it is idle.
        line = wait_until(
            lambda g=gateway: after <= (got := rate_line(g, tenant))["remaining"] <= after + 4 and got, "told", 3
        )
        assert 0 < line["reset_seconds"] <= 11


def test_a_quota_of_nothing(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    for unit in ("requests", "tokens"):
        tenant = limited(installation, unit, 0)
        for gateway in gateways:
            answer = predict(gateway.public_url, tenant.key)
            numbers = assert_problem(answer, 429, "quota_exceeded")["quota"]
            assert (numbers["limit"], numbers["settled"], numbers["held"]) == (0, 0, 0)
            assert answer.header(f"x-ratelimit-remaining-{unit}") == "0"
            assert "r=0" in (answer.header("ratelimit") or "")


def test_a_limit_that_falls_below_what_was_used(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, "requests", 100)
    for number in range(20):
        assert_served(predict(gateways[number % 2].public_url, tenant.key))
    lower = unique("lower")
    make_tier(installation, lower, [{"unit": "requests", "frequency": "month", "amount": 5, "mode": "hard"}])
    installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"tier": lower}, (200,))
    for gateway in gateways:
        answer = wait_until(
            lambda g=gateway: (got := predict(g.public_url, tenant.key)).status == 429 and got, "the change is known", 5
        )
        numbers = assert_problem(answer, 429, "quota_exceeded")["quota"]
        assert numbers["limit"] == 5 and numbers["settled"] + numbers["held"] >= 20
        assert answer.header("x-ratelimit-remaining-requests") == "0"
        assert '"requests-month";r=0' in (answer.header("ratelimit") or "")
        (shown,) = get(gateway.public_url, "/api/v1/quota", tenant.key).json()["data"]
        assert (shown["limit"], shown["available"]) == (5, 0) and shown["settled"] + shown["held"] >= 20


async def at_once(gateways: list[Gateway], key: str, count: int) -> Counter[tuple[int, str | None]]:
    """Opens all connections, and only then sends a request on each; returns how often each status and code came."""
    body = predict_body()
    streams = []
    for number in range(count):
        port = gateways[number % len(gateways)].port
        streams.append((port, *await asyncio.open_connection("127.0.0.1", port)))

    async def one(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str | None]:
        headers = {**predict_headers(key), "Content-Length": str(len(body))}
        writer.write(head("POST", "/predict/", f"127.0.0.1:{port}", headers) + body)
        status, _, answer = await asyncio.wait_for(read_answer(reader), 60)
        writer.close()
        return status, None if status == 200 else code_of(answer)

    return Counter(await asyncio.gather(*(one(*stream) for stream in streams)))


def code_of(body: bytes) -> str:
    return json.loads(body)["code"]


def test_a_thousand_at_once_with_one_unit_left(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4_096), most))
    tenant = limited(installation, "requests", 10)
    for number in range(9):
        assert_served(predict(gateways[number % 2].public_url, tenant.key))
    wait_until(lambda: nothing_held(installation, tenant), "idle gateways give everything back", LEASE_SECONDS + 5)
    answers = asyncio.run(at_once(gateways, tenant.key, 1_000))
    assert answers == {(200, None): 1, (429, "quota_exceeded"): 999}
    with installation.database() as database:
        assert len(usage_entries(database, tenant.id)) == 10


def test_a_gateway_that_slept_past_its_lease_charges_nothing_beyond_the_limit(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    """What it held has gone to another gateway meanwhile; the work that it did is nobody's."""
    installation, (sleeper, awake) = stage
    tenant = limited(installation, "requests", 6)
    assert sleeper.process is not None
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(predict, sleeper.public_url, tenant.key, "slow")
        wait_until(lambda: not nothing_held(installation, tenant), "the sleeper has a lease", 10)
        sleeper.process.send(signal.SIGSTOP)
        try:
            wait_until(lambda: nothing_held(installation, tenant), "its lease is over", LEASE_SECONDS + 5)
            statuses = [predict(awake.public_url, tenant.key).status for _ in range(7)]
        finally:
            sleeper.process.send(signal.SIGCONT)
        answer = late.result()
    assert statuses == [200] * 6 + [429]
    assert answer.status in (429, 503, 504), (answer.status, answer.body)
    assert_problem(predict(sleeper.public_url, tenant.key), 429, "quota_exceeded")
    with installation.database() as database:
        assert len(usage_entries(database, tenant.id)) == 6


@pytest.mark.parametrize(
    "field",
    [
        b"Idempotency-Key: a\r\n b",
        b"Idempotency-Key: a\rb",
        b"Idempotency-Key: a\nb",
        b"Idempotency-Key: a\x00b",
        b"Idempotency-Key: a\x7fb",
        b"Idempotency-Key: \xc3\xa4",
        b"Idempotency-Key:",
        b"Idempotency-Key: " + b"k" * 256,
        b"Idempotency-Key: a\r\nidempotency-key: b",
    ],
)
def test_bytes_that_are_no_idempotency_key(stage: tuple[Installation, list[Gateway]], field: bytes) -> None:
    installation, gateways = stage
    tenant = make_tenant(installation)
    body = predict_body()
    for gateway in gateways:
        with Wire(gateway.public_url) as wire:
            start = head("POST", "/predict/", wire.host, {**predict_headers(tenant.key), "Content-Length": str(len(body))})
            wire.send(start[:-2] + field + b"\r\n\r\n" + body)
            assert_problem(wire.read_answer(), 400, "bad_request")
    with installation.database() as database:
        assert usage_entries(database, tenant.id) == []
