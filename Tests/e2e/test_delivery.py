"""Workers that die, stop, crawl, fail and lie while requests flow through two gateways: nearly all are answered as if
nothing were wrong, what fails is not billed, and each replica comes back by itself.
"""

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api import assert_problem, assert_served, get, predict, predict_body
from books import busy_settlements, entries_of, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, answers_ok
from load import read_answer
from ports import free_port
from process import ManagedProcess, clean_environment
from tenancy import Tenant, make_model, make_tenant, route, unique
from wire import send_once

THINK_MILLISECONDS = 40
FIRST_BYTE_MILLISECONDS = 500
# For each gateway.
CONNECTIONS = 5
# Quick to leave out and quick to return, so that a test sees both.
QUICK = {
    "connect_ms": 300,
    "first_byte_ms": FIRST_BYTE_MILLISECONDS,
    "total_ms": 3000,
    "breaker_open_ms": 1000,
    "slow_start_ms": 500,
    "probe_interval_ms": 300,
    "probe_timeout_ms": 500,
}


class ScriptedWorker:
    """A process of `scripted_worker.py`."""

    def __init__(self, installation: Installation, name: str) -> None:
        self.installation = installation
        self.name = name
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.process: ManagedProcess | None = None

    def start(self) -> "ScriptedWorker":
        script = Path(__file__).with_name("scripted_worker.py")
        self.process = ManagedProcess(
            [sys.executable, str(script), str(self.port), str(THINK_MILLISECONDS)],
            self.installation.log_folder,
            self.name,
            clean_environment(),
        )
        self.installation.processes.append(self.process)
        self.process.wait_ready(lambda: answers_ok(self.url, "/healthz"), f"{self.name} is ready", 20)
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def be(self, mode: str) -> None:
        assert send_once(self.url, "PUT", f"/mode/{mode}", timeout=10).status == 200

    def seen(self) -> list[str]:
        return send_once(self.url, "GET", "/seen", timeout=10).json()


@dataclass
class Stage:
    installation: Installation
    gateways: list[Gateway]
    workers: list[ScriptedWorker]
    models: list[str] = field(default_factory=list)

    def model(self, workers: list[ScriptedWorker], delivery: dict[str, Any]) -> str:
        """A model of its own, so that nothing is left of what other tests did to the replicas."""
        name = unique("model")
        self.models.append(name)
        make_model(self.installation, name, feature_count=None)
        self.installation.admin.expect("PUT", f"/admin/v1/models/{name}/delivery", {**QUICK, **delivery}, (200,))
        route(self.installation, name, *[worker.address for worker in workers])
        for gateway in self.gateways:
            wait_until(lambda g=gateway: len(replicas(g, name)) == len(workers), "the route is there", 10)
        return name


def replicas(gateway: Gateway, model: str) -> list[dict[str, Any]]:
    listed = gateway.admin.expect("GET", "/admin/v1/replicas", None, (200,))
    return [replica for replica in listed["data"] if replica["model"] == model]


def metrics(gateway: Gateway) -> str:
    return get(gateway.admin_url, "/metrics", gateway.installation.admin_key).body.decode()


def state_of(gateway: Gateway, model: str, worker: ScriptedWorker) -> str:
    return next(r["state"] for r in replicas(gateway, model) if r["address"] == worker.address)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        gateways = [installation.gateway(name).start() for name in ("one", "two")]
        workers = [ScriptedWorker(installation, f"worker-{number}").start() for number in range(3)]
        yield Stage(installation, gateways, workers)


@pytest.fixture(autouse=True)
def well(stage: Stage) -> Iterator[None]:
    for worker in stage.workers:
        if worker.process is None or not worker.process.is_alive:
            worker.start()
        worker.be("well")
    yield
    # Probes and readiness go on for whatever has a route.
    for model in stage.models:
        assert stage.installation.admin.call("DELETE", f"/admin/v1/routes/{model}").status in (204, 404)
    stage.models.clear()


# --- Traffic


@dataclass
class Traffic:
    """Connections that send one prediction after the other, and how long each took."""

    ports: list[int]
    key: str
    model: str
    # (when it began, seconds, status)
    calls: list[tuple[float, float, int]] = field(default_factory=list)
    is_stopping: bool = False

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self
        finally:
            self.is_stopping = True
            thread.join(60)
            assert not thread.is_alive()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(port) for port in self.ports for _ in range(CONNECTIONS)))

    async def _one(self, port: int) -> None:
        body = predict_body(self.model)
        request = (
            f"POST /predict/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not self.is_stopping:
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(30):
                status, headers, _ = await read_answer(reader)
            self.calls.append((began, time.monotonic() - began, status))
            if headers.get("connection", "").lower() == "close":
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    def between(self, start: float, end: float) -> list[tuple[float, float, int]]:
        """The calls that began in this time and have ended."""
        return [call for call in self.calls if start <= call[0] < end]


def p99(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def break_it(worker: ScriptedWorker, manner: str) -> None:
    match manner:
        case "killed":
            worker.kill()
        case "stopped":
            worker.send(signal.SIGSTOP)
        case _:
            worker.be(manner)


def mend(worker: ScriptedWorker, manner: str) -> None:
    match manner:
        case "killed":
            worker.start()
        case "stopped":
            worker.send(signal.SIGCONT)
        case _:
            worker.be("well")


@pytest.mark.parametrize("manner", ["killed", "stopped", "slow", "500", "nonsense"])
def test_each_worker_in_turn_breaks_and_hardly_anybody_notices(stage: Stage, manner: str) -> None:
    model = stage.model(stage.workers, {})
    tenant = make_tenant(stage.installation)
    usual: list[float] = []
    others: list[float] = []
    with Traffic([gateway.port for gateway in stage.gateways], tenant.key, model).flowing() as traffic:
        wait_until(lambda: len(traffic.calls) >= 50, "traffic flows", 30)
        for worker in stage.workers:
            calm_from = time.monotonic()
            time.sleep(1.5)
            broken_from = time.monotonic()
            break_it(worker, manner)
            try:
                for gateway in stage.gateways:
                    wait_until(
                        lambda g=gateway: state_of(g, model, worker) in ("ejected", "down", "trial"),
                        "the replica is left out",
                        15,
                        every=0.1,
                    )
                time.sleep(1)
            finally:
                mended_from = time.monotonic()
                mend(worker, manner)
            for gateway in stage.gateways:
                wait_until(
                    lambda g=gateway: {r["state"] for r in replicas(g, model)} == {"healthy"},
                    "all are well again",
                    20,
                    every=0.1,
                )
            disturbed = traffic.between(broken_from, mended_from)
            # Those inside the broken one are told at its deadline, or sent elsewhere then.
            inside = [call for call in disturbed if call[1] >= FIRST_BYTE_MILLISECONDS / 1000 * 0.95]
            failed = [status for _, _, status in disturbed if status != 200]
            print(f"{manner}: {len(inside)} of {len(disturbed)} inside, {failed} failed")
            usual += [seconds for _, seconds, _ in traffic.between(calm_from, broken_from)]
            others += [seconds for _, seconds, _ in disturbed if seconds < FIRST_BYTE_MILLISECONDS / 1000 * 0.95]
            assert len(failed) <= len(inside)
            # One for each connection when it broke, and those that were sent there before it was left out.
            assert len(inside) <= 3 * CONNECTIONS * len(stage.gateways)
            if manner in ("killed", "500", "nonsense"):
                assert failed == []
    print(f"{manner}: p99 {p99(usual):.3f} of {len(usual)}, then {p99(others):.3f} of {len(others)}")
    assert p99(others) <= 3 * max(p99(usual), 1.5 * THINK_MILLISECONDS / 1000)
    answered = sum(1 for _, _, status in traffic.calls if status == 200)
    with stage.installation.database() as database:
        wait_until(lambda: busy_settlements(database) == 0, "every settlement has ended", 15)
        entries = usage_entries(database, tenant.id)
    assert len(entries) == len({entry.request_id for entry in entries}) == answered


# --- One worker's faults


@pytest.fixture
def tenant(stage: Stage) -> Tenant:
    return make_tenant(stage.installation)


def call(stage: Stage, tenant: Tenant, model: str):
    began = time.monotonic()
    answer = predict(stage.gateways[0].public_url, tenant.key, model)
    return answer, time.monotonic() - began


def assert_free(stage: Stage, answer) -> None:
    with stage.installation.database() as database:
        assert entries_of(database, answer.request_id) == 0


@pytest.mark.parametrize(
    ("mode", "milliseconds"), [("hang", FIRST_BYTE_MILLISECONDS), ("trickle", 1500)], ids=["first-byte", "total"]
)
def test_a_silent_worker_has_one_deadline_and_a_trickling_one_another(
    stage: Stage, tenant: Tenant, mode: str, milliseconds: int
) -> None:
    model = stage.model(stage.workers[:1], {"total_ms": 1500})
    stage.workers[0].be(mode)
    answer, seconds = call(stage, tenant, model)
    assert_problem(answer, 504, "upstream_timeout")
    assert milliseconds / 1000 * 0.95 <= seconds <= milliseconds / 1000 + 1.5
    assert_free(stage, answer)
    wait_until(lambda: replicas(stage.gateways[0], model)[0]["outstanding"] == 0, "its place is free", 5)


@pytest.mark.parametrize("is_safe", [True, False])
def test_a_worker_that_dies_on_a_request(stage: Stage, tenant: Tenant, is_safe: bool) -> None:
    """Killed before the first byte: another replica is asked where the request may be repeated, and 502 elsewhere."""
    victim, other = stage.workers[:2]
    model = stage.model([victim, other], {"safe_to_repeat": is_safe, "first_byte_ms": 3000, "probe_interval_ms": 0})
    victim.be("hang")
    other.be("hang")
    got = []
    thread = threading.Thread(target=lambda: got.append(call(stage, tenant, model)[0]))
    thread.start()
    holder = wait_until(lambda: next((w for w in (victim, other) if w.seen()), None), "the request is there", 10)
    (other if holder is victim else victim).be("well")
    holder.kill()
    thread.join(20)
    if is_safe:
        assert_served(got[0])
        with stage.installation.database() as database:
            assert entries_of(database, got[0].request_id) == 1
    else:
        assert_problem(got[0], 502, "bad_upstream")
        assert_free(stage, got[0])
        assert (other if holder is victim else victim).seen() == []


@pytest.mark.parametrize("is_safe", [True, False])
def test_a_kept_connection_that_is_closed(stage: Stage, tenant: Tenant, is_safe: bool) -> None:
    worker = stage.workers[0]
    model = stage.model([worker], {"safe_to_repeat": is_safe, "probe_interval_ms": 0})
    # No connection of an earlier test is left.
    worker.kill()
    worker.start()
    worker.be("stale")
    assert_served(call(stage, tenant, model)[0])
    answers = []
    # Each loop has its own connections; some request meets one that was used.
    for _ in range(40):
        answers.append(call(stage, tenant, model)[0])
        if answers[-1].status != 200:
            break
    if is_safe:
        assert {answer.status for answer in answers} == {200}
        assert len(worker.seen()) > len(answers) + 1, "no connection was stale"
    else:
        assert_problem(answers[-1], 502, "bad_upstream")
        assert_free(stage, answers[-1])


def test_a_port_where_nobody_listens_is_passed_over_at_once(stage: Stage, tenant: Tenant) -> None:
    gone = ScriptedWorker(stage.installation, "never")
    model = stage.model([gone, stage.workers[0]], {"probe_interval_ms": 0})
    for _ in range(20):
        answer, seconds = call(stage, tenant, model)
        assert_served(answer)
        assert seconds < 1
    assert state_of(stage.gateways[0], model, gone) in ("ejected", "trial")


def test_a_host_that_takes_no_connection_is_passed_over_at_the_connect_deadline(stage: Stage, tenant: Tenant) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # As many as the queue takes; the kernel drops what comes then.
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            hole = ScriptedWorker(stage.installation, "hole")
            hole.port, hole.address = port, f"127.0.0.1:{port}"
            model = stage.model([hole, stage.workers[0]], {"connect_ms": 200, "probe_interval_ms": 0})
            slow = 0
            for _ in range(20):
                answer, seconds = call(stage, tenant, model)
                assert_served(answer)
                slow += seconds >= 0.19
            assert state_of(stage.gateways[0], model, hole) in ("ejected", "trial")
            assert slow >= 1
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("400", 422, "validation_failed"),
        ("422", 422, "validation_failed"),
        ("404", 404, "model_not_found"),
        ("413", 413, "request_too_large"),
    ],
)
def test_a_request_that_the_worker_refuses_is_the_callers_matter(
    stage: Stage, tenant: Tenant, mode: str, status: int, code: str
) -> None:
    model = stage.model(stage.workers, {})
    for worker in stage.workers:
        worker.be(mode)
    for _ in range(8):
        answer, _ = call(stage, tenant, model)
        assert_problem(answer, status, code)
    assert_free(stage, answer)
    assert sum(len(worker.seen()) for worker in stage.workers) == 8, "it was repeated"
    assert {r["state"] for r in replicas(stage.gateways[0], model)} == {"healthy"}


# --- Bounds


def test_beyond_the_places_a_few_wait_and_the_rest_is_told_to_come_back(stage: Stage, tenant: Tenant) -> None:
    worker = stage.workers[0]
    model = stage.model(
        [worker],
        {"replica_concurrency": 1, "queue_depth": 1, "queue_wait_ms": 4000, "first_byte_ms": 8000, "total_ms": 8000},
    )
    worker.be("slow")
    got = []
    threads = [threading.Thread(target=lambda: got.append(call(stage, tenant, model)[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    served = [answer for answer in got if answer.status == 200]
    refused = [answer for answer in got if answer.status != 200]
    assert (len(served), len(refused)) == (2, 4)
    for answer in refused:
        assert_problem(answer, 503, "overloaded")
        assert int(answer.header("retry-after") or 0) >= 1
    assert len(worker.seen()) == 2
    with stage.installation.database() as database:
        assert len(usage_entries(database, tenant.id)) == 2


def test_a_second_replica_is_asked_where_the_first_is_slow_and_one_charge_is_made(stage: Stage, tenant: Tenant) -> None:
    slow, quick = stage.workers[:2]
    model = stage.model([slow, quick], {"hedge_after_ms": 150, "first_byte_ms": 3000})
    slow.be("slow")
    for _ in range(10):
        answer, seconds = call(stage, tenant, model)
        assert_served(answer)
        assert seconds < 1.5
    assert slow.seen(), "the slow one was never asked"
    with stage.installation.database() as database:
        assert len(usage_entries(database, tenant.id)) == 10
    wait_until(
        lambda: all(r["outstanding"] == 0 for r in replicas(stage.gateways[0], model)), "nothing is left under way", 5
    )


def test_a_model_without_a_healthy_replica_is_named(stage: Stage, tenant: Tenant) -> None:
    worker = ScriptedWorker(stage.installation, "lonely").start()
    model = stage.model([worker], {})
    worker.kill()
    for gateway in stage.gateways:
        ready = wait_until(
            lambda g=gateway: f"model:{model}" in (got := get(g.public_url, "/readyz")).json()["degraded"] and got,
            "the model is named",
            15,
        )
        assert ready.status == 200
        assert state_of(gateway, model, worker) == "down"
    assert_problem(call(stage, tenant, model)[0], 503, "no_healthy_worker")
    worker.start()
    for gateway in stage.gateways:
        wait_until(
            lambda g=gateway: f"model:{model}" not in get(g.public_url, "/readyz").json()["degraded"],
            "it is well again",
            15,
        )
    labels = f'model="{model}"'
    for line in (
        f'weir_replica_healthy{{{labels},replica="{worker.address}"}} 1',
        f'weir_replica_transitions_total{{{labels},to="down"}} 1',
    ):
        wait_until(lambda line=line: line in metrics(stage.gateways[0]), line, 5)
    worker.kill()
