"""The OpenAI API as its own client sees it, through two gateways: answers, streams, errors, retries, models."""

from collections.abc import Iterator

import openai
import pytest

from deadline import wait_until
from openai_stage import OpenAIStage, RawStream, chat, open_stage
from tenancy import Tenant, make_key, make_tenant, make_tier, unique
from wire import send_once


@pytest.fixture(scope="module")
def stage() -> Iterator[OpenAIStage]:
    yield from open_stage()


@pytest.fixture(scope="module")
def model(stage: OpenAIStage) -> str:
    return stage.model()


@pytest.fixture
def tenant(stage: OpenAIStage) -> Tenant:
    return make_tenant(stage.installation)


def client(stage: OpenAIStage, key: str, number: int = 0, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=key, base_url=f"{stage.gateways[number].public_url}/v1", max_retries=retries, timeout=20)


@pytest.mark.parametrize("number", [0, 1])
def test_a_chat_is_answered_and_charged_as_the_worker_says(stage, model, tenant, number):
    raw = client(stage, tenant.key, number).chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "one two three"}], extra_body={"script": {"chunks": 3}})
    answer = raw.parse()
    assert answer.choices[0].message.content == " w0 w1 w2"
    assert answer.model == model
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    assert raw.headers["x-weir-usage"] == "in=3, cached=0, out=3"
    row = stage.settled(raw.headers["x-request-id"])
    assert (row["operation"], row["input"], row["output"], row["source"]) == ("chat.completions", 3, 3, "worker")
    assert row["end"] is None and row["entries"] == 1


def test_what_the_gateway_does_not_know_reaches_the_worker_as_it_was(stage, model, tenant):
    word = unique("word")
    client(stage, tenant.key).chat.completions.create(
        model=model, messages=[{"role": "user", "content": word}], logit_bias={"50256": -100}, seed=7,
        extra_body={"x_future": [1.50, {"a": None}], "script": {}})
    body = stage.worker.seen(word)[0]["body"]
    assert body["x_future"] == [1.50, {"a": None}] and body["seed"] == 7 and body["logit_bias"] == {"50256": -100}
    # The model's own bound, because the caller named none.
    assert body["max_tokens"] == 64


def test_a_stream_ends_with_the_usage_that_was_charged(stage, model, tenant):
    chunks = list(client(stage, tenant.key).chat.completions.create(
        model=model, messages=[{"role": "user", "content": "a b"}], stream=True,
        stream_options={"include_usage": True}, extra_body={"script": {"chunks": 6}}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == " w0 w1 w2 w3 w4 w5"
    assert {c.model for c in chunks} == {model} and len({c.id for c in chunks}) == 1
    assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert last.choices == [] and (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 6)
    assert last.x_weir["currency"] == "USD"


def test_a_stream_without_usage_is_charged_all_the_same(stage, model, tenant):
    stream = RawStream(stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 5}))
    events = stream.events()
    assert events[-1] == "[DONE]" and not any("prompt_tokens" in event for event in events)
    assert stream.headers["content-type"].startswith("text/event-stream")
    row = stage.settled(stream.request_id)
    assert (row["input"], row["output"], row["source"], row["end"]) == (3, 5, "worker", "finished")
    assert row["delivered"] == row["generated"] == 5


def test_a_kept_connection_carries_the_next_request_behind_a_stream(stage, model, tenant):
    with client(stage, tenant.key) as api:
        for count in (2, 3):
            chunks = list(api.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "a"}], stream=True,
                extra_body={"script": {"chunks": count}}))
            assert sum(1 for c in chunks if c.choices and c.choices[0].delta.content) == count


def test_a_text_is_gone_on_with(stage, model, tenant):
    answer = client(stage, tenant.key).completions.create(model=model, prompt="one two", max_tokens=3)
    assert answer.choices[0].text == " w0 w1 w2" and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_texts_become_vectors(stage, model, tenant):
    raw = client(stage, tenant.key).embeddings.with_raw_response.create(
        model=model, input=["a b", "c"], encoding_format="float")
    answer = raw.parse()
    assert [item.embedding for item in answer.data] == [[0.5, 3], [0.5, 1]]
    row = stage.settled(raw.headers["x-request-id"])
    assert (row["operation"], row["input"], row["output"]) == ("embeddings", 3, 0)


def test_a_key_sees_the_models_that_it_may_call(stage, model, tenant):
    only = make_key(stage.installation.admin, tenant.id, models=[model])
    every = [m.id for m in client(stage, tenant.key).models.list().data]
    assert model in every and "iris" in every
    assert [m.id for m in client(stage, only.key).models.list().data] == [model]
    assert client(stage, only.key).models.retrieve(model).owned_by == "weir"
    answers = [
        pytest.raises(openai.NotFoundError, client(stage, only.key).models.retrieve, name).value
        for name in ("iris", "there-is-none")
    ]
    assert answers[0].body == answers[1].body


def test_errors_are_the_clients_own_exceptions(stage, model, tenant):
    api = client(stage, tenant.key)
    ask = lambda **more: api.chat.completions.create(  # noqa: E731
        **{"model": model, "messages": [{"role": "user", "content": "a"}], **more})
    with pytest.raises(openai.AuthenticationError) as caught:
        client(stage, "weir_live_nonsense").models.list()
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as caught:
        ask(model="there-is-none")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(max_tokens=65)
    assert caught.value.param == "max_tokens" and "at most 64" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        ask(model="iris")
    assert "predict" in caught.value.message or "oip" in caught.value.message
    with pytest.raises(openai.BadRequestError):
        ask(extra_body={"script": {"status": 400}})
    with pytest.raises(openai.InternalServerError) as caught:
        ask(extra_body={"script": {"status": 500}})
    assert caught.value.status_code == 502 and caught.value.type == "server_error"
    assert caught.value.request_id.startswith("req_")
    key = make_key(stage.installation.admin, tenant.id, models=["iris"])
    with pytest.raises(openai.PermissionDeniedError):
        client(stage, key.key).chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}])


@pytest.mark.parametrize("usage", [
    {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": "9", "completion_tokens": 1},
    {"prompt_tokens": 1, "completion_tokens": 1e308},
])
@pytest.mark.parametrize("stream", [False, True])
def test_a_worker_that_lies_about_its_usage_is_not_believed(stage, model, tenant, usage, stream):
    if stream:
        running = RawStream(stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 2, "usage": usage}))
        events = running.events()
        assert "[DONE]" not in events and '"error"' in events[-1]
        row = stage.settled(running.request_id)
        # What was delivered before the lie.
        assert (row["output"], row["end"]) == (2, "worker_failed")
    else:
        with pytest.raises(openai.InternalServerError) as caught:
            client(stage, tenant.key).chat.completions.create(
                model=model, messages=[{"role": "user", "content": "a"}], extra_body={"script": {"usage": usage}})
        assert caught.value.status_code == 502


def test_more_usage_than_was_held_is_cut_and_raises_an_alarm(stage, model, tenant):
    raw = client(stage, tenant.key).chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "a"}], max_tokens=2,
        extra_body={"script": {"chunks": 2, "usage": {"prompt_tokens": 1, "completion_tokens": 10**15}}})
    row = stage.settled(raw.headers["x-request-id"])
    assert row["output"] < 1000
    metrics = send_once(
        stage.gateways[0].admin_url, "GET", "/metrics",
        headers={"Authorization": f"Bearer {stage.installation.admin_key}"}).body.decode()
    assert any(line.startswith("weir_usage_clamped_total") and not line.endswith(" 0") for line in metrics.splitlines())


def test_an_exhausted_quota_is_not_tried_again(stage, model):
    tier = unique("two-requests")
    make_tier(stage.installation, tier, [{"unit": "requests", "frequency": "month", "amount": 2, "mode": "hard"}])
    tenant = make_tenant(stage.installation, tier)
    word = unique("word")
    api = client(stage, tenant.key, retries=3)
    ask = lambda: api.chat.completions.create(model=model, messages=[{"role": "user", "content": word}])  # noqa: E731
    ask(), ask()
    with pytest.raises(openai.RateLimitError) as caught:
        ask()
    assert caught.value.code == "insufficient_quota" and caught.value.type == "insufficient_quota"
    assert len(stage.worker.seen(word)) == 2


def test_the_client_tries_again_where_that_may_help(stage, model, tenant):
    """Its retries of a worker's failure each reach the worker, and none of them is charged."""
    word = unique("word")
    with pytest.raises(openai.InternalServerError):
        client(stage, tenant.key, retries=1).chat.completions.create(
            model=model, messages=[{"role": "user", "content": word}], extra_body={"script": {"status": 503}})
    assert len(stage.worker.seen(word)) >= 2
    charged = stage.database.execute("SELECT count(*) FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchone()
    assert charged == (0,)


def test_the_same_key_gets_the_same_stream_and_one_charge(stage, model, tenant):
    word = unique("word")
    headers = {"Idempotency-Key": unique("key")}
    body = chat(model, word, stream=True, stream_options={"include_usage": True}, script={"chunks": 3})
    first = RawStream(stage.gateways[0], tenant.key, body, headers=headers)
    events = first.events()
    again = send_once(
        stage.gateways[1].public_url, "POST", "/v1/chat/completions",
        headers={"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json", **headers},
        body=__import__("json").dumps(body).encode())
    assert again.header("Idempotent-Replayed") == "true" and again.header("content-type").startswith("text/event-stream")
    assert again.request_id == first.request_id
    replayed = [e.removeprefix("data: ") for e in again.body.decode().split("\n\n") if e]
    assert replayed == events
    assert len(stage.worker.seen(word)) == 1 and stage.settled(first.request_id)["entries"] == 1


def test_an_answer_that_does_not_depend_on_chance_is_kept(stage, tenant):
    model = stage.model()
    stage.installation.admin.expect("PUT", f"/admin/v1/models/{model}/cache", {"enabled": True}, (200,))
    ask = lambda temperature: client(stage, tenant.key).chat.completions.with_raw_response.create(  # noqa: E731
        model=model, messages=[{"role": "user", "content": "a"}], temperature=temperature).headers.get("cache-status", "")
    wait_until(lambda: "hit" in ask(0), "the second answer is the first one", 10)
    assert "hit" not in ask(0.7) and "hit" not in ask(0.7)
