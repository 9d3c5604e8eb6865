"""`generate` of the Open Inference Protocol, onto workers of the OpenAI API and onto workers that have it themselves."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api import bearer
from books import usage_entries
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, make_model, make_tenant, route, unique
from text_worker import TextWorker, text_worker
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def worker() -> Iterator[TextWorker]:
    with text_worker() as running:
        yield running


@pytest.fixture(scope="module", params=["openai", "oip"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(installation: Installation, second_gateway: Gateway, worker: TextWorker, protocol: str) -> str:
    name = unique(f"texts-{protocol}")
    make_model(installation, name, None, maximum_output_tokens=64)
    route(installation, name, worker.address, protocol=protocol)
    probe = make_tenant(installation)
    for url in (installation.public_url, second_gateway.public_url):
        wait_until(
            lambda url=url: send_once(url, "GET", f"/v2/models/{name}/ready", bearer(probe.key)).status == 200,
            f"{name} is routed",
            20,
        )
    return name


def generate(url: str, key: str, model: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
    return send_once(
        url,
        "POST",
        f"/v2/models/{model}/generate",
        {**bearer(key), "Content-Type": "application/json", **(headers or {})},
        body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def test_a_text_is_answered_and_charged(
    installation: Installation, worker: TextWorker, model: str, protocol: str, tenant: Tenant
) -> None:
    parameters = {"max_tokens": 9, "temperature": 0.5, "top_p": 1, "stop": ["\n"], "details": True}
    answer = generate(
        installation.public_url, tenant.key, model, {"id": "x", "text_input": 'weir "é"', "parameters": parameters}
    )
    assert answer.status == 200, answer.body
    reason = "stop" if protocol == "openai" else "length"
    body = answer.json()
    assert body.pop("details")["finish_reason"] == reason
    assert body == {
        "model_name": model,
        "model_version": "1" if protocol == "openai" else "7",
        "id": "x",
        "text_output": '"é" riew',
    }
    target, sent = worker.seen[-1]
    if protocol == "openai":
        assert target == "/v1/completions"
        assert sent == {
            "model": model, "prompt": 'weir "é"', "max_tokens": 9, "temperature": 0.5, "top_p": 1, "stop": ["\n"],
        }  # fmt: skip
    else:
        assert target == f"/v2/models/{model}/versions/1/generate"
        assert sent["parameters"] == parameters and sent["text_input"] == 'weir "é"'
        assert sent["id"] == answer.request_id
    with installation.database() as database:
        entries = usage_entries(database, tenant.id)
    assert [(entry.input_tokens, entry.output_tokens, entry.token_source) for entry in entries] == [(8, 8, "worker")]


def test_without_a_bound_the_worker_is_told_the_models(
    installation: Installation, worker: TextWorker, model: str, tenant: Tenant
) -> None:
    answer = generate(installation.public_url, tenant.key, model, {"text_input": "ab"})
    assert answer.json()["text_output"] == "ba" and "details" not in answer.json() and "id" not in answer.json()
    _, sent = worker.seen[-1]
    assert sent.get("max_tokens", sent.get("parameters", {}).get("max_tokens")) == 64


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", {}, {"text_input": 1}, {"text_input": "a", "x": 1}, {"text_input": "a", "id": 1},
        {"text_input": "a", "parameters": []}, {"text_input": "a", "parameters": {"max_tokens": 0}},
        {"text_input": "a", "parameters": {"max_tokens": 65}}, {"text_input": "a", "parameters": {"max_tokens": 1.5}},
        {"text_input": "a", "parameters": {"stream": True}}, {"text_input": "a", "parameters": {"n": 2}},
        {"text_input": "a", "parameters": {"stop": [1]}}, {"text_input": "a", "parameters": {"x": {}}},
        {"text_input": "a", "parameters": {"details": 1}}, {"text_input": "a", "parameters": {"model": "b"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_request_reaches_no_worker(
    installation: Installation, worker: TextWorker, model: str, tenant: Tenant, body: Any
) -> None:
    before = len(worker.seen)
    answer = generate(installation.public_url, tenant.key, model, body)
    assert answer.status == 400 and list(answer.json()) == ["error"], answer.body
    assert len(worker.seen) == before


@pytest.mark.parametrize(
    "said",
    [
        {}, [], {"text_output": 1}, {"choices": []}, {"choices": [{"text": None}]},
        {"choices": [{"text": "a"}], "text_output": "a", "usage": {
            "prompt_tokens": -1, "completion_tokens": 1, "input_tokens": -1, "output_tokens": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_worker_that_answers_otherwise_is_not_paid(
    installation: Installation, worker: TextWorker, model: str, tenant: Tenant, said: Any
) -> None:
    worker.answer = said
    try:
        answer = generate(installation.public_url, tenant.key, model, {"text_input": "a"})
    finally:
        worker.answer = None
    assert answer.status == 502 and list(answer.json()) == ["error"], answer.body
    with installation.database() as database:
        assert usage_entries(database, tenant.id) == []


@pytest.mark.parametrize("protocol", ["openai"], indirect=True, scope="module")
def test_tensors_and_texts_are_not_taken_for_each_other(
    installation: Installation, model: str, protocol: str, tenant: Tenant
) -> None:
    answer = send_once(
        installation.public_url,
        "POST",
        f"/v2/models/{model}/infer",
        {**bearer(tenant.key), "Content-Type": "application/json"},
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["a"]}]}',
    )
    assert answer.status == 400, answer.body
    plain = generate(installation.public_url, tenant.key, "iris", {"text_input": "a"})
    assert plain.status in (400, 404), plain.body


def test_a_repeated_key_is_answered_once(
    installation: Installation, second_gateway: Gateway, worker: TextWorker, model: str, tenant: Tenant
) -> None:
    headers = {"Idempotency-Key": unique("key")}
    first = generate(installation.public_url, tenant.key, model, {"text_input": "abc"}, headers)
    calls = len(worker.seen)
    again = generate(second_gateway.public_url, tenant.key, model, {"text_input": "abc"}, headers)
    assert first.status == again.status == 200
    assert again.body == first.body and again.header("idempotent-replayed") == "true"
    assert len(worker.seen) == calls


def stream(
    url: str, key: str, model: str, text: str, headers: dict[str, str] | None = None, **parameters: Any
) -> tuple[Answer, list[dict[str, Any]]]:
    answer = send_once(
        url,
        "POST",
        f"/v2/models/{model}/generate_stream",
        {**bearer(key), **(headers or {})},
        json.dumps({"id": "s", "text_input": text, "parameters": parameters}).encode(),
    )
    events = [block.removeprefix("data: ") for block in answer.body.decode().split("\n\n") if block]
    return answer, [json.loads(event) for event in events] if answer.status == 200 else []


def test_a_text_comes_piece_by_piece_and_is_charged_once(
    installation: Installation, worker: TextWorker, model: str, tenant: Tenant
) -> None:
    answer, events = stream(installation.public_url, tenant.key, model, 'w"é', details=True)
    assert answer.status == 200, answer.body
    assert (answer.header("content-type") or "").startswith("text/event-stream")
    assert "".join(event["text_output"] for event in events) == 'é"w'
    assert len(events) == 4
    assert {(event["model_name"], event["model_version"], event["id"]) for event in events} == {(model, "1", "s")}
    assert events[-1]["details"]["finish_reason"] == "stop"
    plain, without = stream(installation.public_url, tenant.key, model, "abc")
    assert plain.status == 200 and all("details" not in event for event in without)
    with installation.database() as database:
        entries = usage_entries(database, tenant.id)
    assert sorted((entry.input_tokens, entry.output_tokens) for entry in entries) == [(5, 3), (5, 3)]
    stats = send_once(installation.public_url, "GET", f"/v2/models/{model}/stats", bearer(tenant.key)).json()
    assert stats["model_stats"][0]["execution_count"] == 2


def test_a_stream_that_fails_says_so_and_is_charged_for_what_came(
    installation: Installation, worker: TextWorker, model: str, tenant: Tenant
) -> None:
    answer, events = stream(installation.public_url, tenant.key, model, "a!bc")
    assert answer.status == 200
    assert [event.get("text_output") for event in events[:-1]] == ["c", "b"]
    assert list(events[-1]) == ["error"] and isinstance(events[-1]["error"], str)
    refused, _ = stream(installation.public_url, tenant.key, model, "abc!")
    assert refused.status == 502 and list(refused.json()) == ["error"], refused.body
    with installation.database() as database:
        assert [entry.output_tokens for entry in usage_entries(database, tenant.id)] == [2]


def test_a_stream_is_cut_at_its_bound_and_repeated_from_what_is_kept(
    installation: Installation, second_gateway: Gateway, worker: TextWorker, model: str, tenant: Tenant
) -> None:
    headers = {"Idempotency-Key": unique("key")}
    first, events = stream(installation.public_url, tenant.key, model, "abcdef", headers, max_tokens=3)
    assert "".join(event["text_output"] for event in events) == "fed"
    assert events[-1]["details"]["finish_reason"] == "length"
    calls = len(worker.seen)
    again, _ = stream(second_gateway.public_url, tenant.key, model, "abcdef", headers, max_tokens=3)
    assert again.body == first.body and again.header("idempotent-replayed") == "true"
    assert len(worker.seen) == calls
    with installation.database() as database:
        assert [entry.output_tokens for entry in usage_entries(database, tenant.id)] == [3]
