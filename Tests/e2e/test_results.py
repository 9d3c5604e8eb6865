"""Results: images and tensors as they are, kept once for a tenant, served in parts, never to be shown in place."""

import base64
import hashlib
import threading
from collections.abc import Iterator

import pytest

from api import assert_problem, assert_served, bearer, predict_body, predict_headers
from deadline import wait_until
from installation import Installation
from results_stage import ResultsStage
from wire import send_once

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
JSON_ANSWER = b'{"prediction": "setosa", "version": "1", "usage": {"input_tokens": 3, "output_tokens": 2}}'


@pytest.fixture(scope="module")
def stage() -> Iterator[ResultsStage]:
    with Installation() as installation:
        yield ResultsStage.make(installation)


def text_answer(stage: ResultsStage, word: str = "setosa") -> None:
    stage.worker_answers("application/json", JSON_ANSWER.replace(b"setosa", word.encode()))


def test_an_image_is_sent_as_it_is_charged_by_its_head_and_kept(stage: ResultsStage) -> None:
    tenant = stage.tenant()
    stage.worker_answers("image/png", PNG, x_usage_input_tokens="7", x_usage_output_tokens="11")
    answer = stage.predict(tenant, stage.gateways[0])
    assert answer.status == 200 and answer.body == PNG
    assert answer.header("content-type") == "image/png"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("content-disposition") == "attachment"
    assert answer.header("x-weir-usage") == "in=7, cached=0, out=11"
    kept = stage.rows("SELECT mime_type, content, sha256 FROM binary_results WHERE tenant_id = %s", tenant.id)
    assert kept == [("image/png", PNG, hashlib.sha256(PNG).digest())]
    charged = stage.rows("SELECT input_tokens, output_tokens, token_source FROM ledger WHERE tenant_id = %s", tenant.id)
    assert charged == [(7, 11, "worker")]
    # The other gateway serves it, whole and in parts.
    target = f"/api/v1/requests/{answer.request_id}/result"
    whole = stage.get(tenant, stage.gateways[1], target)
    assert (whole.status, whole.body, whole.header("content-type")) == (200, PNG, "image/png")
    assert whole.header("content-disposition").startswith("attachment")
    assert whole.header("content-security-policy") == "sandbox; default-src 'none'"
    one = stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{answer.request_id}").json()
    assert one["result"]["content_type"] == "image/png" and one["result"]["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert one["prompt"] is not None and one["operation"] == "predict"


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=10-", 206, 10, len(PNG)),
        ("bytes=-5", 206, len(PNG) - 5, len(PNG)),
        ("bytes=0-99999999", 206, 0, len(PNG)),
        ("bytes=0-0,5-9", 200, 0, len(PNG)),
        ("bytes=9-3", 200, 0, len(PNG)),
        ("lines=1-2", 200, 0, len(PNG)),
        (f"bytes={len(PNG)}-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
def test_ranges(stage: ResultsStage, asked: str, status: int, first: int, end: int) -> None:
    tenant = stage.tenant()
    stage.worker_answers("image/png", PNG)
    request = stage.predict(tenant, stage.gateways[0]).request_id
    answer = stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{request}/result", Range=asked)
    if status == 416:
        assert_problem(answer, 416, "range_not_satisfiable")
        assert answer.header("content-range") == f"bytes */{len(PNG)}"
        return
    assert answer.status == status and answer.body == PNG[first:end]
    assert answer.header("accept-ranges") == "bytes"
    wanted = f"bytes {first}-{end - 1}/{len(PNG)}" if status == 206 else None
    assert answer.header("content-range") == wanted


def test_tags_and_heads(stage: ResultsStage) -> None:
    tenant = stage.tenant()
    stage.worker_answers("audio/mpeg", PNG)
    target = f"/api/v1/requests/{stage.predict(tenant, stage.gateways[0]).request_id}/result"
    gateway = stage.gateways[1]
    tag = f'"{hashlib.sha256(PNG).hexdigest()}"'
    assert stage.get(tenant, gateway, target).header("etag") == tag
    assert stage.get(tenant, gateway, target, Range="bytes=0-3", If_Range=tag).status == 206
    assert stage.get(tenant, gateway, target, Range="bytes=0-3", If_Range='"other"').status == 200
    fresh = stage.get(tenant, gateway, target, If_None_Match=tag)
    assert fresh.status == 304 and fresh.body == b""
    head = send_once(gateway.public_url, "HEAD", target, bearer(tenant.key), timeout=20)
    assert head.status == 200 and head.body == b""
    assert head.header("content-length") == str(len(PNG)) and head.header("content-type") == "audio/mpeg"


def test_what_can_run_script_is_never_shown_in_place(stage: ResultsStage) -> None:
    tenant = stage.tenant()
    stage.worker_answers("image/svg+xml; charset=utf-8", b"<svg onload='alert(1)'/>")
    answer = stage.predict(tenant, stage.gateways[0])
    kept = stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{answer.request_id}/result")
    for shown in (answer, kept):
        assert shown.header("content-type") == "image/svg+xml"
        assert shown.header("content-disposition").startswith("attachment")
        assert "sandbox" in shown.header("content-security-policy")
        assert shown.header("x-content-type-options") == "nosniff"
    stage.worker_answers("text/html", b"<script>alert(1)</script>")
    assert_problem(stage.predict(tenant, stage.gateways[0]), 502, "bad_upstream")


def test_usage_that_is_no_count_is_not_charged(stage: ResultsStage) -> None:
    tenant = stage.tenant()
    for count in ("-1", "1.5", "many", "9" * 30):
        stage.worker_answers("image/png", PNG, x_usage_output_tokens=count)
        assert_problem(stage.predict(tenant, stage.gateways[0]), 502, "bad_upstream")
    assert stage.rows("SELECT count(*) FROM ledger WHERE tenant_id = %s", tenant.id) == [(0,)]


def test_an_idempotent_image_is_sent_again_as_it_was(stage: ResultsStage) -> None:
    tenant = stage.tenant()
    stage.worker_answers("image/png", PNG, x_usage_output_tokens="5")
    key = {"Idempotency-Key": "an-image"}
    first = stage.predict(tenant, stage.gateways[0], **key)
    again = stage.predict(tenant, stage.gateways[1], **key)
    assert again.body == first.body == PNG and again.request_id == first.request_id
    assert again.header("content-type") == "image/png" and again.header("idempotent-replayed") == "true"
    assert stage.rows("SELECT count(*) FROM ledger WHERE tenant_id = %s", tenant.id) == [(1,)]


def test_equal_results_are_kept_once_for_a_tenant_and_never_for_two(stage: ResultsStage) -> None:
    text_answer(stage)
    one, other = stage.tenant(), stage.tenant()

    def many(tenant, gateway) -> None:
        for _ in range(50):
            assert_served(stage.predict(tenant, gateway))

    threads = [threading.Thread(target=many, args=(one, stage.gateways[n % 2])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = assert_served(stage.predict(other, stage.gateways[0]))
    assert stage.rows("SELECT count(*) FROM requests WHERE tenant_id = %s AND status = 'completed'", one.id) == [(400,)]
    kept = stage.rows("SELECT result_id FROM results WHERE tenant_id = %s", one.id)
    assert len(kept) == 1
    assert stage.rows("SELECT count(DISTINCT result_id) FROM requests WHERE tenant_id = %s", one.id) == [(1,)]
    others = stage.rows("SELECT result_id FROM results WHERE tenant_id = %s", other.id)
    assert len(others) == 1 and others != kept
    # What is told of a request is what it was.
    status = stage.get(other, stage.gateways[1], f"/status/{first['request_id']}").json()
    assert status["status"] == "completed" and status["result"] == {"prediction": "setosa"}
    # Text is served at the same place.
    body = stage.get(other, stage.gateways[1], f"/api/v1/requests/{first['request_id']}/result", Range="bytes=1-12")
    assert body.status == 206 and body.body == b'"prediction"'
    assert_problem(
        stage.get(one, stage.gateways[1], f"/api/v1/requests/{first['request_id']}/result"), 404, "not_found"
    )


def test_a_result_is_gone_after_its_time(stage: ResultsStage) -> None:
    text_answer(stage, "versicolor")
    tenant = stage.tenant(result_ttl_seconds=3600)
    request = assert_served(stage.predict(tenant, stage.gateways[0]))["request_id"]
    target = f"/api/v1/requests/{request}/result"
    assert stage.get(tenant, stage.gateways[1], target).status == 200
    stage.rows(
        "UPDATE requests SET completed_at = completed_at - interval '59 minutes' WHERE tenant_id = %s", tenant.id
    )
    stage.rows("UPDATE results SET touched_at = touched_at - interval '59 minutes' WHERE tenant_id = %s", tenant.id)
    assert stage.get(tenant, stage.gateways[1], target).status == 200
    # A request that comes now needs the content for an hour from now.
    later = assert_served(stage.predict(tenant, stage.gateways[1]))["request_id"]
    stage.rows("UPDATE requests SET completed_at = completed_at - interval '2 minutes' WHERE tenant_id = %s", tenant.id)
    assert_problem(stage.get(tenant, stage.gateways[1], target), 410, "result_gone")
    assert stage.get(tenant, stage.gateways[0], f"/status/{request}").json()["result"] is None
    assert stage.rows("SELECT remove_expired_results(1000)") is not None
    assert stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{later}/result").status == 200
    stage.rows("UPDATE results SET touched_at = now() - interval '71 minutes' WHERE tenant_id = %s", tenant.id)
    stage.rows("SELECT remove_expired_results(1000)")
    assert stage.rows("SELECT count(*) FROM results WHERE tenant_id = %s", tenant.id) == [(0,)]
    assert_problem(stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{later}/result"), 410, "result_gone")


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_result_of_a_job_is_kept_as_any_other(stage: ResultsStage, kind: str) -> None:
    tenant = stage.tenant()
    if kind == "text":
        text_answer(stage)
    else:
        stage.worker_answers("image/png", PNG)
    queued = send_once(
        stage.gateways[0].public_url, "POST", "/predict/async", predict_headers(tenant.key), predict_body(stage.model))
    assert queued.status == 202, queued.body

    def ended():
        job = stage.get(tenant, stage.gateways[1], queued.header("Location")).json()
        return job if job["status"] == "completed" else None

    prediction = wait_until(ended, "the job has run", 20)["result"]["prediction"]
    body = stage.get(tenant, stage.gateways[1], f"/api/v1/requests/{queued.json()['request_id']}/result")
    assert body.status == 200
    if kind == "text":
        assert prediction == "setosa" and body.json() == {"prediction": "setosa"}
    else:
        assert prediction["media_type"] == "image/png" and base64.b64decode(prediction["base64"]) == PNG
        assert body.body == PNG and body.header("content-type") == "image/png"
