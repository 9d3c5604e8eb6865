"""What is kept of prompts and results is the tenant's policy, on every gateway within a second; what is too much is erased."""

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from api import assert_problem, assert_served, bearer
from deadline import wait_until
from installation import Installation, binary
from results_stage import ResultsStage
from tenancy import Tenant, make_tenant
from wire import send_once

ANSWER = b'{"prediction": "setosa", "version": "1", "usage": {"input_tokens": 3, "output_tokens": 2}}'


@pytest.fixture(scope="module")
def stage() -> Iterator[ResultsStage]:
    with Installation() as installation:
        yield ResultsStage.make(installation)


@pytest.fixture(autouse=True)
def plain_answer(stage: ResultsStage) -> None:
    stage.worker_answers("application/json", ANSWER)


def kept(stage: ResultsStage, request: str) -> tuple:
    ((row),) = stage.rows(
        "SELECT prompt IS NOT NULL, prompt_sha256 IS NOT NULL, result_id IS NOT NULL, result_sha256 IS NOT NULL "
        "FROM requests WHERE request_id = %s",
        request.removeprefix("req_"),
    )
    return tuple(row)


POLICIES = {
    "full": (True, False, True, True),
    "hashed": (False, True, False, True),
    "none": (False, False, False, False),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_decides_what_is_kept(stage: ResultsStage, policy: str) -> None:
    tenant = stage.tenant(policy)
    wait_until(lambda: is_policy(stage, tenant, policy), "the policy is in force", 5)
    for gateway in stage.gateways:
        request = assert_served(stage.predict(tenant, gateway))["request_id"]
        assert kept(stage, request) == POLICIES[policy]
        one = stage.get(tenant, gateway, f"/api/v1/requests/{request}").json()
        state = {"full": "kept", "hashed": "digest", "none": "none"}[policy]
        assert one["result"]["state"] == state
        sent = json.dumps({"model": stage.model, "features": [1, 2, 3, 4]})
        assert one["prompt"] == (sent if policy == "full" else None)
        digest = hashlib.sha256(sent.encode()).hexdigest()
        assert one["prompt_sha256"] == (None if policy == "none" else digest)
        result = stage.get(tenant, gateway, f"/api/v1/requests/{request}/result")
        assert result.status == (200 if policy == "full" else 404)


def is_policy(stage: ResultsStage, tenant: Tenant, policy: str) -> bool:
    requests = [assert_served(stage.predict(tenant, gateway))["request_id"] for gateway in stage.gateways]
    return all(kept(stage, request) == POLICIES[policy] for request in requests)


def test_a_change_counts_within_a_second_on_every_gateway(stage: ResultsStage) -> None:
    tenant = stage.tenant("full")
    wait_until(lambda: is_policy(stage, tenant, "full"), "the policy is in force", 5)
    for policy in ("none", "full", "hashed"):
        stage.change(tenant, retention=policy)
        time.sleep(1.0)  # what is promised
        assert is_policy(stage, tenant, policy)


def test_what_is_too_large_is_kept_as_its_digest(stage: ResultsStage) -> None:
    tenant = stage.tenant("full", retention_max_bytes=70)
    large = [0.123456] * 40
    wait_until(
        lambda: kept(stage, assert_served(stage.predict(tenant, stage.gateways[0], large))["request_id"])
        == (False, True, True, True),
        "the bound is in force",
        5,
    )
    stage.worker_answers("image/png", b"x" * 71)
    answer = stage.predict(tenant, stage.gateways[1])
    assert answer.body == b"x" * 71
    assert kept(stage, answer.request_id)[2:] == (False, True)


def test_a_stricter_policy_erases_what_is_kept(stage: ResultsStage) -> None:
    tenant, other = stage.tenant("full"), stage.tenant("full")
    wait_until(lambda: is_policy(stage, tenant, "full") and is_policy(stage, other, "full"), "in force", 5)
    stage.worker_answers("image/png", b"picture")
    image = stage.predict(tenant, stage.gateways[0]).request_id
    others = stage.predict(other, stage.gateways[0]).request_id
    assert stage.change(tenant, retention="hashed")["erasing"] is True
    address = f"/admin/v1/tenants/{tenant.id}"
    admin = stage.installation.admin
    wait_until(lambda: admin.expect("GET", address)["erasing"] is False, "what was kept is erased", 30)
    assert kept(stage, image) == (False, True, True, True)
    assert stage.rows("SELECT count(*) FROM binary_results WHERE tenant_id = %s", tenant.id) == [(0,)]
    assert stage.rows("SELECT count(*) FROM results WHERE tenant_id = %s", tenant.id) == [(0,)]
    assert stage.rows("SELECT count(*) FROM requests WHERE tenant_id = %s AND prompt IS NOT NULL", tenant.id) == [(0,)]
    assert_problem(stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{image}/result"), 410, "result_gone")
    assert stage.get(other, stage.gateways[1], f"/api/v1/requests/{others}/result").body == b"picture"
    # Who did it is on record.
    found = stage.rows(
        "SELECT before->>'retention', after->>'retention' FROM audit_log WHERE tenant_id = %s "
        "AND action = 'tenant.change' ORDER BY audit_id DESC LIMIT 1",
        tenant.id,
    )
    assert found == [("full", "hashed")]
    stage.change(tenant, retention="none")
    wait_until(lambda: admin.expect("GET", address)["erasing"] is False, "the digests are erased", 30)
    assert kept(stage, image) == (False, False, True, False)


def test_what_is_kept_after_a_return_to_full_stays(stage: ResultsStage) -> None:
    tenant = stage.tenant("full")
    wait_until(lambda: is_policy(stage, tenant, "full"), "in force", 5)
    stage.change(tenant, retention="none")
    stage.change(tenant, retention="full")
    time.sleep(1.0)  # until both gateways know of it
    request = assert_served(stage.predict(tenant, stage.gateways[0]))["request_id"]
    admin = stage.installation.admin
    wait_until(lambda: admin.expect("GET", f"/admin/v1/tenants/{tenant.id}")["erasing"] is False, "erased", 30)
    assert stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{request}/result").status == 200


def test_a_request_under_way_is_kept_by_the_stricter_policy(stage: ResultsStage) -> None:
    tenant = stage.tenant("full")
    wait_until(lambda: is_policy(stage, tenant, "full"), "in force", 5)
    stage.worker_answers("application/json", ANSWER, delay_seconds=2.5)
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(stage.predict(tenant, stage.gateways[0])))
    thread.start()
    time.sleep(0.5)
    stage.change(tenant, retention="none")
    thread.join()
    assert kept(stage, assert_served(answers[0])["request_id"]) == POLICIES["none"]


def test_the_command_line_sets_and_shows_it(stage: ResultsStage) -> None:
    tenant = make_tenant(stage.installation)
    installation = stage.installation
    environment = {
        "WEIR_ADMIN_URL": installation.admin_url, "WEIR_ADMIN_KEY": installation.admin_key, "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    command = [binary(), "tenants", "retention", tenant.id]
    options = ["--policy", "hashed", "--result-ttl-seconds", "77", "--max-bytes", "5", "--json"]
    shown = json.loads(subprocess.run([*command, *options], env=environment, capture_output=True, check=True).stdout)
    assert (shown["retention"], shown["result_ttl_seconds"], shown["retention_max_bytes"]) == ("hashed", 77, 5)
    text = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    assert "hashed" in text and "77" in text
    back = json.loads(
        subprocess.run(
            [*command, "--result-ttl-seconds", "0", "--json"], env=environment, capture_output=True, check=True
        ).stdout
    )
    assert back["result_ttl_seconds"] is None and back["retention"] == "hashed"


@pytest.mark.parametrize(
    "change",
    [{"retention": "some"}, {"result_ttl_seconds": -1}, {"retention_max_bytes": 16777217}, {"retention_max_bytes": 1.5}],
)
def test_what_is_no_policy_is_refused(stage: ResultsStage, change: dict) -> None:
    tenant = make_tenant(stage.installation)
    answer = stage.installation.admin.call("PATCH", f"/admin/v1/tenants/{tenant.id}", change)
    assert_problem(answer, 422, "validation_failed")
    assert send_once(stage.gateways[0].public_url, "GET", "/api/v1/quota", bearer(tenant.key), timeout=10).status == 200
