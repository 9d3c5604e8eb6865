"""Where requests go, on two real gateways: routes set by hand and through the API, versions, divided and copied requests, workers
that come and go.
"""

import json
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api import assert_problem, assert_served, predict
from books import bare, journal_calls, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, Worker
from load import Load, Share
from record import ClientRecord, Verdict
from resp import Redis
from tenancy import Tenant, make_key, make_model, make_tenant, unique
from wire import Answer

SECOND = 1.0


@pytest.fixture
def gateways(installation: Installation, second_gateway: Gateway) -> list[str]:
    """The addresses of two gateways on one database and one Redis."""
    return [installation.public_url, second_gateway.public_url]


@pytest.fixture
def redis(installation: Installation) -> Iterator[Redis]:
    if installation.redis_url is None:
        pytest.skip("this machine has no Redis")
    with Redis(installation.redis_url) as connection:
        yield connection


def model_file(folder: Path, name: str, version: str, intercept: float = 0.0) -> str:
    """A linear model whose every answer is `intercept`."""
    path = folder / f"{name}-{version}.json"
    path.write_text(
        json.dumps(
            {
                "name": name,
                "version": version,
                "kind": "linear",
                "features": ["a", "b", "c", "d"],
                "coefficients": [[0.0, 0.0, 0.0, 0.0]],
                "intercepts": [intercept],
            }
        )
    )
    return str(path)


@contextmanager
def workers(installation: Installation, *files: list[str]) -> Iterator[list[Worker]]:
    """One worker for each list of model files."""
    started: list[Worker] = []
    try:
        for paths in files:
            arguments = [word for path in paths for word in ("--model", path)]
            started.append(Worker(installation, unique("worker"), arguments).start())
        yield started
    finally:
        for worker in started:
            if worker.process:
                worker.process.stop(5)


def set_route(installation: Installation, model: str, *replicas: tuple[str, str], protocol: str = "predict") -> None:
    installation.admin.expect(
        "PUT",
        f"/admin/v1/routes/{model}",
        {
            "replicas": [
                {"address": address, "protocol": protocol, "version": version} for address, version in replicas
            ]
        },
        (200,),
    )


def add_version(installation: Installation, model: str, version: str, **more: Any) -> None:
    installation.admin.expect("PUT", f"/admin/v1/models/{model}/versions/{version}", more, (200,))


def change_routing(installation: Installation, model: str, **change: Any) -> dict[str, Any]:
    return installation.admin.expect("PATCH", f"/admin/v1/models/{model}/routing", change, (200,))


def everywhere(gateways: list[str], key: str, model: str, check: Any, seconds: float = 5.0, **more: Any) -> None:
    """Waits until every gateway answers a prediction as `check` wants."""

    def seen() -> bool:
        answers = [predict(url, key, model=model, **more) for url in gateways]
        assert all(check(answer) for answer in answers), [(answer.status, answer.body[:200]) for answer in answers]
        return True

    wait_until(seen, f"{model} on every gateway", seconds)


def is_served(answer: Answer) -> bool:
    return answer.status == 200


def is_refused(status: int) -> Any:
    return lambda answer: answer.status == status


def predicts(value: float) -> Any:
    return lambda answer: answer.status == 200 and answer.json()["prediction"] == value


def let_gateways_follow() -> None:
    """Every gateway follows a change within a second: what is promised is what is waited."""
    time.sleep(SECOND)


def mirrored(urls: list[Any]) -> dict[str, float]:
    """What became of copies, over the gateways."""
    sums: dict[str, float] = {}
    for admin in urls:
        text = admin.call("GET", "/metrics").body.decode()
        for outcome, value in re.findall(r'weir_mirrored_requests_total\{outcome="(\w+)"\} (\S+)', text):
            sums[outcome] = sums.get(outcome, 0) + float(value)
    return sums


def test_a_route_set_by_hand_serves_within_a_second(
    installation: Installation, gateways: list[str], redis: Redis, tenant: Tenant
) -> None:
    model = unique("by-hand")
    folder = installation.log_folder
    with workers(
        installation, [model_file(folder, model, "1", 1.0)], [model_file(folder, f"{model}", "2", 2.0)]
    ) as (one, two):
        everywhere(gateways, tenant.key, model, is_refused(404))
        try:
            redis.call("HSET", "model_routes", model, one.address)
            everywhere(gateways, tenant.key, model, predicts(1.0), SECOND)
            redis.call("HSET", "model_routes", model, two.address)
            everywhere(gateways, tenant.key, model, predicts(2.0), SECOND)
            both = [
                {"address": one.address, "protocol": "oip", "version": "1", "weight": 1},
                {"address": two.address, "protocol": "predict", "version": "2", "weight": 3},
            ]
            redis.call("HSET", "model_routes", model, json.dumps(both))
            everywhere(gateways, tenant.key, model, predicts(1.0), SECOND, version="1")
            everywhere(gateways, tenant.key, model, predicts(2.0), SECOND, version="2")
        finally:
            redis.call("HDEL", "model_routes", model)
        everywhere(gateways, tenant.key, model, is_refused(404), SECOND)


def test_a_poisoned_or_empty_redis_takes_no_registered_route_away(
    installation: Installation, gateways: list[str], redis: Redis, tenant: Tenant
) -> None:
    model, marker, wild = unique("registered"), unique("marker"), unique("wild")
    folder = installation.log_folder
    make_model(installation, model)
    with workers(
        installation, [model_file(folder, model, "1", 1.0), model_file(folder, marker, "1", 5.0)]
    ) as (worker,):
        set_route(installation, model, (worker.address, "1"))
        everywhere(gateways, tenant.key, model, predicts(1.0))
        for evil in ("169.254.169.254:80", "8.8.8.8:80", "0x7f.1:80", "[::ffff:169.254.169.254]:80", "{", ""):
            redis.call("HSET", "model_routes", model, evil, wild, evil, marker, worker.address)
            # What was set with them is in force, so they have been read.
            everywhere(gateways, tenant.key, marker, predicts(5.0), SECOND)
            for url in gateways:
                assert assert_served(predict(url, tenant.key, model=model))["prediction"] == 1.0
                assert_problem(predict(url, tenant.key, model=wild), 404, "model_not_found")
            redis.call("HDEL", "model_routes", marker)
            everywhere(gateways, tenant.key, marker, is_refused(404), SECOND)
        redis.call("HSET", "model_routes", marker, worker.address)
        everywhere(gateways, tenant.key, marker, predicts(5.0), SECOND)
        redis.call("FLUSHALL")
        everywhere(gateways, tenant.key, marker, is_refused(404), SECOND)
        for url in gateways:
            assert assert_served(predict(url, tenant.key, model=model))["prediction"] == 1.0


def test_versions_and_aliases_lead_to_the_real_thing(
    installation: Installation, gateways: list[str], tenant: Tenant
) -> None:
    model, alias, fixed = unique("versioned"), unique("alias"), unique("fixed")
    folder = installation.log_folder
    make_model(installation, model, feature_count=4)
    versions = {"1.9.0": 19.0, "1.10.0": 110.0, "2.0.0-rc.1": 20.0}
    with workers(
        installation, [model_file(folder, model, version, value) for version, value in versions.items()]
    ) as (worker,):
        for version in versions:
            add_version(installation, model, version)
        add_version(installation, model, "1", state="retired")
        set_route(installation, model, *((worker.address, version) for version in versions))
        admin = installation.admin
        admin.expect("PUT", f"/admin/v1/aliases/{alias}", {"model": model}, (200,))
        admin.expect("PUT", f"/admin/v1/aliases/{fixed}", {"model": model, "version": "1.9.0"}, (200,))
        assert admin.call("PUT", f"/admin/v1/aliases/{unique('chain')}", {"model": alias}).status == 422
        assert admin.call("PUT", f"/admin/v1/aliases/{model}", {"model": "iris"}).status == 409
        assert admin.call("POST", "/admin/v1/models", {"name": alias}).status == 409
        everywhere(gateways, tenant.key, fixed, predicts(19.0))
        for url in gateways:
            for name, version, expected in [
                (model, None, "1.10.0"),
                (model, "latest", "1.10.0"),
                (model, "1.9.0", "1.9.0"),
                (model, "2.0.0-rc.1", "2.0.0-rc.1"),
                (alias, None, "1.10.0"),
                (alias, "1.9.0", "1.9.0"),
                (fixed, None, "1.9.0"),
                (fixed, "latest", "1.9.0"),
            ]:
                body = assert_served(predict(url, tenant.key, model=name, **({"version": version} if version else {})))
                assert (body["model"], body["version"], body["prediction"]) == (name, expected, versions[expected])
            for name, version in [(model, "1"), (model, "3.0.0"), (fixed, "1.10.0")]:
                assert_problem(predict(url, tenant.key, model=name, version=version), 404, "model_not_found")
        with installation.database() as database:
            assert {row.model for row in request_rows(database, tenant.id)} == {model}
            assert {entry.model for entry in usage_entries(database, tenant.id)} == {model}
        by_model = make_key(admin, tenant.id, allowed_models=[model]).key
        by_alias = make_key(admin, tenant.id, allowed_models=[fixed]).key
        for url in gateways:
            assert_served(predict(url, by_model, model=alias))
            assert_served(predict(url, by_alias, model=fixed))
            assert_problem(predict(url, by_alias, model=model), 403, "model_not_allowed")
            assert_problem(predict(url, by_alias, model=alias), 403, "model_not_allowed")
        # Pinned, and no longer.
        change_routing(installation, model, default_version="1.9.0")
        everywhere(gateways, tenant.key, model, predicts(19.0))
        assert admin.call("PUT", f"/admin/v1/models/{model}/versions/1.9.0", {"state": "retired"}).status == 409
        change_routing(installation, model, default_version=None)
        everywhere(gateways, tenant.key, model, predicts(110.0))


def test_callers_stay_with_their_version_on_every_gateway(
    installation: Installation, gateways: list[str], tenant: Tenant
) -> None:
    model = unique("canary")
    folder = installation.log_folder
    make_model(installation, model)
    with workers(
        installation, [model_file(folder, model, "1.0.0", 1.0), model_file(folder, model, "1.1.0", 2.0)]
    ) as (worker,):
        for version in ("1.0.0", "1.1.0"):
            add_version(installation, model, version)
        set_route(installation, model, (worker.address, "1.0.0"), (worker.address, "1.1.0"))

        def split(stable: int, canary: int) -> list[str]:
            """The version that each session gets, the same on both gateways."""
            change_routing(
                installation,
                model,
                split=[{"version": "1.0.0", "weight": stable}, {"version": "1.1.0", "weight": canary}],
                sticky_by="session_id",
            )
            let_gateways_follow()
            calls = [(url, f"session-{number}") for number in range(60) for url in gateways]
            with ThreadPoolExecutor(8) as pool:
                answers = list(
                    pool.map(lambda call: predict(call[0], tenant.key, model=model, session_id=call[1]), calls)
                )
            versions = [assert_served(answer)["version"] for answer in answers]
            assert versions[0::2] == versions[1::2]
            return versions[0::2]

        less, more = split(8_000, 2_000), split(5_000, 5_000)
        assert 2 <= less.count("1.1.0") <= 24, less
        assert less.count("1.1.0") < more.count("1.1.0") <= 45, more
        assert all(after == "1.1.0" for before, after in zip(less, more, strict=True) if before == "1.1.0")
        # A number is as good as a text; anything else is not, and no other field is there.
        assert_served(predict(gateways[0], tenant.key, model=model, session_id=7))
        assert_problem(predict(gateways[0], tenant.key, model=model, session_id=[7]), 422, "validation_failed")
        assert_problem(predict(gateways[0], tenant.key, model=model, session="a"), 422, "validation_failed")


def test_a_hundred_changes_under_load_fail_no_request(
    installation: Installation, second_gateway: Gateway, gateways: list[str], redis: Redis, tenant: Tenant
) -> None:
    model = unique("moving")
    folder = installation.log_folder
    make_model(installation, model)
    path = model_file(folder, model, "1", 1.0)
    with workers(installation, [path], [path]) as (one, two):
        set_route(installation, model, (one.address, "1"))
        everywhere(gateways, tenant.key, model, is_served)
        records = [ClientRecord(installation.log_folder / f"{unique('moving')}.jsonl") for _ in gateways]
        ports = [int(url.rsplit(":", 1)[1]) for url in gateways]
        loads = [
            Load(port, tenant.key, record, connections=4, mix=(Share(model, 1),))
            for port, record in zip(ports, records, strict=True)
        ]
        with loads[0], loads[1]:
            for change in range(50):
                redis.call("HSET", "model_routes", model, (one, two)[change % 2].address)
                time.sleep(0.05)
            redis.call("HDEL", "model_routes", model)
            for change in range(50):
                set_route(installation, model, ((one, two)[change % 2].address, "1"))
        for record in records:
            record.close()
            assert record.counts[Verdict.ACK] > 100, record.counts
            assert record.counts[Verdict.REJECT] == record.counts[Verdict.UNKNOWN] == 0, [
                outcome for outcome in record.read() if outcome.verdict is not Verdict.ACK
            ][:5]
        for worker in (one, two):
            assert len(journal_calls(worker.journal_path)) > 20
    with installation.database() as database:
        acknowledged = sum(record.counts[Verdict.ACK] for record in records)
        assert len(usage_entries(database, tenant.id)) >= acknowledged


def test_copies_are_sent_and_never_billed_and_a_dead_mirror_does_not_matter(
    installation: Installation, second_gateway: Gateway, gateways: list[str]
) -> None:
    model = unique("mirrored")
    folder = installation.log_folder
    make_model(installation, model)
    tenant = make_tenant(installation)
    admins = [installation.admin, second_gateway.admin]
    with workers(
        installation, [model_file(folder, model, "1.0.0", 1.0)], [model_file(folder, model, "2.0.0", 2.0)]
    ) as (real, shadow):
        for version in ("1.0.0", "2.0.0"):
            add_version(installation, model, version)
        set_route(installation, model, (real.address, "1.0.0"), (shadow.address, "2.0.0"))
        change_routing(
            installation, model, default_version="1.0.0", mirror={"version": "2.0.0", "share": 10_000}
        )
        let_gateways_follow()
        before = mirrored(admins)
        answered = [assert_served(predict(gateways[number % 2], tenant.key, model=model)) for number in range(30)]
        assert {body["prediction"] for body in answered} == {1.0}
        wait_until(lambda: sum(journal_calls(shadow.journal_path).values()) == 30, "30 copies arrived")
        ids = {bare(body["request_id"]) for body in answered}
        assert set(journal_calls(real.journal_path)) == ids
        assert not ids & set(journal_calls(shadow.journal_path))

        def counted(outcome: str) -> float:
            return mirrored(admins).get(outcome, 0) - before.get(outcome, 0)

        wait_until(lambda: counted("differed") == 30 == counted("sent"), "every copy is compared")
        with installation.database() as database:
            assert len(usage_entries(database, tenant.id)) == 30 == len(request_rows(database, tenant.id))
        assert shadow.process is not None
        shadow.process.kill()
        for number in range(10):
            assert_served(predict(gateways[number % 2], tenant.key, model=model))
        wait_until(lambda: counted("failed") == 10, "the copies to the dead mirror are counted")
        # One that never answers takes no time from anybody either.
        change_routing(installation, model, mirror=None)
        let_gateways_follow()
        assert_served(predict(gateways[0], tenant.key, model=model))
        assert counted("sent") == 40
        with installation.database() as database:
            assert len(usage_entries(database, tenant.id)) == 41 == len(request_rows(database, tenant.id))


def test_a_worker_whose_heartbeats_stop_leaves_the_table(
    installation: Installation, gateways: list[str], tenant: Tenant
) -> None:
    model = unique("silent")
    make_model(installation, model)
    everywhere(gateways, tenant.key, model, is_refused(503))
    with workers(installation, [model_file(installation.log_folder, model, "1", 1.0)]) as (worker,):
        wanted = {"model": model, "version": "1", "address": worker.address, "protocol": "predict", "ttl_seconds": 2}
        admin = installation.admin
        for wrong in ({"address": "169.254.169.254:80"}, {"version": "9"}, {"ttl_seconds": 1}):
            assert admin.call("POST", "/admin/v1/workers", {**wanted, **wrong}).status == 422
        row = admin.expect("POST", "/admin/v1/workers", wanted, (201,))
        assert row["heartbeat_seconds"] == 1
        everywhere(gateways, tenant.key, model, is_served, SECOND)
        for _ in range(4):
            time.sleep(0.7)
            admin.expect("POST", f"/admin/v1/workers/{row['id']}/heartbeat", None, (200,))
        last = time.monotonic()
        for url in gateways:
            assert_served(predict(url, tenant.key, model=model))
        # The worker itself is alive all the time.
        everywhere(gateways, tenant.key, model, is_refused(503), last + 2 + SECOND - time.monotonic())
        assert time.monotonic() - last > 1.5
        # It comes back where it was.
        admin.expect("POST", f"/admin/v1/workers/{row['id']}/heartbeat", None, (200,))
        everywhere(gateways, tenant.key, model, is_served, SECOND)
        again = admin.expect("POST", "/admin/v1/workers", wanted, (201,))
        assert admin.call("POST", f"/admin/v1/workers/{row['id']}/heartbeat").status == 404
        admin.expect("DELETE", f"/admin/v1/workers/{again['id']}", None, (204,))
        everywhere(gateways, tenant.key, model, is_refused(503), SECOND)


def test_the_worker_registers_itself_and_leaves_when_it_is_told_to(
    installation: Installation, gateways: list[str], tenant: Tenant
) -> None:
    model = unique("coming")
    path = model_file(installation.log_folder, model, "1", 1.0)
    environment = {"WEIR_ADMIN_URL": installation.admin_url, "WEIR_ADMIN_KEY": installation.admin_key}
    worker = Worker(
        installation, unique("register"), ["--model", path, "--register", "--ttl", "2"], environment=environment
    ).start()

    def rows() -> list[dict[str, Any]]:
        listed = installation.admin.expect("GET", "/admin/v1/workers?limit=100")["data"]
        return [row for row in listed if row["model"] == model]

    try:
        # The model is not there yet: the worker goes on trying, and serves.
        make_model(installation, model)
        everywhere(gateways, tenant.key, model, is_served, 15)
        first = rows()
        assert [row["address"] for row in first] == [worker.address]
        wait_until(lambda: rows()[0]["expires_at"] > first[0]["expires_at"], "a heartbeat arrives", 5)
        assert [row["id"] for row in rows()] == [first[0]["id"]]
        # Taken away by somebody else, it registers anew.
        installation.admin.expect("DELETE", f"/admin/v1/workers/{first[0]['id']}", None, (204,))
        wait_until(lambda: rows() and rows()[0]["id"] != first[0]["id"], "it registers anew", 5)
        second = rows()[0]
        # It knows its place, and will not ask for another when it stops.
        wait_until(lambda: rows()[0]["expires_at"] > second["expires_at"], "a heartbeat arrives", 10)
        assert worker.process is not None
        worker.process.send(signal.SIGTERM)
        assert worker.process.wait(10) == 0
        assert rows() == []
        everywhere(gateways, tenant.key, model, is_refused(503), SECOND)
        actions = [
            entry["action"]
            for entry in installation.admin.expect("GET", "/admin/v1/audit?limit=100")["data"]
            if model in json.dumps([entry["before"], entry["after"]])
        ]
        assert actions.count("worker.register") == 2 and actions.count("worker.remove") == 2
    finally:
        if worker.process:
            worker.process.stop(5)
