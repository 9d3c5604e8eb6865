"""The cache of predictions over two real gateways: one question, one call of a worker; hits that are charged; tenants that share nothing;
Redis that dies, or lies; clearing that reaches everybody.
"""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from api import assert_problem, assert_served, get, predict_body, predict_headers
from books import bare, journal_calls, usage_entries
from deadline import wait_until
from installation import REPOSITORY, Gateway, Installation, Worker
from process import send_signal
from resp import Redis
from servers import Servers
from tenancy import Tenant, make_model, make_tenant, make_tier, route, unique
from wire import Answer, Wire, send_once


@dataclass
class Stage:
    """An installation taken apart, with two gateways and a worker that keeps a journal of its calls."""

    installation: Installation
    servers: Servers
    gateways: list[Gateway]
    worker: Worker
    names: list[str]
    probe: Tenant

    def model(self, **policy: Any) -> str:
        """A model of a test's own, with a cache that every gateway knows of."""
        name = self.names.pop()
        make_model(self.installation, name, cache={"enabled": True, **policy})
        route(self.installation, name, self.worker.address)
        for gateway in self.gateways:
            wait_until(
                lambda gateway=gateway: ask(gateway, self.probe, name, {"x-weir-cache": "bypass"}).status == 200,
                f"{gateway.name} knows {name}",
                10,
            )
        return name

    def calls(self, *answers: Answer) -> int:
        """How many of these requests a worker was asked for."""
        journal = journal_calls(self.worker.journal_path)
        return sum(journal[bare(answer.request_id)] for answer in answers)

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self.installation.database_url, autocommit=True)

    def statistics(self, **query: str) -> list[dict[str, Any]]:
        parameters = "&".join(f"{name}={value}" for name, value in query.items())
        return self.installation.admin.expect("GET", f"/admin/v1/cache/stats?{parameters}")["data"]


def ask(
    gateway: Gateway, tenant: Tenant, model: str, headers: dict[str, str] | None = None, features: Any = None
) -> Answer:
    return send_once(
        gateway.public_url,
        "POST",
        "/predict/",
        {**predict_headers(tenant.key), **(headers or {})},
        predict_body(model, features),
        30.0,
    )


def status(answer: Answer) -> str:
    return answer.header("cache-status") or ""


def is_hit(answer: Answer) -> bool:
    return assert_served(answer)["cached"]


def models(installation: Installation, names: list[str]) -> str:
    """A folder with the built-in model under several names, so that each test has one of its own."""
    folder = installation.folder / "models"
    folder.mkdir()
    model = json.loads((REPOSITORY / "Sources/ReferenceWorker/Models/iris.json").read_text())
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps({**model, "name": name}))
    return str(folder)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        names = [f"cached-{number}" for number in range(12)]
        worker = Worker(installation, "journaling", ["--model", models(installation, names), "--delay-ms", "50"]).start()
        probe = make_tenant(installation)
        servers = Servers(installation)
        # A machine that runs other tests beside this one may take its time.
        settings = {"WEIR_CACHE_REDIS_TIMEOUT_MS": "200"}
        gateways = [installation.gateway(f"gateway-{number}", settings).start() for number in range(2)]
        installation.described["admin_url"] = gateways[0].admin_url
        yield Stage(installation, servers, gateways, worker, names, probe)


@pytest.fixture
def tenant(stage: Stage) -> Tenant:
    return make_tenant(stage.installation)


def at_once(stage: Stage, tenant: Tenant, model: str, count: int, connections: int = 50) -> list[Answer]:
    """Sends the same question so many times over both gateways, as nearly at once as it goes."""
    body = predict_body(model)
    headers = predict_headers(tenant.key)

    def run(number: int) -> list[Answer]:
        with Wire(stage.gateways[number % 2].public_url, timeout=60) as wire:
            return [wire.request("POST", "/predict/", headers, body) for _ in range(count // connections)]

    with ThreadPoolExecutor(connections) as pool:
        return [answer for answers in pool.map(run, range(connections)) for answer in answers]


def test_a_thousand_at_once_are_one_call(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    answers = at_once(stage, tenant, model, 1_000)
    bodies = [assert_served(answer) for answer in answers]
    assert len(bodies) == 1_000
    assert len({str(body["prediction"]) for body in bodies}) == 1
    assert stage.calls(*answers) == 1
    assert sum(not body["cached"] for body in bodies) == 1
    with stage.database() as database:
        entries = usage_entries(database, tenant.id)
        assert len(entries) == 1_000
        sources = database.execute(
            "SELECT token_source, count(*), sum(served_input_tokens), sum(input_tokens) FROM ledger WHERE tenant_id = %s GROUP BY 1",
            (tenant.id,),
        ).fetchall()
        rows = database.execute(
            "SELECT cached, count(*) FROM requests WHERE tenant_id = %s GROUP BY 1", (tenant.id,)
        ).fetchall()
    by_source = {row[0]: row[1:] for row in sources}
    assert by_source["cache"][0] == 999
    assert by_source["cache"][1] == by_source["cache"][2], "the whole of its tokens is charged where the tier says nothing else"
    assert dict(rows) == {True: 999, False: 1}


def test_what_a_hit_costs_is_the_tiers(stage: Stage) -> None:
    code = unique("half")
    make_tier_of_hits(stage, code, 50)
    tenant = make_tenant(stage.installation, code)
    model = stage.model()
    first, second = (ask(stage.gateways[0], tenant, model) for _ in range(2))
    full, half = assert_served(first)["usage"], assert_served(second)["usage"]
    assert (half["input_tokens"], half["output_tokens"]) == (full["input_tokens"] // 2, full["output_tokens"] // 2)
    assert half["source"] == "cache" and full["source"] != "cache"
    with stage.database() as database:
        rows = database.execute(
            "SELECT input_tokens, output_tokens, served_input_tokens, served_output_tokens, requests, token_source FROM ledger"
            " WHERE tenant_id = %s ORDER BY entry_id",
            (tenant.id,),
        ).fetchall()
    assert rows[0][2:5] == (0, 0, 1)
    assert rows[1] == (
        half["input_tokens"], half["output_tokens"], full["input_tokens"], full["output_tokens"], 1, "cache",
    )
    with stage.database() as database:
        wait_until(
            lambda: database.execute(
                """SELECT hits, served_input_tokens, served_output_tokens, hit_input_tokens, hit_output_tokens FROM term_usage
                WHERE tenant_id = %s""", (tenant.id,)).fetchone()
            == (1, full["input_tokens"], full["output_tokens"], half["input_tokens"], half["output_tokens"]),
            "the hit is rolled up as one", 30)

    def reported() -> dict[str, Any]:
        return get(stage.gateways[1].public_url, "/api/v1/usage", tenant.key).json()["total"]

    wait_until(lambda: reported()["requests"] == 2, "usage has both requests", 10)
    assert reported()["input_tokens"] == full["input_tokens"] + half["input_tokens"]
    shown = get(stage.gateways[1].public_url, f"/api/v1/requests/{second.request_id}", tenant.key).json()
    assert shown["cached"] is True and shown["usage"]["input_tokens"] == half["input_tokens"]


def make_tier_of_hits(stage: Stage, code: str, percent: int) -> None:
    stage.installation.admin.expect(
        "POST",
        "/admin/v1/tiers",
        {
            "code": code,
            "name": code,
            "version": {
                "currency": "USD",
                "prices": [{"meter": "input_token", "model": "*", "unit_price": "0.000001"}],
                "quotas": [{"unit": "tokens", "frequency": "month", "amount": 1_000_000_000, "mode": "hard"}],
                "cache_hit_token_percent": percent,
            },
        },
        (201,),
    )


def test_a_request_says_what_it_wants(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    gateway, other = stage.gateways
    assert_problem(ask(gateway, tenant, model, {"Cache-Control": "only-if-cached"}), 504, "not_cached")
    first = ask(gateway, tenant, model, {"x-weir-cache-ttl": "2"})
    assert status(first) == "weir; fwd=uri-miss; stored" and first.header("age") is None
    second = ask(other, tenant, model, {"x-weir-cache": "only"})
    assert status(second) in ("weir; hit; ttl=1", "weir; hit; ttl=0") and int(second.header("age") or "-1") in (0, 1, 2)
    assert is_hit(second) and stage.calls(first, second) == 1
    bypassed = ask(gateway, tenant, model, {"Cache-Control": "no-store"})
    assert status(bypassed) == "weir; fwd=bypass" and not is_hit(bypassed)
    wait_until(lambda: not is_hit(ask(gateway, tenant, model, {"x-weir-cache-ttl": "60"})), "the answer ends", 5)
    refreshed = ask(gateway, tenant, model, {"Cache-Control": "no-cache"})
    assert status(refreshed) == "weir; fwd=request; stored"
    for headers in ({"x-weir-cache": "perhaps"}, {"x-weir-cache-ttl": "0"}, {"x-weir-cache-key": "a b"}):
        assert_problem(ask(gateway, tenant, model, headers), 400, "bad_request")


def test_tenants_share_nothing(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    stranger = make_tenant(stage.installation)
    assert [is_hit(ask(stage.gateways[0], tenant, model)) for _ in range(3)] == [False, True, True]
    assert [is_hit(ask(stage.gateways[number], stranger, model)) for number in (0, 1)] == [False, True]
    wait_until(lambda: len(stage.statistics(model=model, tenant_id=tenant.id)) == 1, "what was counted is written", 10)

    def counted(one: Tenant) -> tuple[int, int]:
        rows = stage.statistics(model=model, tenant_id=one.id)
        return (rows[0]["hits"], rows[0]["misses"]) if rows else (0, 0)

    wait_until(lambda: (counted(tenant), counted(stranger)) == ((2, 1), (1, 1)), "each has its own counts", 10)
    stage.installation.admin.expect("POST", "/admin/v1/cache/clear", {"tenant_id": stranger.id})
    wait_until(lambda: not is_hit(ask(stage.gateways[0], stranger, model)), "the stranger's answer is gone", 3)
    assert is_hit(ask(stage.gateways[0], tenant, model))


def test_clearing_reaches_both_gateways_within_a_second(stage: Stage, tenant: Tenant) -> None:
    model = stage.model(levels=["memory", "redis", "table"])
    labels = ["user123_a", "user123_b", "user4_a"]

    def hits(gateway: Gateway) -> list[bool]:
        return [
            ask(gateway, tenant, model, {"x-weir-cache-key": label, "x-weir-cache": "only"}).status == 200 for label in labels
        ]

    for label in labels:
        ask(stage.gateways[0], tenant, model, {"x-weir-cache-key": label})
    assert [hits(gateway) for gateway in stage.gateways] == [[True] * 3] * 2
    clear = {"tenant_id": tenant.id, "pattern": "user123_*"}
    stage.installation.admin.expect("POST", "/admin/v1/cache/clear", clear)
    began = time.monotonic()
    wait_until(
        lambda: [hits(gateway) for gateway in stage.gateways] == [[False, False, True]] * 2, "the pattern is cleared", 3, every=0.05
    )
    assert time.monotonic() - began < 1.5
    stage.installation.admin.expect("POST", "/admin/v1/cache/clear", {"model": model})
    wait_until(lambda: [hits(gateway) for gateway in stage.gateways] == [[False] * 3] * 2, "the model is cleared", 3, every=0.05)
    refused = stage.installation.admin.call("POST", "/admin/v1/cache/clear", {"model": model, "pattern": "*"})
    assert refused.status == 422, "a pattern is always of one tenant"


def test_a_byte_that_was_changed_is_a_miss(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    before = set(keys(stage))
    first = ask(stage.gateways[0], tenant, model)
    wait_until(lambda: len(set(keys(stage)) - before) == 1, "the answer is in Redis", 5)
    (key,) = set(keys(stage)) - before
    with Redis(stage.installation.redis_url or "") as redis:
        length = int(redis.call("STRLEN", key))
        redis.call("SETRANGE", key, str(length // 2), "#")
    second = ask(stage.gateways[1], tenant, model)
    assert not is_hit(second) and stage.calls(first, second) == 2
    assert is_hit(ask(stage.gateways[1], tenant, model))


def keys(stage: Stage) -> list[str]:
    with Redis(stage.installation.redis_url or "") as redis:
        return redis.call("KEYS", "weir:cache:*")


def test_the_table_outlives_the_gateways_and_redis(stage: Stage, tenant: Tenant) -> None:
    model = stage.model(levels=["memory", "table"], ttl_seconds=600)
    first = ask(stage.gateways[0], tenant, model)

    def rows() -> list[tuple[Any, ...]]:
        with stage.database() as database:
            return database.execute(
                "SELECT access_count, last_accessed, expires_at > cached_at FROM prediction_cache WHERE model_name = %s", (model,)
            ).fetchall()

    wait_until(lambda: len(rows()) == 1, "the row is written", 5)
    second = ask(stage.gateways[1], tenant, model)
    assert is_hit(second) and stage.calls(first, second) == 1
    wait_until(lambda: rows()[0][0] >= 1 and rows()[0][1] is not None, "the reading is written down", 5)


def test_redis_dies_in_the_middle_and_comes_back(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    assert not is_hit(ask(stage.gateways[0], tenant, model))
    assert stage.servers.redis.process is not None
    stage.servers.redis.process.kill()
    try:
        other = make_tenant(stage.installation)
        answers = at_once(stage, other, model, 200)
        assert all(answer.status == 200 for answer in answers)
        assert 1 <= stage.calls(*answers) <= 2, "at most one for each gateway"

        def degraded(gateway: Gateway) -> bool:
            body = get(gateway.public_url, "/readyz").json()
            return body["ready"] and "cache" in body["degraded"] and body["checks"]["cache"] == "in_process"

        for gateway in stage.gateways:
            wait_until(lambda gateway=gateway: degraded(gateway), f"{gateway.name} says so", 5)
        named = ask(stage.gateways[0], tenant, model)
        assert is_hit(named) and "cache" in [value for name, value in named.headers if name.lower() == "x-weir-degraded"]
        # Clearing needs no Redis.
        stage.installation.admin.expect("POST", "/admin/v1/cache/clear", {"tenant_id": tenant.id})
        wait_until(lambda: not is_hit(ask(stage.gateways[0], tenant, model)), "cleared without Redis", 3)
    finally:
        stage.servers.redis.start()
    for gateway in stage.gateways:
        wait_until(
            lambda gateway=gateway: "cache" not in get(gateway.public_url, "/readyz").json()["degraded"], "it is back", 15
        )
    fresh = make_tenant(stage.installation)
    assert [is_hit(ask(gateway, fresh, model)) for gateway in stage.gateways] == [False, True]


def test_redis_that_hangs_is_a_miss(stage: Stage, tenant: Tenant) -> None:
    model = stage.model()
    assert stage.servers.redis.process is not None
    pid = stage.servers.redis.process.pid
    send_signal(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert not is_hit(ask(stage.gateways[0], tenant, model))
        assert time.monotonic() - began < 1.0
        assert is_hit(ask(stage.gateways[0], tenant, model))
    finally:
        send_signal(pid, signal.SIGCONT)
