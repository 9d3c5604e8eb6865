"""What a tier says of requests that no worker answered, over two gateways: an input that the model refuses costs one request where the tier
charges that, once, whatever dies; whatever else fails is free; hits of the cache are free where the tier says so.
"""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from api import assert_problem, assert_served, get, predict_body, predict_headers
from bills import draft
from books import bare, quota_balances
from deadline import wait_until
from installation import Gateway, Installation, model_file
from jobs import finished, submit
from openai_stage import OpenAIStage, OpenAIWorker, RawStream, chat
from tenancy import Tenant, make_model, make_tenant, route, unique
from test_books_agree import found, rolled_up, sealed
from test_delivery import QUICK, ScriptedWorker
from wire import Answer, ConnectionEnded, send_once

pytestmark = pytest.mark.timeout(240)

PRICES = [{"meter": "request", "model": "*", "unit_price": "0.25"}, {"meter": "input_token", "model": "*", "unit_price": "0.001"}]
WIDE = [{"unit": unit, "frequency": "month", "amount": 1_000_000, "mode": "hard"} for unit in ("requests", "tokens")]
REQUEST_MICROS = 250_000


@dataclass
class Stage:
    installation: Installation
    gateways: list[Gateway]
    worker: ScriptedWorker
    model: str
    cached: str
    chat: OpenAIStage
    chat_model: str

    @property
    def urls(self) -> list[str]:
        return [gateway.public_url for gateway in self.gateways]

    def database(self) -> psycopg.Connection:
        return self.installation.database()

    def tenant(self, quotas: list[dict[str, Any]] = WIDE, **terms: Any) -> Tenant:
        """One of a tier of its own."""
        code = unique("terms")
        version = {"currency": "USD", "prices": PRICES, "quotas": quotas, **terms}
        made = self.gateways[0].admin.expect("POST", "/admin/v1/tiers", {"code": code, "name": code, "version": version}, (201,))
        assert made["version"]["failed_request"] == terms.get("failed_request", "free")
        assert made["version"]["cache_hit_request"] == terms.get("cache_hit_request", "charged")
        return make_tenant(self.installation, code)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        gateways = [installation.gateway(name, {"WEIR_LEASE_SECONDS": "2"}).start() for name in ("one", "two")]
        worker = ScriptedWorker(installation, "scripted").start()
        model, kept = unique("picky"), unique("kept")
        make_model(installation, model, feature_count=None)
        installation.admin.expect("PUT", f"/admin/v1/models/{model}/delivery", QUICK, (200,))
        route(installation, model, worker.address)
        with (
            installation.worker("quick", "--model", str(model_file(installation, kept))) as quick,
            installation.database() as database,
        ):
            make_model(installation, kept, cache={"enabled": True})
            route(installation, kept, quick.address)
            talk = OpenAIStage(installation, gateways, OpenAIWorker(installation, "talk"), database)
            made = Stage(installation, gateways, worker, model, kept, talk, talk.model())
            probe = make_tenant(installation)
            for url in made.urls:
                for name in (model, kept):
                    wait_until(lambda u=url, n=name: ask(u, probe, n).status == 200, "the model is there", 15)
            yield made


@pytest.fixture(autouse=True)
def well(stage: Stage) -> Iterator[None]:
    yield
    stage.worker.be("well")


def ask(url: str, tenant: Tenant, model: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    return send_once(url, "POST", "/predict/", {**predict_headers(tenant.key), **(headers or {})}, predict_body(model, **more), 30.0)


def entries(stage: Stage, tenant: Tenant) -> list[tuple]:
    """Request, requests and tokens of every entry, and what its request's row says."""
    with stage.database() as database:
        return database.execute(
            "SELECT l.request_id::text, l.requests, l.input_tokens, l.output_tokens, r.status, r.charged_requests, l.lease_id IS NOT NULL"
            " FROM ledger l LEFT JOIN requests r USING (request_id) WHERE l.tenant_id = %s ORDER BY 1", [tenant.id]).fetchall()  # fmt: skip


def charged(answer: Answer) -> tuple:
    return (bare(answer.request_id), 1, 0, 0, "failed", 1, True)


def assert_told(answer: Answer) -> None:
    """That it was charged, and why."""
    assert answer.header("x-weir-charged") == "failed_request"
    assert answer.header("x-weir-usage") == "in=0, cached=0, out=0"
    assert answer.header("x-weir-cost-micros") == f"{REQUEST_MICROS}; currency=USD"
    assert answer.header("x-weir-price-version")
    assert "Nothing was charged" not in answer.body.decode() and "One request was charged" in answer.body.decode()


def assert_free(stage: Stage, tenant: Tenant, answer: Answer) -> None:
    assert answer.header("x-weir-charged") is None and answer.header("x-weir-cost-micros") is None
    assert "was charged: the tier" not in answer.body.decode()
    assert entries(stage, tenant) == []


def test_a_refused_input_is_free_where_the_tier_says_nothing(stage: Stage) -> None:
    tenant = stage.tenant()
    for mode, status in (("422", 422), ("400", 422), ("413", 413)):
        stage.worker.be(mode)
        answer = ask(stage.urls[0], tenant, stage.model)
        assert answer.status == status
        assert_free(stage, tenant, answer)
        told = get(stage.urls[1], f"/api/v1/requests/{answer.request_id}", tenant.key).json()
        assert (told["status"], told["usage"], told["cost_micros"]) == ("failed", None, 0)


@pytest.mark.parametrize(("mode", "status", "code"), [
    ("422", 422, "validation_failed"), ("400", 422, "validation_failed"), ("413", 413, "request_too_large")])
def test_a_refused_input_costs_one_request_and_no_token(stage: Stage, mode: str, status: int, code: str) -> None:
    tenant = stage.tenant(failed_request="charged")
    stage.worker.be(mode)
    answers = [ask(url, tenant, stage.model) for url in stage.urls]
    for answer in answers:
        charge = assert_problem(answer, status, code)["charge"]
        assert_told(answer)
        price = answer.header("x-weir-price-version")
        assert charge == {
            "reason": "failed_request", "requests": 1, "price_version": price, "cost_micros": REQUEST_MICROS, "currency": "USD"}
        told = get(stage.urls[0], f"/api/v1/requests/{answer.request_id}", tenant.key).json()
        assert (told["status"], told["http_status"], told["cost_micros"], told["price_version"]) == (
            "failed", status, REQUEST_MICROS, price)
        assert told["usage"] == {
            "requests": 1, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "source": "fixed"}
        why = get(stage.urls[1], f"/api/v1/requests/{answer.request_id}/explain", tenant.key).json()
        assert why["failure"]["code"] == code and why["failure"]["charged"] is True
        assert (why["charge"]["reason"], why["charge"]["cost_micros"]) == ("failed_request", REQUEST_MICROS)
        assert [line["quantity"] for line in why["charge"]["lines"] if line["meter"] == "request"] == [1]
        assert {policy["policy"] for policy in why["admission"]["policies"]} == {"requests-month", "tokens-month"}
    assert entries(stage, tenant) == sorted(charged(answer) for answer in answers)
    assert stage.worker.seen() and len(stage.worker.seen()) == 2


def test_what_is_not_the_callers_fault_is_free_in_every_tier(stage: Stage) -> None:
    tenant = stage.tenant(failed_request="charged")
    for mode, status in (
        ("500", 502), ("503", 503), ("429", 503), ("404", 404), ("nonsense", 502), ("garbage", 502), ("hang-up", 502), ("hang", 504),
    ):  # fmt: skip
        stage.worker.be(mode)
        # The replica may be left out for a while after what it did.
        answer = wait_until(lambda: one_call(stage, tenant), f"{mode} is asked for", 20)
        assert answer.status == status, (mode, answer.body)
        assert_free(stage, tenant, answer)
    stage.worker.be("422")
    for answer in (
        ask(stage.urls[0], tenant, stage.model, features=[]), ask(stage.urls[0], tenant, unique("none")),
        send_once(stage.urls[0], "POST", "/predict/", predict_headers(tenant.key), b"{", 30.0),
    ):  # fmt: skip
        assert 400 <= answer.status < 500
        assert_free(stage, tenant, answer)
    wrong = ask(stage.urls[0], Tenant(tenant.id, tenant.key[:-6] + "000000", tenant.key_id), stage.model)
    assert wrong.status == 401
    assert_free(stage, tenant, wrong)


def one_call(stage: Stage, tenant: Tenant) -> Answer | None:
    """An answer to a request that the worker has seen."""
    before = len(stage.worker.seen())
    answer = ask(stage.urls[0], tenant, stage.model)
    return answer if len(stage.worker.seen()) > before else None


def test_a_quota_of_requests_counts_it(stage: Stage) -> None:
    narrow = [{"unit": "requests", "frequency": "month", "amount": 3, "mode": "hard"}]
    tenant, other = stage.tenant(narrow, failed_request="charged"), stage.tenant(narrow)
    stage.worker.be("422")
    statuses = [ask(stage.urls[number % 2], tenant, stage.model).status for number in range(5)]
    assert statuses == [422, 422, 422, 429, 429]
    assert [ask(stage.urls[number % 2], other, stage.model).status for number in range(5)] == [422] * 5
    with stage.database() as database:
        wait_until(lambda: [(b.settled, b.held, b.in_ledger) for b in quota_balances(database, tenant.id)] == [(3, 0, 3)],
            "the leases are closed", 40)  # fmt: skip


CRASHES = ["held", "worker_called", "settlement_queued", "batch_sent", "batch_committed", "commit_known", "answered"]


@pytest.mark.parametrize("point", CRASHES)
def test_under_a_key_it_is_charged_once_whatever_dies(stage: Stage, point: str) -> None:
    tenant, name = stage.tenant(failed_request="charged"), unique("key")
    stage.worker.be("422")
    dying = stage.gateways[0]
    dying.stop()
    dying.start({"WEIR_FAULT": f"crash:{point}:1"})

    def until_answered(urls: list[str]) -> Answer:
        def attempt() -> Answer | None:
            for url in urls:
                try:
                    answer = ask(url, tenant, stage.model, {"Idempotency-Key": name})
                except (OSError, ConnectionEnded):
                    continue
                if answer.status == 422:
                    return answer
                assert_problem(answer, 409, "idempotency_in_progress")
            return None

        return wait_until(attempt, "the request is answered", 60, 0.1)

    with ThreadPoolExecutor(8) as clients:
        first = clients.submit(until_answered, stage.urls)
        with stage.database() as database:
            wait_until(lambda: database.execute(
                "SELECT count(*) FROM idempotency_keys WHERE tenant_id = %s", [tenant.id]).fetchone() == (1,), "it is claimed", 20, 0.001)
        answers = [first.result(), *[f.result() for f in [clients.submit(until_answered, stage.urls[::-1]) for _ in range(6)]]]
    assert dying.process is not None and dying.process.wait(30) == -signal.SIGKILL
    dying.start()
    answers.append(until_answered(stage.urls[:1]))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert sum(answer.header("idempotent-replayed") is None for answer in answers) <= 1
    assert answers[-1].header("idempotent-replayed") == "true"
    for answer in answers:
        assert_problem(answer, 422, "validation_failed")
        assert_told(answer)
    fields = ("content-type", "x-request-id", "x-weir-error", "x-should-retry", "x-weir-price-version", "x-weir-model")
    assert len({tuple(answer.header(field) for field in fields) for answer in answers}) == 1
    assert entries(stage, tenant) == [charged(answers[0])]


def test_a_key_is_free_again_after_a_failure_that_is_free(stage: Stage) -> None:
    tenant, name = stage.tenant(), unique("key")
    stage.worker.be("422")
    assert ask(stage.urls[0], tenant, stage.model, {"Idempotency-Key": name}).status == 422
    stage.worker.be("well")
    served = ask(stage.urls[1], tenant, stage.model, {"Idempotency-Key": name})
    assert_served(served)
    assert served.header("idempotent-replayed") is None


@pytest.mark.parametrize("streams", [False, True])
def test_on_the_other_surfaces_and_in_a_stream_it_is_the_same(stage: Stage, streams: bool) -> None:
    tenant, name = stage.tenant(failed_request="charged"), unique("key")
    body = chat(stage.chat_model, unique("refuse"), stream=streams, script={"status": 400})
    headers = {**predict_headers(tenant.key), "Idempotency-Key": name}
    answers = [
        send_once(url, "POST", "/v1/chat/completions", headers, json.dumps(body).encode(), 30.0) for url in stage.urls + stage.urls
    ]
    for answer in answers:
        assert answer.status == 400 and answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.header("content-type") == "application/json"
        assert_told(answer)
    assert len({(answer.body, answer.request_id) for answer in answers}) == 1
    assert [answer.header("idempotent-replayed") for answer in answers] == [None, "true", "true", "true"]
    assert entries(stage, tenant) == [charged(answers[0])]
    if streams:
        # What fails behind its beginning is a stream that was cut, as ever.
        cut = chat(stage.chat_model, unique("cut"), stream=True, script={"error_after": 2})
        RawStream(stage.gateways[0], tenant.key, cut).events()
        assert sorted(row[4] for row in entries(stage, tenant)) == ["completed", "failed"]


def test_a_job_that_fails_is_free(stage: Stage) -> None:
    tenant = stage.tenant(failed_request="charged")
    stage.worker.be("422")
    accepted = submit(stage.urls[0], tenant.key, stage.model)
    assert accepted.status == 202, accepted.body
    job = finished(stage.urls[1], tenant.key, accepted.json()["request_id"])
    assert job["status"] == "failed" and job["error"]["code"] == "validation_failed"
    assert entries(stage, tenant) == [] and len(stage.worker.seen()) == 1


@pytest.mark.parametrize("percent", [0, 100])
def test_hits_are_free_where_the_tier_says_so(stage: Stage, percent: int) -> None:
    narrow = [{"unit": "requests", "frequency": "month", "amount": 2, "mode": "hard"}]
    tenant = stage.tenant(narrow, cache_hit_request="free", cache_hit_token_percent=percent)
    features = [5.1, 3.5, 1.4, percent / 10]
    miss = ask(stage.urls[0], tenant, stage.cached, features=features)
    assert assert_served(miss)["cached"] is False
    # All at one gateway: what is left of so small a quota is with one of them.
    hits = [ask(stage.urls[0], tenant, stage.cached, features=features) for _ in range(10)]
    for hit in hits:
        body = assert_served(hit)
        assert body["cached"] is True
        cost = f"{body['usage']['input_tokens'] * 1_000}; currency=USD"
        assert hit.header("x-weir-cost-micros") == cost and (percent == 100) == (cost != "0; currency=USD")
        why = get(stage.urls[0], f"/api/v1/requests/{body['request_id']}/explain", tenant.key).json()["charge"]
        assert (why["reason"], f"{why['cost_micros']}; currency=USD") == ("cache_hit", cost)
        assert get(stage.urls[1], f"/api/v1/requests/{body['request_id']}", tenant.key).json()["usage"]["requests"] == 0
    rows = entries(stage, tenant)
    assert len(rows) == 11 and sum(row[1] for row in rows) == 1
    assert {row[4:] for row in rows} == {("completed", None, True), ("completed", 0, True)}
    # One of the two requests of the quota is left.
    assert [ask(stage.urls[0], tenant, stage.cached, features=[9, 9, 9, n]).status for n in (1, 2)] == [200, 429]
    # A job's hit as well.
    other = stage.tenant(cache_hit_request="free")
    assert_served(ask(stage.urls[0], other, stage.cached))
    job = submit(stage.urls[0], other.key, stage.cached)
    assert finished(stage.urls[1], other.key, job.json()["request_id"])["status"] == "completed"
    assert sorted(row[1] for row in entries(stage, other)) == [0, 1]


def test_hits_are_charged_where_the_tier_says_nothing(stage: Stage) -> None:
    tenant = stage.tenant()
    for _ in range(3):
        assert_served(ask(stage.urls[0], tenant, stage.cached))
    assert [row[1] for row in entries(stage, tenant)] == [1, 1, 1]


def test_usage_invoices_and_reconciliation_follow(stage: Stage) -> None:
    tenant = stage.tenant(failed_request="charged", cache_hit_request="free", cache_hit_token_percent=0)
    for _ in range(4):
        assert_served(ask(stage.urls[0], tenant, stage.cached))
    stage.worker.be("422")
    for number in range(3):
        assert ask(stage.urls[number % 2], tenant, stage.model).status == 422
    tokens = sum(row[2] for row in entries(stage, tenant))
    micros = 4 * REQUEST_MICROS + tokens * 1_000
    usage = wait_until(lambda: total(stage, tenant, 4), "all of it is told", 20)
    assert usage["requests"] == 4
    with stage.database() as database:
        rolled_up(database)
        sealed(database)
    # What is late in being known is a matter of seconds.
    invoice = draft(stage.gateways[1], tenant, datetime.now(timezone.utc))
    lines = {(line["model"], line["meter"]): line["quantity"] for line in invoice["lines"] if line.get("meter") == "request"}
    assert sum(int(quantity) for quantity in lines.values()) == 4
    assert invoice["subtotal_micros"] == micros
    assert found(stage.installation) == []
    # A charged failure has a proof as any entry.
    request = next(row[0] for row in entries(stage, tenant) if row[4] == "failed")
    with stage.database() as database:
        assert database.execute("SELECT count(*) FROM sealed_entries WHERE entry_id = %s", [request]).fetchone() == (1,)


def total(stage: Stage, tenant: Tenant, requests: int) -> dict[str, Any] | None:
    usage = get(stage.urls[0], "/api/v1/usage", tenant.key).json()["total"]
    return usage if usage["requests"] == requests else None


DIFFERENCES = {
    "request_without_entry": ("DELETE FROM ledger WHERE entry_id = %s", "req_"),
    "entry_without_request": ("UPDATE requests SET charged_requests = NULL WHERE request_id = %s", "led_"),
    "entry_differs_from_request": ("UPDATE ledger SET requests = 0 WHERE entry_id = %s", "led_"),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_a_charged_failure_that_was_touched_is_named(stage: Stage, kind: str) -> None:
    tenant = stage.tenant(failed_request="charged")
    stage.worker.be("422")
    assert ask(stage.urls[0], tenant, stage.model).status == 422
    [row] = entries(stage, tenant)
    change, prefix = DIFFERENCES[kind]
    with stage.database() as database:
        rolled_up(database)
        sealed(database)
        kept = "requests" if kind == "entry_without_request" else "ledger"
        key = "request_id" if kept == "requests" else "entry_id"
        database.autocommit = False
        database.execute("SET session_replication_role = replica")  # no trigger
        database.execute(f"CREATE TEMPORARY TABLE kept_row AS SELECT * FROM {kept} WHERE {key} = %s", [row[0]])  # noqa: S608
        database.execute(change, [row[0]])
        database.commit()
        try:
            differences = found(stage.installation, "--tenant", tenant.id)
        finally:
            database.execute(f"DELETE FROM {kept} WHERE {key} = %s", [row[0]])  # noqa: S608
            database.execute(f"INSERT INTO {kept} SELECT * FROM kept_row")  # noqa: S608
            database.execute("DROP TABLE kept_row")
            database.commit()
    assert (kind, prefix + row[0]) in differences
    assert found(stage.installation, "--tenant", tenant.id) == []


def test_the_report_of_errors_counts_each_request_once_whatever_was_charged(stage: Stage) -> None:
    def outcomes(model: str) -> tuple[int, int]:
        rows = stage.installation.admin.expect("GET", "/admin/v1/reports/errors?limit=1000")["data"]
        return next(((row["errors"], row["requests"]) for row in rows if row["model"] == model and row["error_code"] is None), (0, 0))

    tenant = stage.tenant(failed_request="charged", cache_hit_request="free")
    before = {model: outcomes(model) for model in (stage.model, stage.cached)}
    stage.worker.be("422")
    refused = [ask(url, tenant, stage.model) for url in stage.urls]
    assert [answer.header("x-weir-charged") for answer in refused] == ["failed_request"] * 2
    answered = [ask(stage.urls[0], tenant, stage.cached) for _ in range(3)]
    assert [answer.status for answer in answered] == [200] * 3 and sum(each[1] for each in entries(stage, tenant)) < 5
    assert outcomes(stage.model) == (before[stage.model][0] + 2, before[stage.model][1] + 2)
    assert outcomes(stage.cached) == (before[stage.cached][0], before[stage.cached][1] + 3)
