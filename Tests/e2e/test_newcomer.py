"""From nothing to a metered prediction with one command, and back again on the same folder."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api import assert_served, bearer, get, predict, predict_headers, predict_on
from books import bare, request_rows, usage_entries
from deadline import wait_until
from installation import FIELDS, Installation, binary, short_folder
from process import ManagedProcess, clean_environment, end_all, is_running, processes_in, start_time
from resp import Redis
from tenancy import make_model, make_tenant, unique
from wire import Answer, Wire, send_once


PROBABILITY_ERROR = 1e-6


@dataclass(frozen=True)
class Flower:
    features: list[float]
    label: str
    predicted: str
    probabilities: list[float]


def iris() -> list[Flower]:
    """The 150 rows with what scikit-learn's logistic regression says of them."""
    with open(Path(__file__).parent / "data" / "iris.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measures = ("sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm")
    classes = ("probability_setosa", "probability_versicolor", "probability_virginica")
    return [
        Flower(
            [float(row[name]) for name in measures],
            row["label"],
            row["predicted"],
            [float(row[name]) for name in classes],
        )
        for row in rows
    ]


@dataclass
class Life:
    """What was seen of one run of `weir dev`."""

    described: dict
    standard_output: str
    pids: dict[int, int | None]
    exit_code: int | None = None
    left_running: list[int] = field(default_factory=list)
    left_in_folder: list[list[str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    usage: dict = field(default_factory=dict)
    usage_by_model: dict = field(default_factory=dict)
    earlier_request: Answer | None = None


def usage_of(installation: Installation, group_by: str = "") -> dict:
    answer = get(
        installation.public_url, f"/api/v1/usage{group_by and '?group_by=' + group_by}", installation.customer_key
    )
    assert answer.status == 200, answer
    return answer.json()


def observe_books(installation: Installation, life: Life) -> None:
    """Reads ledger and requests, and then the usage report, once it has caught up with the ledger."""
    with installation.database() as database:
        life.ledger = [bare(entry.request_id) for entry in usage_entries(database, installation.tenant_id)]
        life.completed = [
            bare(row.request_id) for row in request_rows(database, installation.tenant_id) if row.status == "completed"
        ]
    wait_until(
        lambda: usage_of(installation)["total"]["requests"] == len(life.ledger), "usage shows what the ledger holds", 10
    )
    life.usage = usage_of(installation)
    life.usage_by_model = usage_of(installation, "model")


def end(installation: Installation, life: Life) -> None:
    life.exit_code = installation.interrupt(60)
    life.left_running = [pid for pid, started in life.pids.items() if is_running(pid) and start_time(pid) == started]
    life.left_in_folder = [[str(pid)] for pid in processes_in(installation.folder / "data")]


def begin(installation: Installation) -> Life:
    installation.start()
    return Life(
        installation.described,
        installation.standard_output,
        {pid: start_time(pid) for pid in installation.own_processes()},
    )


@pytest.fixture(scope="module")
def lives() -> Iterator[tuple[Life, Life]]:
    """Two runs on one folder: 150 predictions in the first, one in the second."""
    installation = Installation()
    try:
        first = begin(installation)
        with Wire(installation.public_url) as wire:
            first.answers = [predict_on(wire, installation.customer_key, features=flower.features) for flower in iris()]
        observe_books(installation, first)
        end(installation, first)
        second = begin(installation)
        second.earlier_request = get(
            installation.public_url, f"/api/v1/requests/{first.answers[0].request_id}", installation.customer_key
        )
        # With the keys of the first run.
        second.answers = [predict(installation.public_url, first.described["customer_key"])]
        observe_books(installation, second)
        end(installation, second)
        yield first, second
    finally:
        installation.close()


def test_the_description_is_one_json_object_with_exactly_its_fields(lives: tuple[Life, Life]) -> None:
    for life in lives:
        assert set(json.loads(life.standard_output)) == FIELDS
        for name in FIELDS - {"redis_url", "serve_env"}:
            assert isinstance(life.described[name], str) and life.described[name], name
        assert re.match(r"^weir_(live|test)_", life.described["customer_key"])
        assert life.described["admin_key"].startswith("weir_admn_")
        assert life.described["serve_env"] and all(
            isinstance(value, str) for value in life.described["serve_env"].values()
        )


def test_only_loopback_is_listened_on(lives: tuple[Life, Life]) -> None:
    for life in lives:
        for name in ("public_url", "admin_url", "worker_url"):
            assert re.match(r"^http://127\.0\.0\.1:\d+/?$", life.described[name]), life.described[name]
        assert "host=" in life.described["database_url"], "the database is not on a Unix socket"


def test_every_flower_gets_the_class_of_scikit_learn(lives: tuple[Life, Life]) -> None:
    flowers = iris()
    assert len(flowers) == 150
    for flower, answer in zip(flowers, lives[0].answers, strict=True):
        body = assert_served(answer)
        assert body["prediction"] == flower.predicted, (flower, body)
        assert body["model"] == "iris" and body["cached"] is False
        for ours, theirs in zip(body["probabilities"], flower.probabilities, strict=True):
            assert abs(ours - theirs) < PROBABILITY_ERROR, (flower, body)


def test_what_logistic_regression_gets_wrong_is_all_that_is_wrong(lives: tuple[Life, Life]) -> None:
    wrong = [
        flower
        for flower, answer in zip(iris(), lives[0].answers, strict=True)
        if answer.json()["prediction"] != flower.label
    ]
    assert [flower.predicted == flower.label for flower in wrong] == [False] * len(wrong)
    assert len(wrong) == 4


def test_every_request_has_an_id_of_its_own(lives: tuple[Life, Life]) -> None:
    ids = [answer.request_id for life in lives for answer in life.answers]
    assert len(set(ids)) == len(ids) == 151
    assert ids == sorted(ids), "ids do not sort by time"


def test_the_ledger_holds_exactly_the_requests_made(lives: tuple[Life, Life]) -> None:
    first, second = lives
    made = {bare(answer.request_id) for answer in first.answers}
    assert len(first.ledger) == len(set(first.ledger))
    assert made < set(first.ledger)
    # The one over is the prediction that `weir dev` makes itself.
    assert len(set(first.ledger) - made) == 1
    later = set(second.ledger) - set(first.ledger)
    assert set(first.ledger) < set(second.ledger), "the second run lost entries"
    assert bare(second.answers[0].request_id) in later
    assert len(later) <= 2


def test_the_requests_table_and_the_ledger_hold_the_same(lives: tuple[Life, Life]) -> None:
    for life in lives:
        assert set(life.completed) == set(life.ledger)


def test_usage_shows_exactly_the_requests_made(lives: tuple[Life, Life]) -> None:
    for life in lives:
        total = life.usage["total"]
        assert total["requests"] == len(life.ledger)
        assert total["input_tokens"] == 4 * len(life.ledger), "four numbers in each row"
        assert total["output_tokens"] == len(life.ledger), "one row answered by each"
        assert total["cost_micros"] > 0
        assert [row["model"] for row in life.usage_by_model["data"]] == ["iris"]
        assert life.usage_by_model["data"][0]["requests"] == len(life.ledger)


def test_usage_in_the_answers_adds_up(lives: tuple[Life, Life]) -> None:
    for answer in lives[0].answers:
        usage = answer.json()["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (4, 1)
        assert answer.header("x-weir-usage") == "in=4, cached=0, out=1"


def test_the_second_run_keeps_tenant_keys_and_history(lives: tuple[Life, Life]) -> None:
    first, second = lives
    for name in ("tenant_id", "customer_key", "admin_key", "data_dir"):
        assert second.described[name] == first.described[name], name
    assert_served(second.answers[0])
    assert second.earlier_request is not None and second.earlier_request.status == 200
    assert second.earlier_request.json()["id"] == first.answers[0].request_id


def test_ctrl_c_stops_everything_that_was_started(lives: tuple[Life, Life]) -> None:
    for life in lives:
        assert life.exit_code == 0
        assert len(life.pids) >= 3, "PostgreSQL, Redis and the worker at least"
        assert life.left_running == []
        assert life.left_in_folder == []


def test_postgresql_does_not_run_as_root(installation: Installation) -> None:
    servers = [pid for pid in installation.own_processes() if "postgres" in os.path.basename(exe(pid))]
    assert servers, "no PostgreSQL among the processes"
    for pid in servers:
        assert os.stat(f"/proc/{pid}").st_uid != 0


def exe(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def test_a_terminated_dev_leaves_nothing_either() -> None:
    with Installation(arguments=["--no-redis"]) as installation:
        pids = {pid: start_time(pid) for pid in installation.own_processes()}
        assert installation.dev is not None
        installation.dev.send(signal.SIGTERM)
        assert installation.dev.wait(60) == 0
        assert [pid for pid, started in pids.items() if is_running(pid) and start_time(pid) == started] == []


def test_without_redis() -> None:
    """No Redis is started, none is missed."""
    with Installation(arguments=["--no-redis"]) as installation:
        assert installation.redis_url is None
        assert set(installation.described) == FIELDS
        assert not [pid for pid in installation.own_processes() if "redis" in exe(pid)]
        answer = predict(installation.public_url, installation.customer_key)
        assert_served(answer)
        assert answer.header("x-weir-degraded") is None
        ready = get(installation.public_url, "/readyz")
        assert (
            ready.status == 200
            and ready.json()["checks"]["redis"] == "not_configured"
            and ready.json()["degraded"] == []
        )


def test_a_second_dev_on_the_same_folder_is_refused(installation: Installation) -> None:
    done = subprocess.run(
        [
            binary(),
            "dev",
            "--json",
            "--data-dir",
            installation.described["data_dir"],
            "--port",
            "0",
            "--admin-port",
            "0",
        ],
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == b""
    assert done.stderr
    assert_served(predict(installation.public_url, installation.customer_key))


def commands_on(screen: str) -> list[str]:
    """What a newcomer would paste: lines that begin with a program's name, with their continuations."""
    commands = []
    lines = iter(screen.splitlines())
    for line in lines:
        text = line.strip().removeprefix("$ ")
        if not re.match(r"(curl|weir|\S*/weir)\s", text):
            continue
        while text.endswith("\\"):
            text = text[:-1] + next(lines, "").strip()
        commands.append(text)
    return commands


def test_the_screen_has_three_commands_that_work_when_pasted() -> None:
    folder = short_folder()
    logs = folder / "logs"
    logs.mkdir()
    dev = ManagedProcess(
        [binary(), "dev", "--data-dir", str(folder / "data"), "--port", "0", "--admin-port", "0", "--no-redis"],
        logs,
        "dev",
        clean_environment(),
        directory=folder,
        death_signal="TERM",
    )
    try:
        dev.wait_ready(
            lambda: len(commands_on(dev.stdout_path.read_text())) >= 3, "the screen shows three commands", 120
        )
        commands = commands_on(dev.stdout_path.read_text())
        assert len(commands) == 3, commands
        outputs = []
        for command in commands:
            environment = clean_environment({"PATH": f"{Path(binary()).parent}:{os.environ['PATH']}"})
            done = subprocess.run(
                ["bash", "-c", command],
                capture_output=True,
                text=True,
                timeout=60,
                env=environment,
                cwd=folder,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.strip(), command
            assert '"code":' not in done.stdout, (command, done.stdout)
            outputs.append(done.stdout)
        assert any("prediction" in output for output in outputs), outputs
        assert any("requests" in output for output in outputs), outputs
    finally:
        dev.stop(60, signal.SIGINT)
        end_all(processes_in(folder / "data"))
        shutil.rmtree(folder, ignore_errors=True)


def test_a_route_that_an_operator_sets_by_hand_in_redis_serves_within_a_second(
    installation: Installation, tmp_path: Path
) -> None:
    model = unique("by-hand")
    built_in = json.loads((Path(__file__).parents[2] / "Sources/ReferenceWorker/Models/iris.json").read_text())
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**built_in, "name": model}))
    tenant = make_tenant(installation)
    make_model(installation, model)
    assert installation.redis_url is not None
    with installation.worker(model, "--model", str(file)) as worker, Redis(installation.redis_url) as redis:
        wait_until(
            lambda: predict(installation.public_url, tenant.key, model).status == 503,
            "the model is known and has no route",
            5,
        )
        redis.call("HSET", "model_routes", model, worker.address)
        began = time.monotonic()
        answer = wait_until(
            lambda: (got := predict(installation.public_url, tenant.key, model)).status == 200 and got,
            "the route serves",
            5,
        )
        took = time.monotonic() - began
        assert assert_served(answer)["prediction"] == "setosa"
        assert took <= 1.0, f"{took:.2f} s"
        redis.call("HDEL", "model_routes", model)
        wait_until(lambda: predict(installation.public_url, tenant.key, model).status == 503, "the route is gone", 5)


def test_several_rows_at_once(installation: Installation, key: str) -> None:
    flowers = iris()[48:53]
    answer = send_once(
        installation.public_url,
        "POST",
        "/predict",
        predict_headers(key),
        json.dumps({"model": "iris", "version": "1", "inputs": [flower.features for flower in flowers]}).encode(),
    )
    body = assert_served(answer)
    assert body["prediction"] == [flower.predicted for flower in flowers]
    assert len(body["probabilities"]) == len(flowers)
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (20, 5)


def test_the_account_pages_agree_with_the_answers(installation: Installation) -> None:
    tenant = make_tenant(installation)
    made = [predict(installation.public_url, tenant.key) for _ in range(3)]
    ids = [answer.request_id for answer in made]
    listed = get(installation.public_url, "/api/v1/requests?limit=2", tenant.key).json()
    assert [row["id"] for row in listed["data"]] == ids[:0:-1]
    assert listed["has_more"] is True
    rest = get(installation.public_url, f"/api/v1/requests?limit=2&after={listed['last_id']}", tenant.key).json()
    assert [row["id"] for row in rest["data"]] == ids[:1]
    assert rest["has_more"] is False
    one = get(installation.public_url, f"/api/v1/requests/{ids[0]}", tenant.key).json()
    assert (one["status"], one["http_status"], one["model"], one["error_code"]) == ("completed", 200, "iris", None)
    status = get(installation.public_url, f"/status/{ids[0]}", tenant.key).json()
    assert (status["request_id"], status["status"]) == (ids[0], "completed")
    quota = get(installation.public_url, "/api/v1/quota", tenant.key).json()
    for row in quota["data"]:
        assert row["available"] == row["limit"] - row["settled"] - row["held"]
        # What is not settled yet is still held in the gateway's lease.
        assert row["settled"] + row["held"] >= (3 if row["unit"] == "requests" else 15)


def test_the_answer_shows_limits_and_timing(installation: Installation, tenant) -> None:
    answer = predict(installation.public_url, tenant.key)
    assert_served(answer)
    for name in (
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ):
        assert answer.header(name), name
    limit, remaining = (int(answer.header(f"x-ratelimit-{what}-requests") or -1) for what in ("limit", "remaining"))
    assert 0 <= remaining < limit
    stages = {part.strip().split(";")[0] for part in (answer.header("server-timing") or "").split(",")}
    assert {"auth", "route", "quota", "upstream", "settle"} <= stages, stages
    assert answer.header("cache-control") == "no-store"


def test_metrics_count_the_requests(installation: Installation) -> None:
    predict(installation.public_url, installation.customer_key)
    answer = get(installation.admin_url, "/metrics", installation.admin_key)
    assert answer.status == 200
    text = answer.body.decode()
    assert "# TYPE" in text and "weir_" in text
    assert installation.customer_key not in text


def test_only_bearer_is_needed(installation: Installation, key: str) -> None:
    assert get(installation.public_url, "/", None).json()["name"] == "weir"
    def degraded() -> list[str]:
        return get(installation.public_url, "/readyz").json()["degraded"]

    # Other tests leave models behind whose workers have ended.
    wait_until(lambda: [name for name in degraded() if not name.startswith("model:")] == [], "all is well", 15)
    assert get(installation.public_url, "/health").json()["status"] == ("degraded" if degraded() else "healthy")
    assert get(installation.public_url, "/healthz").json() == {"alive": True}
    assert send_once(installation.public_url, "GET", "/api/v1/quota", bearer(key)).status == 200
