"""Rate limits over three real gateways and one Redis: never more than the limit and its burst, nearly all of it, slots that come
back from the dead, and what is said while Redis is away.
"""

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from api import assert_problem, assert_served, get, predict, predict_on
from deadline import wait_until
from installation import Gateway, Installation, Worker
from resp import Redis
from servers import Servers
from tenancy import Key, Tenant, make_key, make_model, make_tenant, make_tier, route, unique
from wire import Answer, ConnectionEnded, Wire

LEASE_SECONDS = 1.0
GATEWAYS = 3


@dataclass
class Fleet:
    """An installation taken apart, with three gateways and nothing in front of them."""

    installation: Installation
    servers: Servers
    gateways: list[Gateway]

    def tenant(self, limits: list[dict[str, Any]]) -> Tenant:
        """A tenant whose subscription has these limits, known to every gateway."""
        made = make_tenant(self.installation)
        self.installation.admin.expect("PATCH", f"/admin/v1/tenants/{made.id}", {"rate_limits": limits}, (200,))
        # A gateway that has not seen the key asks for it, and finds the limits with it.
        return made

    def metric(self, gateway: Gateway, name: str) -> float:
        text = gateway.admin.call("GET", "/metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Installation() as installation:
        worker = Worker(installation, "honest", journal=False).start()
        slow = Worker(installation, "slow", ["--allow-faults"], journal=False).start()
        route(installation, "iris", worker.address)
        make_model(installation, "fault-slow", feature_count=None)
        route(installation, "fault-slow", slow.address)
        # Makes the tier that every tenant of these tests has.
        make_tenant(installation)
        servers = Servers(installation)
        settings = {"WEIR_RATE_LEASE_MS": str(int(LEASE_SECONDS * 1000)), "INFERENCE_TIMEOUT_SECONDS": "4"}
        gateways = [installation.gateway(f"gateway-{number}", settings).start() for number in range(GATEWAYS)]
        installation.described["admin_url"] = gateways[0].admin_url
        yield Fleet(installation, servers, gateways)


@dataclass
class Sent:
    began: float
    ended: float
    status: int
    answer: Answer


def send_for(fleet: Fleet, gateways: list[Gateway], key: str, seconds: float, connections: int = 2) -> list[Sent]:
    """Sends without a pause over several connections to each gateway; returns what came of each request."""
    sent: list[Sent] = []
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def run(gateway: Gateway) -> None:
        with Wire(gateway.public_url) as wire:
            while time.monotonic() < end:
                began = time.monotonic()
                answer = predict_on(wire, key)
                with lock:
                    sent.append(Sent(began, time.monotonic(), answer.status, answer))
                if answer.status != 200:
                    time.sleep(0.005)

    with ThreadPoolExecutor(len(gateways) * connections) as pool:
        for future in [pool.submit(run, gateway) for gateway in gateways for _ in range(connections)]:
            future.result()
    return sent


def most_beyond(sent: list[Sent], per_minute: int, burst: int) -> float:
    """By how many requests the worst window exceeds the burst and the rate. A request is admitted at some time between its beginning
    and its end: one that began and ended within a window was admitted in it.
    """
    served = [one for one in sent if one.status == 200]
    worst = float("-inf")
    for first in sorted(one.began for one in served):
        inside = sorted(one.ended for one in served if one.began >= first)
        for count, end in enumerate(inside, start=1):
            worst = max(worst, count - burst - per_minute / 60 * (end - first))
    return worst


def test_three_gateways_hold_one_limit_and_use_nearly_all_of_it(fleet: Fleet) -> None:
    per_minute, burst, seconds = 1_800, 20, 8.0
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": per_minute, "burst": burst}])
    sent = send_for(fleet, fleet.gateways, tenant.key, seconds)
    served = [one for one in sent if one.status == 200]
    refused = [one for one in sent if one.status != 200]
    assert refused, "the limit was never reached"
    assert most_beyond(sent, per_minute, burst) <= 0
    usable = burst + per_minute / 60 * seconds
    assert len(served) >= usable * 0.9, f"{len(served)} of {usable:.0f}"
    for one in refused[:50]:
        body = assert_problem(one.answer, 429, "rate_limited")
        assert body["violated-policies"] == ["rpm"]
        numbers = body["rate_limit"]
        assert (numbers["limit"], numbers["burst"], numbers["remaining"], numbers["requested"]) == (per_minute, burst, 0, 1)
        assert one.answer.header("retry-after") == "1"
        assert int(one.answer.header("retry-after-ms") or 0) == numbers["retry_after_ms"] >= 1
        assert one.answer.header("x-should-retry") is None
        assert one.answer.header("x-ratelimit-limit-requests") == str(per_minute)
        assert one.answer.header("x-ratelimit-remaining-requests") == "0"
        assert one.answer.header("ratelimit-policy") == f'"rpm";q={per_minute};w=60'
    for one in served[:50]:
        assert one.answer.header("x-ratelimit-limit-requests") == str(per_minute), "the tightest limit is shown"
        assert 0 <= int(one.answer.header("x-ratelimit-remaining-requests") or -1) <= burst
        assert f'"rpm";q={per_minute};w=60' in (one.answer.header("ratelimit-policy") or "")
        assert one.answer.header("x-weir-degraded") is None
    assert sum(fleet.metric(gateway, "weir_rate_limited_total") for gateway in fleet.gateways) >= len(refused)


def test_far_from_the_limit_nobody_is_asked(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 10_000_000}])
    gateway = fleet.gateways[0]
    before = fleet.metric(gateway, "weir_rate_exchanges_total")
    with Wire(gateway.public_url) as wire:
        for _ in range(300):
            assert_served(predict_on(wire, tenant.key))
    asked = fleet.metric(gateway, "weir_rate_exchanges_total") - before
    assert asked < 100, f"{asked} exchanges for 300 requests"


def test_one_unit_left_and_many_ask_at_once(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 1}])
    with ThreadPoolExecutor(60) as pool:
        answers = list(
            pool.map(lambda index: predict(fleet.gateways[index % GATEWAYS].public_url, tenant.key), range(300))
        )
    assert sorted({answer.status for answer in answers}) == [200, 429]
    assert sum(answer.status == 200 for answer in answers) == 1


def test_tokens_per_minute(fleet: Fleet) -> None:
    """Held is the most that a request could use; what it did not use is free again."""
    tenant = fleet.tenant([{"scope": "tenant", "unit": "tokens", "amount": 1_200, "burst": 1_000}])
    used = 0
    for number in range(200):
        answer = predict(fleet.gateways[number % GATEWAYS].public_url, tenant.key)
        if answer.status != 200:
            body = assert_problem(answer, 429, "rate_limited")
            assert body["rate_limit"]["unit"] == "tokens" and body["violated-policies"] == ["tpm"]
            assert 0 <= body["rate_limit"]["remaining"] < body["rate_limit"]["requested"]
            break
        usage = assert_served(answer)["usage"]
        used += usage["input_tokens"] + usage["output_tokens"]
    else:
        assert used <= 1_000 + 200, used
    too_large = fleet.tenant([{"scope": "tenant", "unit": "tokens", "amount": 1_200, "burst": 10}])
    answer = predict(fleet.gateways[0].public_url, too_large.key)
    assert "retry_after_ms" not in assert_problem(answer, 429, "rate_limited")["rate_limit"]
    assert answer.header("retry-after") is None and answer.header("x-should-retry") == "false"


def test_a_limit_of_nothing_and_one_that_is_lowered(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 600}])
    gateway = fleet.gateways[0]
    for _ in range(20):
        assert_served(predict(gateway.public_url, tenant.key))
    change = f"/admin/v1/tenants/{tenant.id}"
    fleet.installation.admin.expect(
        "PATCH", change, {"rate_limits": [{"scope": "tenant", "unit": "requests", "amount": 6, "burst": 2}]}, (200,)
    )
    answer = wait_until(
        lambda: (got := predict(gateway.public_url, tenant.key)).status == 429 and got, "the lower limit counts", 5
    )
    assert assert_problem(answer, 429, "rate_limited")["rate_limit"]["remaining"] == 0
    assert int(answer.header("retry-after") or 0) <= 20
    fleet.installation.admin.expect(
        "PATCH", change, {"rate_limits": [{"scope": "tenant", "unit": "requests", "amount": 0}]}, (200,)
    )
    wait_until(
        lambda: assert_problem(predict(gateway.public_url, tenant.key), 429, "rate_limited")["rate_limit"]["limit"] == 0,
        "a limit of nothing counts",
        5,
    )
    fleet.installation.admin.expect("PATCH", change, {"rate_limits": []}, (200,))
    wait_until(lambda: predict(gateway.public_url, tenant.key).status == 200, "without a limit it is served", 5)


def test_a_key_has_a_limit_of_its_own(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 600, "burst": 30}])
    limits = [{"unit": "requests", "amount": 6, "burst": 3}]
    slow: Key = make_key(fleet.installation.admin, tenant.id, rate_limits=limits)
    answers = [predict(fleet.gateways[number % GATEWAYS].public_url, slow.key) for number in range(30)]
    assert sum(answer.status == 200 for answer in answers) in (3, 4)
    assert assert_problem(answers[-1], 429, "rate_limited")["violated-policies"] == ["key-rpm"]
    # What the key was refused has cost the tenant nothing.
    for number in range(20):
        assert_served(predict(fleet.gateways[number % GATEWAYS].public_url, tenant.key))


def test_a_refusal_by_quota_gives_back_what_was_taken(fleet: Fleet) -> None:
    code = unique("tiny")
    make_tier(fleet.installation, code, [{"unit": "requests", "frequency": "month", "amount": 0, "mode": "hard"}])
    tenant = make_tenant(fleet.installation, code)
    path = f"/admin/v1/tenants/{tenant.id}"
    limit = [{"scope": "tenant", "unit": "requests", "amount": 1}]
    fleet.installation.admin.expect("PATCH", path, {"rate_limits": limit}, (200,))
    for number in range(9):
        # What one gateway gave back is there for the next.
        wait_until(lambda: units_held(fleet, tenant) == 0, "nothing is held", 2)
        answer = predict(fleet.gateways[number % GATEWAYS].public_url, tenant.key)
        assert_problem(answer, 429, "quota_exceeded")


class Busy:
    """Requests that keep a slow worker busy until it is given up."""

    def __init__(self, gateways: list[Gateway], key: str) -> None:
        self._answers: list[Answer | None] = [None] * len(gateways)
        self._threads = [
            threading.Thread(target=self._run, args=(index, gateway, key)) for index, gateway in enumerate(gateways)
        ]

    def _run(self, index: int, gateway: Gateway, key: str) -> None:
        try:
            self._answers[index] = predict(gateway.public_url, key, "fault-slow")
        except (OSError, ConnectionEnded):
            pass

    def __enter__(self) -> "Busy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(20)

    def statuses(self) -> list[int | None]:
        return [answer.status if answer else None for answer in self._answers]


def leases(fleet: Fleet, tenant: Tenant) -> list[list[int]]:
    """What Redis says of all gateways' leases: end, requests, tokens, slots."""
    assert fleet.installation.redis_url is not None
    with Redis(fleet.installation.redis_url) as redis:
        flat = redis.call("HGETALL", f"weir:rate:{{{tenant.id}}}")
    fields = dict(zip(flat[::2], flat[1::2]))
    return [[int(part) for part in value.split(":")] for name, value in fields.items() if len(name) > 1]


def slots_in_use(fleet: Fleet, tenant: Tenant) -> int:
    return sum(lease[3] for lease in leases(fleet, tenant))


def units_held(fleet: Fleet, tenant: Tenant) -> int:
    return sum(lease[1] for lease in leases(fleet, tenant))


def test_slots_over_three_gateways_and_a_slow_worker(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "concurrency", "amount": 3}])
    with Busy(fleet.gateways, tenant.key) as busy:
        wait_until(lambda: slots_in_use(fleet, tenant) == 3, "three requests are under way", 5)
        for gateway in fleet.gateways:
            answer = predict(gateway.public_url, tenant.key)
            body = assert_problem(answer, 429, "rate_limited")
            assert body["violated-policies"] == ["concurrency"] and body["rate_limit"]["limit"] == 3
            assert answer.header("retry-after") == "1"
        # Longer than a lease: the slots are renewed while the requests run.
        time.sleep(LEASE_SECONDS * 1.5)
        assert_problem(predict(fleet.gateways[0].public_url, tenant.key), 429, "rate_limited")
    assert busy.statuses() == [504, 504, 504]
    for gateway in fleet.gateways:
        wait_until(lambda g=gateway: predict(g.public_url, tenant.key).status == 200, "the slots are free again", 5)


def test_slots_of_a_killed_gateway_come_back_within_its_lease(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "concurrency", "amount": 2}])
    victim = fleet.installation.gateway(
        "victim", {"WEIR_RATE_LEASE_MS": str(int(LEASE_SECONDS * 1000)), "INFERENCE_TIMEOUT_SECONDS": "30"}
    ).start()
    with Busy([victim, victim], tenant.key):
        wait_until(lambda: slots_in_use(fleet, tenant) == 2, "two requests are under way", 5)
        survivor = fleet.gateways[0]
        assert_problem(predict(survivor.public_url, tenant.key), 429, "rate_limited")
        assert victim.process is not None
        victim.process.kill()
        died = time.monotonic()
        wait_until(lambda: predict(survivor.public_url, tenant.key).status == 200, "a slot is free", 10)
        assert time.monotonic() - died <= LEASE_SECONDS + 1.0


def test_redis_dies_in_the_middle_and_comes_back(fleet: Fleet) -> None:
    per_minute, burst = 600, 10
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": per_minute, "burst": burst}])
    wide = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 10_000_000}])
    for gateway in fleet.gateways:
        assert_served(predict(gateway.public_url, wide.key))
        assert get(gateway.public_url, "/readyz").json()["checks"]["rate_limits"] == "ok"
        assert fleet.metric(gateway, "weir_rate_limits_degraded") == 0
    assert fleet.servers.redis.process is not None
    fleet.servers.redis.process.kill()
    try:
        for gateway in fleet.gateways:
            answer = predict(gateway.public_url, wide.key)
            assert_served(answer)
            wait_until(
                lambda g=gateway: "rate_limits" in degraded(predict(g.public_url, wide.key)), "the answer says so", 5
            )
            ready = get(gateway.public_url, "/readyz")
            assert ready.status == 200 and ready.json()["ready"] is True
            assert "rate_limits" in ready.json()["degraded"] and ready.json()["checks"]["rate_limits"] == "in_process"
            assert fleet.metric(gateway, "weir_rate_limits_degraded") == 1
        began = time.monotonic()
        sent = send_for(fleet, fleet.gateways, tenant.key, 2.0)
        took = time.monotonic() - began
        assert all(one.status in (200, 429) for one in sent)
        served = sum(one.status == 200 for one in sent)
        assert served <= GATEWAYS * (burst + per_minute / 60 * took), "each gateway enforces the limit on its own"
        assert served > burst + per_minute / 60 * took, "the loss of exactness is real, and declared"
    finally:
        fleet.servers.redis.start()
    for gateway in fleet.gateways:
        wait_until(lambda g=gateway: get(g.public_url, "/readyz").json()["degraded"] == [], "exact again", 15)
        wait_until(lambda g=gateway: degraded(predict(g.public_url, wide.key)) == [], "and the answer says so", 5)
        assert fleet.metric(gateway, "weir_rate_limits_degraded") == 0
    sent = send_for(fleet, fleet.gateways, tenant.key, 3.0)
    assert most_beyond(sent, per_minute, burst) <= 0
    assert any(one.status == 429 for one in sent)


def test_redis_that_freezes_holds_up_nobody_for_long(fleet: Fleet) -> None:
    tenant = fleet.tenant([{"scope": "tenant", "unit": "requests", "amount": 600, "burst": 500}])
    assert fleet.servers.redis.process is not None
    fleet.servers.redis.process.send(signal.SIGSTOP)
    try:
        for gateway in fleet.gateways * 3:
            began = time.monotonic()
            assert_served(predict(gateway.public_url, tenant.key))
            assert time.monotonic() - began < 1, "a request waited for Redis"
    finally:
        fleet.servers.redis.process.send(signal.SIGCONT)
    for gateway in fleet.gateways:
        wait_until(lambda g=gateway: get(g.public_url, "/readyz").json()["degraded"] == [], "exact again", 15)


def test_an_unlimited_tenant_is_not_concerned(fleet: Fleet) -> None:
    tenant = make_tenant(fleet.installation)
    answer = predict(fleet.gateways[0].public_url, tenant.key)
    assert_served(answer)
    assert "rpm" not in (answer.header("ratelimit-policy") or "")


def degraded(answer: Answer) -> list[str]:
    return [value for name, value in answer.headers if name.lower() == "x-weir-degraded"]


def test_served_windows_are_counted_as_they_should_be() -> None:
    """The measure of these tests itself."""
    answer = Answer(200, "OK", "HTTP/1.1", [], b"")
    sent = [Sent(at, at + 0.01, 200, answer) for at in (0.0, 0.0, 0.0, 1.0)]
    assert most_beyond(sent, 60, 3) < 0 < most_beyond(sent, 60, 2)
