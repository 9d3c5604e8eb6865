"""`Idempotency-Key` over three gateways on one database: one worker call, one charge and the same bytes, whatever dies."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import psycopg
import pytest

from api import assert_problem, assert_served, get, predict_body, predict_headers
from books import journal_calls, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, Worker, model_file
from tenancy import Tenant, make_model, make_tenant, route, unique
from wire import Answer, ConnectionEnded, send_once

pytestmark = pytest.mark.timeout(240)

LEASE_SECONDS = 2
SLOW_MS = 1500
OTHER_ROW = [6.7, 3.0, 5.2, 2.3]


@dataclass
class Stage:
    """An installation with three gateways, and workers that write down what they are asked."""

    installation: Installation
    gateways: list[Gateway]
    workers: list[Worker]

    @property
    def urls(self) -> list[str]:
        return [gateway.public_url for gateway in self.gateways]

    def worker_calls(self) -> int:
        return journal_calls(*(worker.journal_path for worker in self.workers)).total()

    def database(self) -> psycopg.Connection:
        return self.installation.database()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        delay = ["--delay-ms", str(SLOW_MS)]
        with (
            installation.worker("quick") as quick,
            installation.worker("slow", *delay, "--model", str(model_file(installation, "slow"))) as slow,
        ):
            route(installation, "iris", quick.address)
            make_model(installation, "slow")
            route(installation, "slow", slow.address)
            environment = {"WEIR_LEASE_SECONDS": str(LEASE_SECONDS)}
            gateways = [installation.gateway(f"idem{number}", environment).start() for number in range(3)]
            yield Stage(installation, gateways, [quick, slow])


@pytest.fixture
def tenant(stage: Stage) -> Tenant:
    return make_tenant(stage.installation)


def ask(url: str, key: str, name: str | None, model: str = "iris", path: str = "/predict/", **more: object) -> Answer:
    """One prediction with an idempotency key."""
    headers = predict_headers(key) | ({"Idempotency-Key": name} if name is not None else {})
    return send_once(url, "POST", path, headers, predict_body(model, **more), 30.0)


def ask_until_answered(urls: list[str], key: str, name: str, model: str = "iris") -> Answer:
    """What a client does: repeats the request, anywhere, until it is answered."""

    def attempt() -> Answer | None:
        for url in urls:
            try:
                answer = ask(url, key, name, model)
            except (OSError, ConnectionEnded):
                continue
            if answer.status == 200:
                return answer
            assert_problem(answer, 409, "idempotency_in_progress")
            assert answer.header("retry-after") == "1"
        return None

    return wait_until(attempt, "the request is answered", 60, 0.1)


def is_replay(answer: Answer) -> bool:
    return answer.header("idempotent-replayed") == "true"


def is_claimed(database: psycopg.Connection, tenant: Tenant, name: str) -> bool:
    return (
        database.execute(
            "SELECT count(*) FROM idempotency_keys WHERE tenant_id = %s AND idempotency_key = %s",
            [tenant.id, name],
        ).fetchone()
        == (1,)
    )


def assert_one_charge(stage: Stage, tenant: Tenant, answer: Answer) -> None:
    with stage.database() as database:
        entries = usage_entries(database, tenant.id)
        rows = [row for row in request_rows(database, tenant.id) if row.status == "completed"]
    assert [f"req_{entry.request_id}" for entry in entries] == [answer.request_id]
    assert [f"req_{row.request_id}" for row in rows] == [answer.request_id]


class Dies(StrEnum):
    BEFORE_WORK = "its worker was not asked; another gateway's is"
    BEFORE_COMMIT = "the work is lost and done again"
    AROUND_COMMIT = "the writer's thread may or may not have been quicker"
    AFTER_COMMIT = "the charge is made and its answer never left"


CRASHES = {
    "held": Dies.BEFORE_WORK,
    "worker_called": Dies.BEFORE_WORK,
    "worker_answered": Dies.BEFORE_COMMIT,
    "settlement_queued": Dies.AROUND_COMMIT,
    "batch_sent": Dies.BEFORE_COMMIT,
    "batch_committed": Dies.AFTER_COMMIT,
    "commit_known": Dies.AFTER_COMMIT,
    "answered": Dies.AFTER_COMMIT,
}


@pytest.mark.parametrize("point", CRASHES)
def test_a_hundred_at_once_and_a_crash_are_one_call_one_charge_and_the_same_bytes(
    stage: Stage, tenant: Tenant, point: str
) -> None:
    dying = stage.gateways[0]
    dying.stop()
    dying.start({"WEIR_FAULT": f"crash:{point}:1"})
    name = unique("crash")
    before = stage.worker_calls()
    with stage.database() as database, ThreadPoolExecutor(100) as clients:
        first = clients.submit(ask_until_answered, [stage.urls[0], *stage.urls[1:]], tenant.key, name)
        # The first one is the dying gateway's for certain; the others come while it works, dies, or is dead.
        wait_until(lambda: is_claimed(database, tenant, name), "the key is claimed", 20, 0.001)
        others = [
            clients.submit(ask_until_answered, stage.urls[number % 3 :] + stage.urls[: number % 3], tenant.key, name)
            for number in range(99)
        ]
        answers = [future.result() for future in [first, *others]]
    assert dying.process is not None
    assert dying.process.wait(30) == -signal.SIGKILL
    dying.start()
    assert {answer.body for answer in answers} == {answers[0].body}
    assert {answer.request_id for answer in answers} == {assert_served(answers[0])["request_id"]}
    calls, first_hand = stage.worker_calls() - before, sum(not is_replay(answer) for answer in answers)
    match CRASHES[point]:
        case Dies.BEFORE_WORK:
            assert (calls, first_hand) == (1, 1)
        case Dies.BEFORE_COMMIT:
            assert (calls, first_hand) == (2, 1)
        case Dies.AFTER_COMMIT:
            assert (calls, first_hand) == (1, 0)
        case Dies.AROUND_COMMIT:
            assert (calls, first_hand) in [(2, 1), (1, 0)]
    assert_one_charge(stage, tenant, answers[0])


def test_a_hundred_at_once_without_a_crash(stage: Stage, tenant: Tenant) -> None:
    name = unique("flood")
    before = stage.worker_calls()
    with ThreadPoolExecutor(100) as clients:
        answers = list(
            clients.map(
                lambda number: ask_until_answered(
                    stage.urls[number % 3 :] + stage.urls[: number % 3], tenant.key, name, "slow"
                ),
                range(100),
            )
        )
    assert {answer.body for answer in answers} == {answers[0].body}
    assert sum(not is_replay(answer) for answer in answers) == 1
    assert stage.worker_calls() - before == 1
    assert_one_charge(stage, tenant, answers[0])


def test_a_replay_is_the_answer_byte_for_byte_and_survives_every_gateway(stage: Stage, tenant: Tenant) -> None:
    name = unique("replay")
    first = ask(stage.urls[0], tenant.key, name)
    assert_served(first)
    assert not is_replay(first)
    second = ask(stage.urls[1], tenant.key, f'"{name}"', path="/predict")
    for gateway in stage.gateways:
        assert gateway.stop() == 0
    for gateway in stage.gateways:
        gateway.start()
    third = ask(stage.urls[2], tenant.key, name)
    for answer in (second, third):
        assert is_replay(answer)
        assert (answer.status, answer.body) == (200, first.body)
        for header in ("content-type", "x-request-id", "x-weir-usage", "x-weir-cost-micros", "x-weir-price-version"):
            assert answer.header(header) == first.header(header) is not None, header
    assert_one_charge(stage, tenant, first)


def test_the_same_key_with_another_body_is_refused(stage: Stage, tenant: Tenant) -> None:
    name = unique("other")
    first = ask(stage.urls[0], tenant.key, name)
    assert_served(first)
    refused = ask(stage.urls[1], tenant.key, name, features=OTHER_ROW)
    assert_problem(refused, 422, "idempotency_mismatch")
    assert refused.header("x-should-retry") == "false"
    assert_problem(ask(stage.urls[2], tenant.key, name, "slow"), 422, "idempotency_mismatch")
    assert_one_charge(stage, tenant, first)


def test_in_flight_on_another_gateway_is_a_conflict(stage: Stage, tenant: Tenant) -> None:
    name = unique("flight")
    with stage.database() as database, ThreadPoolExecutor(1) as clients:
        first = clients.submit(ask, stage.urls[0], tenant.key, name, "slow")
        wait_until(lambda: is_claimed(database, tenant, name), "the key is claimed", 20, 0.001)
        for url in stage.urls:
            refused = ask(url, tenant.key, name, "slow")
            assert_problem(refused, 409, "idempotency_in_progress")
            assert refused.header("retry-after") == "1"
        answer = first.result()
    assert_served(answer)
    assert ask(stage.urls[1], tenant.key, name, "slow").body == answer.body
    assert_one_charge(stage, tenant, answer)


def test_another_tenants_key_of_the_same_text_is_another(stage: Stage, tenant: Tenant) -> None:
    name = unique("shared")
    stranger = make_tenant(stage.installation)
    mine, theirs = ask(stage.urls[0], tenant.key, name), ask(stage.urls[1], stranger.key, name, features=OTHER_ROW)
    assert assert_served(mine)["request_id"] != assert_served(theirs)["request_id"]
    assert not is_replay(mine) and not is_replay(theirs)
    assert_one_charge(stage, tenant, mine)
    assert_one_charge(stage, stranger, theirs)


@pytest.mark.parametrize("name", ["", " ", "a b", "ä", "k" * 256, '"open', '"a"b', '"a";b=c', "a\tb"])
def test_what_is_no_key_is_refused_and_costs_nothing(stage: Stage, tenant: Tenant, name: str) -> None:
    before = stage.worker_calls()
    assert_problem(ask(stage.urls[0], tenant.key, name), 400, "bad_request")
    assert stage.worker_calls() == before
    with stage.database() as database:
        assert usage_entries(database, tenant.id) == []


def test_two_keys_in_one_request_are_refused(stage: Stage, tenant: Tenant) -> None:
    headers = [*predict_headers(tenant.key).items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    assert_problem(send_once(stage.urls[0], "POST", "/predict/", headers, predict_body()), 400, "bad_request")


def test_the_longest_key_is_one(stage: Stage, tenant: Tenant) -> None:
    name = unique("long").ljust(255, "~")
    first = ask(stage.urls[0], tenant.key, name)
    assert_served(first)
    assert ask(stage.urls[1], tenant.key, name).body == first.body


def test_after_48_hours_it_runs_anew(stage: Stage, tenant: Tenant) -> None:
    name = unique("old")
    first = ask(stage.urls[0], tenant.key, name)
    with stage.database() as database:
        left = database.execute(
            "SELECT extract(epoch FROM expires_at - clock_timestamp())::float FROM idempotency_keys"
            " WHERE tenant_id = %s",
            [tenant.id],
        ).fetchone()
        assert left is not None and 48 * 3600 - 60 < left[0] <= 48 * 3600
        shift = "UPDATE idempotency_keys SET expires_at = expires_at - %s * interval '1 second' WHERE tenant_id = %s"
        database.execute(shift, [48 * 3600 - 120, tenant.id])
        assert is_replay(ask(stage.urls[1], tenant.key, name))
        database.execute(shift, [121, tenant.id])
        anew = ask(stage.urls[2], tenant.key, name, features=OTHER_ROW)
        assert not is_replay(anew)
        assert assert_served(anew)["request_id"] != assert_served(first)["request_id"]
        assert len(usage_entries(database, tenant.id)) == 2


def test_what_was_not_charged_runs_again(stage: Stage, tenant: Tenant) -> None:
    name = unique("failed")
    assert_problem(ask(stage.urls[0], tenant.key, name, "unknown-model"), 404, "model_not_found")
    assert_problem(ask(stage.urls[1], tenant.key, name, features=[1.0]), 422, "validation_failed")
    make_model(stage.installation, unrouted := unique("unrouted"))
    wait_until(
        lambda: ask(stage.urls[0], tenant.key, name, unrouted).json()["code"] == "no_healthy_worker",
        "the model without a worker is known",
        20,
    )
    answer = ask(stage.urls[2], tenant.key, name)
    assert_served(answer)
    assert not is_replay(answer)
    assert_one_charge(stage, tenant, answer)


def test_a_gateway_that_slept_past_its_claim_charges_nothing(stage: Stage, tenant: Tenant) -> None:
    name = unique("sleeper")
    sleeper = stage.gateways[0].process
    assert sleeper is not None
    with stage.database() as database, ThreadPoolExecutor(1) as clients:
        late = clients.submit(ask, stage.urls[0], tenant.key, name, "slow")
        wait_until(lambda: is_claimed(database, tenant, name), "the key is claimed", 20, 0.001)
        sleeper.send(signal.SIGSTOP)
        try:
            answer = ask_until_answered(stage.urls[1:], tenant.key, name, "slow")
        finally:
            sleeper.send(signal.SIGCONT)
        assert_problem(late.result(), 409, "idempotency_in_progress")
    assert not is_replay(answer)
    again = ask_until_answered(stage.urls[:1], tenant.key, name, "slow")
    assert is_replay(again) and again.body == answer.body
    assert_one_charge(stage, tenant, answer)


def test_a_claim_outlives_many_lease_times_while_its_request_runs(stage: Stage, tenant: Tenant) -> None:
    """Slower than a claim lasts: without renewal the second request would take it over."""
    name, model = unique("patient"), unique("patient")
    path = model_file(stage.installation, model)
    delay = ["--delay-ms", str(3 * LEASE_SECONDS * 1000)]
    with stage.installation.worker(model, *delay, "--model", str(path)) as patient:
        make_model(stage.installation, model)
        route(stage.installation, model, patient.address)
        for url in stage.urls:
            wait_until(lambda url=url: model in get(url, "/health").json()["models"], "the model is known", 20)
        with stage.database() as database, ThreadPoolExecutor(1) as clients:
            first = clients.submit(ask, stage.urls[0], tenant.key, name, model)
            wait_until(lambda: is_claimed(database, tenant, name), "the key is claimed", 20, 0.001)
            began = time.monotonic()
            while (answer := ask(stage.urls[1], tenant.key, name, model)).status == 409:
                assert_problem(answer, 409, "idempotency_in_progress")
                time.sleep(0.2)
            assert time.monotonic() - began > 2 * LEASE_SECONDS
            assert_served(first.result())
        assert is_replay(answer) and answer.body == first.result().body
        assert journal_calls(patient.journal_path).total() == 1
    assert_one_charge(stage, tenant, answer)
