"""Asynchronous jobs: nothing lost, nothing billed twice, whatever is killed; and what their callers are told."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from api import assert_problem, bearer, get, predict_body, predict_headers
from books import bare, entries_of
from deadline import wait_until
from installation import Installation
from jobs import Stage, cancel, finished, job, python_worker, submit, submit_many
from tenancy import Tenant, make_key, make_model, make_tenant, route, unique
from wire import send_once

pytestmark = pytest.mark.timeout(300)

# `Benchmarks/jobs` runs the same with ten thousand.
JOBS = int(os.environ.get("WEIR_TEST_JOBS", "1000"))

# Answers a prediction after a pause; breaks the connection for every body with the poison in it. Writes what it was asked.
WORKER = '''
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, think, journal = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self): self.answer({})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(journal, "a") as file: file.write((self.headers.get("x-request-id") or "?") + "\\n")
        if b"777" in body:
            # A proxy whose worker has just died.
            data = b"no server is available"
            self.send_response(503); self.send_header("content-length", str(len(data))); self.end_headers(); self.wfile.write(data)
            return
        if b"666" in body:
            self.connection.shutdown(2)
            self.close_connection = True
            return
        time.sleep(think)
        self.answer({"prediction": "setosa", "version": "1", "usage": {"input_tokens": 3, "output_tokens": 2}})
    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass
class Server(ThreadingHTTPServer):
    request_queue_size = 512
Server(("127.0.0.1", port), Handler).serve_forever()
'''


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        worker = installation.worker("honest")
        with worker as honest:
            route(installation, "iris", honest.address)
            make_tenant(installation)
            yield Stage(installation)


def own_tenant(stage: Stage) -> Tenant:
    return make_tenant(_Admin(stage))


class _Admin:
    """The installation as the helpers of tenancy see it, with the stage's own gateway behind it."""

    def __init__(self, stage: Stage) -> None:
        self.admin = stage.gateway.admin


@pytest.fixture
def tenant(stage: Stage) -> Tenant:
    return own_tenant(stage)


@pytest.fixture
def dispatcher(stage: Stage) -> Iterator[object]:
    one = stage.dispatcher(unique("dispatcher"))
    yield one
    one.stop()


def slow_model(stage: Stage, address: str, **more: object) -> str:
    name = unique("slow")
    make_model(_Admin(stage), name, **more)
    route(_Admin(stage), name, address)
    time.sleep(1.2)  # every process reads its routes twice a second
    return name


def journal_of(stage: Stage) -> str:
    return str(stage.installation.log_folder / f"{unique('calls')}.journal")


def calls(journal: str, job_id: str | None = None) -> int:
    try:
        lines = open(journal).read().split()
    except FileNotFoundError:
        return 0
    return len(lines) if job_id is None else sum(bare(line) == bare(job_id) for line in lines)


def test_a_job_is_queued_run_and_told_of(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    answer = submit(stage.url, tenant.key)
    assert answer.status == 202, answer.body
    body = answer.json()
    assert body == {"request_id": answer.request_id, "status": "queued"}
    assert answer.header("location") == f"/api/v1/jobs/{answer.request_id}"
    assert answer.header("retry-after") == "1"
    assert answer.header("preference-applied") is None
    done = finished(stage.url, tenant.key, body["request_id"])
    assert done["status"] == "completed", done
    assert done["attempts"] == 1
    assert done["result"]["prediction"] == "setosa"
    assert done["result"]["request_id"] == body["request_id"]
    assert done["error"] is None and done["completed_at"] >= done["created_at"]
    status = get(stage.url, f"/status/{body['request_id']}", tenant.key).json()
    assert status["status"] == "completed" and status["result"]["prediction"] == "setosa"
    result = get(stage.url, f"/api/v1/jobs/{body['request_id']}/result", tenant.key).json()
    assert result == done["result"]
    with stage.installation.database() as database:
        assert entries_of(database, bare(body["request_id"])) == 1
    row = get(stage.url, f"/api/v1/requests/{body['request_id']}", tenant.key).json()
    assert row["status"] == "completed" and row["cost_micros"] > 0


@pytest.mark.parametrize(
    ("path", "headers", "applied"),
    [
        ("/predict", {"Prefer": "respond-async"}, "respond-async"),
        ("/predict/", {"Prefer": "wait=1, Respond-Async"}, "respond-async"),
        ("/predict/async/", {}, None),
        ("/generate", {}, None),
    ],
)
def test_every_way_to_submit(
    stage: Stage, tenant: Tenant, dispatcher: object, path: str, headers: dict[str, str], applied: str | None
) -> None:
    answer = submit(stage.url, tenant.key, headers=headers, path=path)
    assert answer.status == 202, answer.body
    assert answer.header("preference-applied") == applied
    assert finished(stage.url, tenant.key, answer.json()["request_id"])["status"] == "completed"


def test_one_idempotency_key_is_one_job_and_one_charge(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    headers = {"Idempotency-Key": unique("key")}
    first = submit(stage.url, tenant.key, headers=headers)
    again = submit(stage.url, tenant.key, headers=headers)
    assert (first.status, again.status) == (202, 202), again.body
    assert again.body == first.body
    assert again.header("idempotent-replayed") == "true"
    assert again.header("location") == first.header("location")
    finished(stage.url, tenant.key, first.json()["request_id"])
    assert submit(stage.url, tenant.key, headers=headers).body == first.body
    # The same key for a synchronous request is another operation.
    other = send_once(stage.url, "POST", "/predict/", {**predict_headers(tenant.key), **headers}, predict_body())
    assert_problem(other, 422, "idempotency_mismatch")
    assert stage.count("SELECT count(*) FROM ledger WHERE tenant_id = %s", tenant.id) == 1


def test_bad_input_61(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    unknown = "req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42"
    assert_problem(job(stage.url, tenant.key, unknown), 404, "not_found")
    assert_problem(cancel(stage.url, tenant.key, unknown), 404, "not_found")
    mine = submit(stage.url, tenant.key).json()["request_id"]
    stranger = own_tenant(stage)
    for answer in (job(stage.url, stranger.key, mine), cancel(stage.url, stranger.key, mine)):
        assert assert_problem(answer, 404, "not_found")["detail"] == "There is no such job, or it is not yours to see."
    finished(stage.url, tenant.key, mine)
    assert_problem(cancel(stage.url, tenant.key, mine), 409, "conflict")
    later = submit(stage.url, tenant.key, headers={"x-weir-run-at": "2026-12-31T00:00:00Z"})
    if later.status != 202:
        later = submit(stage.url, tenant.key, headers={"x-weir-run-at": stamp(3600)})
    waiting = later.json()["request_id"]
    assert_problem(get(stage.url, f"/api/v1/jobs/{waiting}/result", tenant.key), 409, "conflict")
    for _ in range(2):
        answer = cancel(stage.url, tenant.key, waiting)
        assert answer.status == 200 and answer.json()["status"] == "cancelled", answer.body
    assert_problem(get(stage.url, f"/api/v1/jobs/{waiting}/result", tenant.key), 409, "conflict")
    # Also where the request becomes no job.
    for path in ("/predict/async", "/predict"):
        for value in ("-1", "10", "x", "5.0"):
            refused = submit(stage.url, tenant.key, headers={"x-weir-priority": value}, path=path)
            assert_problem(refused, 400, "bad_request")
        for value in ("3000-01-01T00:00:00Z", "tomorrow", stamp(8 * 86_400)):
            refused = submit(stage.url, tenant.key, headers={"x-weir-run-at": value}, path=path)
            assert_problem(refused, 400, "bad_request")
    large = b'{"model":"iris","features":[' + b"1," * 524_288 + b"1]}"
    answer = send_once(stage.url, "POST", "/predict/async", predict_headers(tenant.key), large)
    assert_problem(answer, 413, "request_too_large")
    for value in ("61s", "-1s", "soon"):
        assert_problem(job(stage.url, tenant.key, mine, value), 422, "validation_failed")


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_an_exhausted_quota_refuses_submissions_and_fails_jobs_uncharged(stage: Stage, dispatcher: object) -> None:
    tenant = own_tenant(stage)
    stage.gateway.admin.expect(
        "PUT", f"/admin/v1/tenants/{tenant.id}/quotas",
        {"unit": "requests", "frequency": "day", "amount": 2, "mode": "hard"}, (200, 201),
    )
    time.sleep(1.5)
    ids = [submit(stage.url, tenant.key, headers={"x-weir-run-at": stamp(2)}).json()["request_id"] for _ in range(4)]
    states = sorted(finished(stage.url, tenant.key, one)["status"] for one in ids)
    assert states == ["completed", "completed", "failed", "failed"]
    failed = [finished(stage.url, tenant.key, one) for one in ids]
    assert {one["error"]["code"] for one in failed if one["error"]} == {"quota_exceeded"}
    assert stage.count("SELECT count(*) FROM ledger WHERE tenant_id = %s", tenant.id) == 2
    assert_problem(submit(stage.url, tenant.key), 429, "quota_exceeded")


def test_a_key_that_was_revoked_meanwhile_fails_its_jobs_uncharged(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    key = make_key(stage.gateway.admin, tenant.id)
    one = submit(stage.url, key.key, headers={"x-weir-run-at": stamp(3)}).json()["request_id"]
    stage.gateway.admin.expect("DELETE", f"/admin/v1/keys/{key.key_id}", None, (200, 204))
    done = finished(stage.url, tenant.key, one)
    assert (done["status"], done["error"]["code"]) == ("failed", "invalid_api_key")
    assert stage.count("SELECT count(*) FROM ledger WHERE tenant_id = %s", tenant.id) == 0


def test_a_result_past_its_time_is_gone(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    one = submit(stage.url, tenant.key).json()["request_id"]
    finished(stage.url, tenant.key, one)
    with stage.installation.database() as database:
        database.execute("UPDATE jobs SET expires_at = now() - interval '1 s' WHERE job_id = %s", (bare(one),))
        database.commit()
    for target in (f"/api/v1/jobs/{one}", f"/api/v1/jobs/{one}/result", f"/status/{one}"):
        assert_problem(get(stage.url, target, tenant.key), 410, "result_gone")
    assert get(stage.url, f"/api/v1/requests/{one}", tenant.key).json()["status"] == "completed"


def test_a_poison_job_is_dead_after_five_attempts_and_holds_nobody_up(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    journal = journal_of(stage)
    with python_worker(stage.installation, unique("poisoned"), WORKER, "0", journal) as address:
        model = slow_model(stage, address)
        poison = send_once(
            stage.url, "POST", "/predict/async", predict_headers(tenant.key), predict_body(model, [666, 1, 1, 1])
        ).json()["request_id"]
        good = [submit(stage.url, tenant.key, model).json()["request_id"] for _ in range(5)]
        for one in good:
            assert finished(stage.url, tenant.key, one)["status"] == "completed"
        dead = finished(stage.url, tenant.key, poison)
        assert (dead["status"], dead["attempts"]) == ("failed", 5), dead
        listed = stage.gateway.admin.expect("GET", "/admin/v1/queue/dead?limit=100", None, (200,))["data"]
        entry = next(item for item in listed if item["id"] == poison)
        assert entry["tenant_id"] == tenant.id and entry["attempts"] == 5 and entry["error_detail"]
        assert stage.count("SELECT count(*) FROM ledger WHERE entry_id = %s", bare(poison)) == 0
        stage.gateway.admin.expect("POST", f"/admin/v1/queue/dead/{poison}/retry", None, (200,))
        again = finished(stage.url, tenant.key, poison)
        assert (again["status"], again["attempts"]) == ("failed", 10)
        assert stage.gateway.admin.call("POST", f"/admin/v1/queue/dead/{good[0]}/retry", None).status == 404


def test_a_poison_job_behind_a_proxy_is_dead_after_five_calls(stage: Stage, tenant: Tenant, dispatcher: object) -> None:
    journal = journal_of(stage)
    with python_worker(stage.installation, unique("proxied"), WORKER, "0", journal) as address:
        model = slow_model(stage, address)
        poison = send_once(
            stage.url, "POST", "/predict/async", predict_headers(tenant.key), predict_body(model, [777, 1, 1, 1])
        ).json()["request_id"]
        good = submit(stage.url, tenant.key, model).json()["request_id"]
        dead = finished(stage.url, tenant.key, poison)
        assert (dead["status"], dead["error"]["code"]) == ("failed", "no_healthy_worker"), dead
        # Claims while the replica was left out were no attempts.
        assert calls(journal, poison) == 5 <= dead["attempts"]
        assert finished(stage.url, tenant.key, good)["status"] == "completed"
        assert stage.count("SELECT count(*) FROM ledger WHERE entry_id = %s", bare(poison)) == 0


@pytest.mark.parametrize("point", ["worker_answered", "batch_sent", "batch_committed", "commit_known"])
def test_killed_between_the_work_and_the_completion(stage: Stage, tenant: Tenant, point: str) -> None:
    """The worker has answered and the dispatcher dies before, in or after its settlement: one result, one charge."""
    first = stage.dispatcher(unique("doomed"), WEIR_FAULT=f"crash:{point}:1")
    one = submit(stage.url, tenant.key).json()["request_id"]
    wait_until(lambda: not first.process.is_alive, "the dispatcher has killed itself", 20)
    second = stage.dispatcher(unique("heir"))
    try:
        done = finished(stage.url, tenant.key, one)
    finally:
        second.stop()
    assert done["status"] == "completed" and done["attempts"] >= 1, done
    assert stage.count("SELECT count(*) FROM ledger WHERE entry_id = %s", bare(one)) == 1


def test_a_zombie_s_completion_is_refused(stage: Stage, tenant: Tenant) -> None:
    journal = journal_of(stage)
    with python_worker(stage.installation, unique("slow"), WORKER, "1.5", journal) as address:
        model = slow_model(stage, address)
        zombie = stage.dispatcher(unique("zombie"))
        one = submit(stage.url, tenant.key, model).json()["request_id"]
        wait_until(lambda: calls(journal, one) == 1, "the first attempt runs", 20)
        os.kill(zombie.process.pid, signal.SIGSTOP)
        other = stage.dispatcher(unique("other"))
        try:
            done = finished(stage.url, tenant.key, one)
            assert (done["status"], done["attempts"]) == ("completed", 2), done
            os.kill(zombie.process.pid, signal.SIGCONT)
            time.sleep(3)
            after = job(stage.url, tenant.key, one).json()
            assert after == done
        finally:
            other.stop()
            zombie.stop()
        assert calls(journal, one) == 2
        assert stage.count("SELECT count(*) FROM ledger WHERE entry_id = %s", bare(one)) == 1


def test_a_stopped_dispatcher_gives_its_jobs_back_at_once(stage: Stage, tenant: Tenant) -> None:
    journal = journal_of(stage)
    with python_worker(stage.installation, unique("slow"), WORKER, "3", journal) as address:
        model = slow_model(stage, address)
        first = stage.dispatcher(unique("stopping"), WEIR_JOB_LEASE_SECONDS="600")
        one = submit(stage.url, tenant.key, model).json()["request_id"]
        wait_until(lambda: calls(journal, one) == 1, "the first attempt runs", 20)
        os.kill(first.process.pid, signal.SIGTERM)
        second = stage.dispatcher(unique("next"), WEIR_JOB_LEASE_SECONDS="600")
        try:
            done = finished(stage.url, tenant.key, one, 20)
        finally:
            second.stop()
        assert done["status"] == "completed"
        assert stage.count("SELECT count(*) FROM ledger WHERE entry_id = %s", bare(one)) == 1


def test_one_tenant_s_flood_does_not_keep_another_waiting(stage: Stage) -> None:
    journal = journal_of(stage)
    flooding, patient = own_tenant(stage), own_tenant(stage)
    with python_worker(stage.installation, unique("slow"), WORKER, "0.2", journal) as address:
        model = slow_model(stage, address)
        submit_many(stage.url, flooding.key, JOBS, model)
        dispatcher = stage.dispatcher(unique("dispatcher"), concurrency=4)
        try:
            wait_until(lambda: calls(journal) >= 8, "the flood is being worked on", 20)
            before = calls(journal)
            one = submit(stage.url, patient.key, model).json()["request_id"]
            done = finished(stage.url, patient.key, one)
            passed = calls(journal) - before
        finally:
            dispatcher.stop()
        print(f"behind a flood of {JOBS} jobs: {passed} calls")
        assert done["status"] == "completed"
        # In calls, of which four are made in 0.2 s: a machine that stalls holds up both.
        assert passed <= 24
        with stage.installation.database() as database:
            database.execute("DELETE FROM jobs WHERE tenant_id = %s", (flooding.id,))
            database.commit()


def test_no_kill_loses_or_doubles_a_job(stage: Stage, tenant: Tenant) -> None:
    journal, other = journal_of(stage), own_tenant(stage)
    with python_worker(stage.installation, unique("slow"), WORKER, "12", journal) as address:
        model = slow_model(stage, address)
        doomed = stage.dispatcher(unique("doomed"))
        # In its hands whenever it is killed: of the short ones it may have none at that moment.
        held = submit(stage.url, other.key, model).json()["request_id"]
        wait_until(lambda: calls(journal, held) == 1, "it has a job", 20)
        began = time.monotonic()
        ids = submit_many(stage.url, tenant.key, JOBS)
        submitted = time.monotonic() - began
        assert len(set(ids)) == JOBS
        began = time.monotonic()
        heir = stage.dispatcher(unique("heir"))

        def completed() -> int:
            return stage.count("SELECT count(*) FROM jobs WHERE tenant_id = %s AND state = 'completed'", tenant.id)

        try:
            wait_until(lambda: completed() >= JOBS // 3, "a third is done", 120, 0.05)
            doomed.process.kill()
            wait_until(lambda: completed() == JOBS, "all are done", 200, 0.1)
            drained = time.monotonic() - began
            again = finished(stage.url, other.key, held, 60)
        finally:
            heir.stop()
    print(json.dumps({"jobs": JOBS, "submit_per_second": round(JOBS / submitted), "drain_per_second": round(JOBS / drained)}))
    assert (again["status"], again["attempts"], calls(journal, held)) == ("completed", 2, 2), "nobody was hurt"
    for owner, count in ((tenant, JOBS), (other, 1)):
        assert stage.count("SELECT count(*) FROM ledger WHERE tenant_id = %s", owner.id) == count
        assert stage.count("SELECT count(DISTINCT entry_id) FROM ledger WHERE tenant_id = %s", owner.id) == count
        assert (
            stage.count(
                "SELECT count(*) FROM jobs j JOIN requests r ON r.request_id = j.job_id JOIN ledger l ON l.entry_id = j.job_id "
                "WHERE j.tenant_id = %s AND r.status = 'completed' AND j.answer IS NOT NULL",
                owner.id,
            )
            == count
        )


def test_metrics_and_queue_are_shown(stage: Stage, tenant: Tenant) -> None:
    one = submit(stage.url, tenant.key, headers={"x-weir-run-at": stamp(3600)}).json()["request_id"]
    rows = stage.gateway.admin.expect("GET", "/admin/v1/queue", None, (200,))["data"]
    assert next(row for row in rows if row["tenant_id"] == tenant.id)["waiting"] == 1
    cancel(stage.url, tenant.key, one)
    text = send_once(stage.gateway.admin_url, "GET", "/metrics", bearer(stage.installation.admin_key)).body.decode()
    for name in ("weir_jobs_submitted_total", "weir_jobs_queued", "weir_jobs_oldest_seconds", "weir_jobs_dead"):
        assert name in text, name
