"""Each dependency dead, frozen or mad: the declared status, nothing served unmetered, nothing billed that failed, and
recovery alone.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import keys
from api import assert_problem, assert_served, get, predict
from books import bare, busy_settlements, entries_of, journal_calls, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, Worker, answers_ok
from load import Load, Share
from reconciliation import reconcile
from record import ClientRecord
from servers import Servers
from tenancy import Tenant, make_model, make_tenant, route
from wire import Answer


INFERENCE_SECONDS = 1
STORAGE_SECONDS = 1
HEALTH_SECONDS = 5
FAULTS = (
    "fault-slow",
    "fault-500",
    "fault-garbage",
    "fault-hang-up",
    "fault-huge",
    "fault-lying",
    "fault-negative",
    "fault-redirect",
    "fault-wrong-length",
)


@dataclass
class Stage:
    """An installation taken apart: every server can be hurt, and the gateway is one that nobody restarts."""

    installation: Installation
    servers: Servers
    gateway: Gateway
    honest: Worker
    failing: Worker
    tenant: Tenant
    # For traffic whose books are compared afterwards.
    spare_tenants: list[Tenant]

    def predict(self, model: str = "iris", timeout: float = 30.0) -> Answer:
        return predict(self.gateway.public_url, self.tenant.key, model, timeout=timeout)

    def await_served(self, seconds: float = 20.0) -> None:
        wait_until(lambda: self.predict(timeout=10).status == 200, "predictions are served again", seconds, every=0.1)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        tenant, *spare_tenants = [make_tenant(installation) for _ in range(3)]
        honest = Worker(installation, "honest").start()
        failing = Worker(installation, "failing", ["--allow-faults"]).start()
        route(installation, "iris", honest.address)
        for fault in FAULTS:
            make_model(installation, fault, feature_count=None)
            route(installation, fault, failing.address)
        servers = Servers(installation)
        gateway = installation.gateway(
            "alone",
            {"INFERENCE_TIMEOUT_SECONDS": str(INFERENCE_SECONDS)},
        ).start()
        # The admin listener of `weir dev` is gone; the gateway has one of its own.
        installation.described["admin_url"] = gateway.admin_url
        yield Stage(installation, servers, gateway, honest, failing, tenant, spare_tenants)


@contextmanager
def books_must_balance(stage: Stage, name: str) -> Iterator[Load]:
    """Traffic of a tenant of its own around what happens inside; afterwards the three records must agree."""
    tenant = stage.spare_tenants.pop()
    earlier = journal_calls(stage.honest.journal_path)
    record = ClientRecord(stage.installation.log_folder / f"{name}.record")
    with Load(stage.gateway.port, tenant.key, record, connections=16, mix=(Share("iris", 1),)) as load:
        wait_until(lambda: load.acknowledged >= 50, "traffic flows", 20)
        yield load
        goal = load.acknowledged + 50
        wait_until(lambda: load.acknowledged >= goal, "traffic flows again", 30)
    record.close()
    with stage.installation.database() as database:
        wait_until(lambda: busy_settlements(database) == 0, "every settlement has ended", 15)
        # Whoever waits for the service to come back calls the same worker for another tenant; those calls explain nothing here and must
        # not take the place of one that does.
        others = {row.request_id for row in request_rows(database, stage.tenant.id)}
        calls = journal_calls(stage.honest.journal_path) - earlier
        result = reconcile(
            record.read(),
            {request_id: count for request_id, count in calls.items() if request_id not in others},
            usage_entries(database, tenant.id),
            request_rows(database, tenant.id),
        )
    print(f"{name}: {result}")
    assert result.violations == [], str(result)


# --- PostgreSQL


def refuse_all(stage: Stage) -> None:
    """What a gateway without its database says on every kind of route."""
    answer = wait_until(lambda: (got := stage.predict(timeout=20)).status == 503 and got, "metering is unavailable", 30)
    assert_problem(answer, 503, "metering_unavailable")
    assert int(answer.header("retry-after") or 0) >= 1
    began = time.monotonic()
    assert_problem(stage.predict(), 503, "metering_unavailable")
    assert time.monotonic() - began < 2, "the refusal takes long although the state is known"
    assert get(stage.gateway.public_url, "/healthz", timeout=2).status == 200
    # Asked every few seconds by a balancer that gives up soon: no waiting for the pool's own time limit.
    ready = get(stage.gateway.public_url, "/readyz", timeout=HEALTH_SECONDS)
    assert ready.status == 503
    assert ready.json()["ready"] is False and "postgres" in ready.json()["degraded"], ready.body
    assert int(ready.header("retry-after") or 0) >= 1
    health = get(stage.gateway.public_url, "/health", timeout=HEALTH_SECONDS)
    assert (health.status, health.json()["status"], health.json()["postgres"]) == (200, "degraded", "down")
    # Checked before any look-up, so the database is not missed.
    began = time.monotonic()
    assert_problem(
        predict(stage.gateway.public_url, keys.with_wrong_checksum(keys.well_formed())), 401, "invalid_api_key"
    )
    assert time.monotonic() - began < 1


def test_postgresql_frozen(stage: Stage) -> None:
    stage.await_served()
    stopped = stage.servers.postgres.pause()
    try:
        before = sum(journal_calls(stage.honest.journal_path).values())
        refuse_all(stage)
        reached = sum(journal_calls(stage.honest.journal_path).values())
        for _ in range(5):
            stage.predict()
        assert sum(journal_calls(stage.honest.journal_path).values()) == reached, (
            "a worker was called for a refused request"
        )
        assert reached - before <= 1, "more than what was under way reached a worker"
    finally:
        stage.servers.postgres.resume(stopped)
    stage.await_served()


def test_postgresql_killed(stage: Stage) -> None:
    stage.await_served()
    stage.servers.postgres.kill()
    try:
        refuse_all(stage)
    finally:
        stage.servers.postgres.start()
    stage.await_served()
    wait_until(
        lambda: get(stage.gateway.public_url, "/readyz").json()["degraded"] == [], "the gateway says that it has recovered", 5
    )


def test_nothing_is_lost_or_doubled_when_postgresql_is_killed_under_load(stage: Stage) -> None:
    stage.await_served()
    with books_must_balance(stage, "killed-under-load"):
        for _ in range(2):
            stage.servers.postgres.kill()
            stage.servers.postgres.start()
            stage.await_served()


def test_nothing_is_lost_or_doubled_when_postgresql_freezes_under_load(stage: Stage) -> None:
    stage.await_served()
    with books_must_balance(stage, "frozen-under-load") as load:
        stopped = stage.servers.postgres.pause()
        try:
            wait_until(lambda: load.refused >= 10, "requests are refused", 40)
        finally:
            stage.servers.postgres.resume(stopped)
        stage.await_served()


@pytest.mark.parametrize("target", ["/api/v1/usage", "/api/v1/quota", "/api/v1/requests"])
def test_reads_without_postgresql(stage: Stage, target: str) -> None:
    stage.await_served()
    limits = {"DB_POOL_TIMEOUT": str(STORAGE_SECONDS), "QUERY_TIMEOUT": str(STORAGE_SECONDS)}
    reader = stage.installation.gateway(f"reader{target.replace('/', '-')}", limits).start()
    assert get(reader.public_url, target, stage.tenant.key).status == 200
    stopped = stage.servers.postgres.pause()
    try:
        began = time.monotonic()
        answer = get(reader.public_url, target, stage.tenant.key)
        took = time.monotonic() - began
    finally:
        stage.servers.postgres.resume(stopped)
    assert_problem(answer, 503, "storage_unavailable")
    assert int(answer.header("retry-after") or 0) >= 1
    assert took < STORAGE_SECONDS + 3, f"{took:.2f} s"
    reader.stop()


def test_a_gateway_that_starts_without_its_database_waits_for_it(stage: Stage) -> None:
    stage.servers.postgres.kill()
    late = stage.installation.gateway("late")
    try:
        process = late.launch()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert process.is_alive, f"the gateway gave up\n{process.tail()}"
            assert not answers_ok(late.public_url, "/readyz"), "the gateway is ready without its database"
            time.sleep(0.05)
    finally:
        stage.servers.postgres.start()
    wait_until(lambda: predict(late.public_url, stage.tenant.key).status == 200, "the gateway serves", 20)
    assert late.stop() == 0


# --- Redis


def test_redis_killed(stage: Stage) -> None:
    stage.await_served()
    assert stage.servers.redis.process is not None
    stage.servers.redis.process.kill()
    try:
        answers = []

        def says_so() -> bool:
            answer = stage.predict()
            answers.append(answer)
            return answer.header("x-weir-degraded") == "redis"

        wait_until(says_so, "the answer says that Redis is away", 15)
        for answer in answers:
            assert_served(answer)
        def lost() -> list[str]:
            # The cache finds out when it is used, or when it looks after what it holds.
            return [name for name in get(stage.gateway.public_url, "/readyz").json()["degraded"] if name != "cache"]

        # Each part finds out by itself, and the watch over PostgreSQL may still have to notice that it is back.
        wait_until(lambda: lost() == ["redis", "rate_limits"], "the health page says what is lost, and no more", 10)
        ready = get(stage.gateway.public_url, "/readyz")
        assert (ready.status, ready.json()["ready"]) == (200, True)
        health = get(stage.gateway.public_url, "/health")
        assert (health.status, health.json()["status"], health.json()["redis"]) == (200, "degraded", "down")
    finally:
        stage.servers.redis.start()
    wait_until(lambda: stage.predict().header("x-weir-degraded") is None, "the gateway has Redis again", 15)
    wait_until(lambda: get(stage.gateway.public_url, "/readyz").json()["degraded"] == [], "nothing is degraded", 5)


def test_redis_frozen(stage: Stage) -> None:
    stage.await_served()
    assert stage.servers.redis.process is not None
    stage.servers.redis.process.send(signal.SIGSTOP)
    try:
        for _ in range(10):
            began = time.monotonic()
            assert_served(stage.predict())
            assert time.monotonic() - began < 1, "a request waited for Redis"
        wait_until(
            lambda: stage.predict().header("x-weir-degraded") == "redis", "the answer says that Redis is away", 15
        )
    finally:
        stage.servers.redis.process.send(signal.SIGCONT)
    wait_until(lambda: stage.predict().header("x-weir-degraded") is None, "the gateway has Redis again", 15)


# --- Workers


def assert_not_billed(stage: Stage, answer: Answer, code: str) -> None:
    """The refused request costs nothing; its row, where one was written, says why."""
    assert answer.request_id is not None
    with stage.installation.database() as database:
        assert entries_of(database, answer.request_id) == 0
        row = database.execute(
            "SELECT status, http_status, error_code FROM requests WHERE request_id = %s", [bare(answer.request_id)]
        ).fetchone()
    assert row in (None, ("failed", answer.status, code)), row


def test_a_worker_that_is_gone(stage: Stage) -> None:
    stage.await_served()
    assert stage.honest.process is not None
    stage.honest.process.kill()
    try:
        for _ in range(3):
            answer = stage.predict()
            assert_problem(answer, 503, "no_healthy_worker")
            assert int(answer.header("retry-after") or 0) >= 1
            assert_not_billed(stage, answer, "no_healthy_worker")
        assert_served(stage.predict("fault-lying"))
    finally:
        stage.honest.start()
    stage.await_served()


def test_a_worker_that_is_frozen(stage: Stage) -> None:
    stage.await_served()
    assert stage.honest.process is not None
    stage.honest.process.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = stage.predict()
        took = time.monotonic() - began
        assert_problem(answer, 504, "upstream_timeout")
        assert INFERENCE_SECONDS * 0.9 <= took <= INFERENCE_SECONDS + 1.5, f"{took:.2f} s"
        assert_not_billed(stage, answer, "upstream_timeout")
    finally:
        stage.honest.process.send(signal.SIGCONT)
    stage.await_served()


def test_one_of_two_workers_gone_is_not_noticed(stage: Stage) -> None:
    with stage.installation.worker("twin") as twin:
        route(stage.installation, "iris", stage.honest.address, twin.address)
        wait_until(lambda: stage.predict().status == 200 and journal_calls(twin.journal_path), "the twin is used", 10)
        assert twin.process is not None
        twin.process.kill()
        for _ in range(20):
            assert_served(stage.predict())
        route(stage.installation, "iris", stage.honest.address)


def test_a_worker_that_is_slow(stage: Stage) -> None:
    began = time.monotonic()
    answer = stage.predict("fault-slow")
    took = time.monotonic() - began
    assert_problem(answer, 504, "upstream_timeout")
    assert INFERENCE_SECONDS * 0.9 <= took <= INFERENCE_SECONDS + 1.5, f"{took:.2f} s"
    assert_not_billed(stage, answer, "upstream_timeout")


@pytest.fixture
def rested(stage: Stage) -> Stage:
    """After failures a replica may be avoided for a while; these tests need it tried."""
    wait_until(
        lambda: stage.predict("fault-negative").status in (200, 502), "the failing worker is tried again", 40, every=0.2
    )
    return stage


@pytest.mark.parametrize(
    "fault", ["fault-500", "fault-garbage", "fault-hang-up", "fault-huge", "fault-redirect", "fault-wrong-length"]
)
def test_a_worker_that_answers_nonsense(rested: Stage, fault: str) -> None:
    answer = rested.predict(fault)
    problem = assert_problem(answer, 502, "bad_upstream")
    assert rested.failing.address not in answer.body.decode(), "the answer names the worker"
    assert problem["errors"] == []
    assert_not_billed(rested, answer, "bad_upstream")


def test_an_answer_of_the_wrong_length_spoils_no_later_one(rested: Stage) -> None:
    """What the worker sent too much must not be taken for the next request's answer."""
    rested.predict("fault-wrong-length")
    for _ in range(10):
        answer = rested.predict("fault-lying")
        if answer.status == 200:
            assert assert_served(answer)["model"] == "fault-lying"


def test_a_huge_answer_is_not_kept_in_memory(rested: Stage) -> None:
    assert rested.gateway.process is not None
    before = peak_memory(rested.gateway.process.pid)
    assert rested.predict("fault-huge").status in (502, 503)
    assert peak_memory(rested.gateway.process.pid) - before < 48 << 20


def peak_memory(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@pytest.mark.parametrize("fault", ["fault-lying", "fault-negative"])
def test_a_worker_that_lies_about_usage_cannot_overdraw(rested: Stage, fault: str) -> None:
    """Clamped to what was held, or refused; never more than the customer was held for, never less than nothing."""
    answer = rested.predict(fault)
    assert answer.request_id is not None
    if answer.status != 200:
        assert_problem(answer, 502, "bad_upstream")
        assert_not_billed(rested, answer, "bad_upstream")
        return
    usage = assert_served(answer)["usage"]
    with rested.installation.database() as database:
        entry = next(
            entry
            for entry in usage_entries(database, rested.tenant.id)
            if bare(entry.request_id) == bare(answer.request_id)
        )
        held = database.execute(
            "SELECT estimated_tokens FROM requests WHERE request_id = %s", [bare(answer.request_id)]
        ).fetchone()
    assert held is not None
    assert (entry.input_tokens, entry.output_tokens) == (usage["input_tokens"], usage["output_tokens"])
    assert entry.input_tokens >= 0 and entry.output_tokens >= 0
    assert entry.input_tokens + entry.output_tokens <= held[0]


def test_the_gateway_ends_well_after_all_this(stage: Stage) -> None:
    stage.await_served()
    assert stage.gateway.stop() == 0
