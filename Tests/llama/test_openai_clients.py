"""The `openai` package against two gateways, with llama.cpp behind them: the answers are the worker's, the bill is what they say."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import psycopg
import pytest

from deadline import wait_until
from installation import Gateway, Installation
from llama import LlamaServer
from tenancy import Tenant, make_model, make_tenant, make_tier, route, unique

QUESTION = [{"role": "user", "content": "Name three rivers of Europe."}]
LONG_QUESTION = [{"role": "user", "content": "Tell a long story about a river, with many details."}]


@dataclass
class Stage:
    installation: Installation
    gateways: list[Gateway]
    chat: LlamaServer
    embeddings: LlamaServer
    chat_model: str
    embedding_model: str

    def client(self, tenant: Tenant, gateway: int = 0, **more: Any) -> openai.OpenAI:
        return openai.OpenAI(
            api_key=tenant.key, base_url=self.gateways[gateway].public_url + "/v1", timeout=120, **{"max_retries": 0, **more}
        )

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.installation.database_url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def charged(self, tenant: Tenant) -> list[Any]:
        """Input and output tokens of the tenant's requests, oldest first."""
        return self.rows(
            "SELECT input_tokens, output_tokens FROM ledger WHERE tenant_id = %s ORDER BY entry_id", tenant.id
        )


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        gateways = [installation.gateway(name).start() for name in ("one", "two")]
        chat = LlamaServer(installation, "llama-chat").start()
        embeddings = LlamaServer(installation, "llama-embeddings", "--embeddings", "--pooling", "mean").start()
        models = (unique("smollm2"), unique("smollm2-embedding"))
        for model, worker in zip(models, (chat, embeddings), strict=True):
            make_model(
                installation, model, feature_count=None, token_counting="worker", maximum_output_tokens=1024,
                fixed_tokens_per_request=0,
            )  # fmt: skip
            installation.admin.expect(
                "PUT", f"/admin/v1/models/{model}/delivery",
                {"first_byte_ms": 60_000, "total_ms": 120_000}, (200,),
            )  # fmt: skip
            route(installation, model, worker.address, protocol="openai")
        stage = Stage(installation, gateways, chat, embeddings, *models)
        tenant = make_tenant(installation)
        for gateway in range(2):
            wait_until(lambda g=gateway: set(models) <= set(names(stage, tenant, g)), "the models are there", 15)
        yield stage


@pytest.fixture
def tenant(stage: Stage) -> Tenant:
    return make_tenant(stage.installation)


def names(stage: Stage, tenant: Tenant, gateway: int) -> list[str]:
    return [model.id for model in stage.client(tenant, gateway).models.list().data]


def test_models(stage: Stage, tenant: Tenant) -> None:
    assert stage.chat_model in names(stage, tenant, 1)
    assert stage.client(tenant).models.retrieve(stage.chat_model).object == "model"
    with pytest.raises(openai.NotFoundError):
        stage.client(tenant).models.retrieve("no-such-model")


@pytest.mark.parametrize("gateway", [0, 1])
def test_chat_is_the_workers_and_billed_as_it_says(stage: Stage, tenant: Tenant, gateway: int) -> None:
    answer = stage.client(tenant, gateway).chat.completions.create(
        model=stage.chat_model, messages=QUESTION, max_tokens=24, temperature=0
    )
    direct = stage.chat.direct(
        "/v1/chat/completions", {"model": "any", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    )
    assert answer.choices[0].message.content == direct["choices"][0]["message"]["content"]
    assert answer.usage.prompt_tokens == direct["usage"]["prompt_tokens"]
    assert stage.charged(tenant) == [(answer.usage.prompt_tokens, answer.usage.completion_tokens)]
    operations = stage.rows("SELECT operation, status FROM requests WHERE tenant_id = %s", tenant.id)
    assert operations == [("chat.completions", "completed")]


def test_text_completions(stage: Stage, tenant: Tenant) -> None:
    answer = stage.client(tenant).completions.create(
        model=stage.chat_model, prompt="The longest river of Europe is", max_tokens=8, temperature=0
    )
    assert answer.choices[0].text
    assert stage.charged(tenant) == [(answer.usage.prompt_tokens, answer.usage.completion_tokens)]


@pytest.mark.parametrize("inputs", ["one text", ["one text", "and another one"]])
def test_embeddings(stage: Stage, tenant: Tenant, inputs: Any) -> None:
    answer = stage.client(tenant, 1).embeddings.create(model=stage.embedding_model, input=inputs)
    count = 1 if isinstance(inputs, str) else len(inputs)
    assert [item.index for item in answer.data] == list(range(count))
    assert {len(item.embedding) for item in answer.data} == {576}
    assert stage.charged(tenant) == [(answer.usage.prompt_tokens, 0)]


@pytest.mark.parametrize("asks_for_usage", [True, False])
def test_a_stream_is_billed_what_its_usage_says(stage: Stage, tenant: Tenant, asks_for_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asks_for_usage else {}
    with stage.client(tenant, 1).chat.completions.create(
        model=stage.chat_model, messages=QUESTION, max_tokens=24, temperature=0, stream=True, **options
    ) as stream:
        chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 3, "a stream comes in pieces"
    assert len({chunk.id for chunk in chunks}) == 1
    whole = stage.chat.direct(
        "/v1/chat/completions", {"model": "any", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    )
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    wait_until(lambda: len(stage.charged(tenant)) == 1, "the stream is settled", 10)
    if asks_for_usage:
        assert len(usages) == 1 and chunks[-1].choices == []
        assert stage.charged(tenant) == [(usages[0].prompt_tokens, usages[0].completion_tokens)]
    else:
        assert usages == []
        assert stage.charged(tenant) == [(whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"])]


def test_the_worker_stops_when_the_caller_leaves(stage: Stage, tenant: Tenant) -> None:
    before = stage.chat.metric("tokens_predicted_total")
    stream = stage.client(tenant).chat.completions.create(
        model=stage.chat_model, messages=LONG_QUESTION, max_tokens=1000, temperature=0, stream=True
    )
    for number, _ in enumerate(stream):
        if number == 5:
            break
    assert stage.chat.busy_slots() == 1
    stream.close()
    wait_until(lambda: stage.chat.busy_slots() == 0, "the worker has stopped", 10)
    assert stage.chat.metric("tokens_predicted_total") - before < 900
    wait_until(lambda: len(stage.charged(tenant)) == 1, "the stream is settled", 10)
    ((_, output),) = stage.charged(tenant)
    assert 1 <= output < 900
    assert stage.rows("SELECT stream_end FROM requests WHERE tenant_id = %s", tenant.id) == [("client_left",)]


def test_errors_are_the_packages_own(stage: Stage, tenant: Tenant) -> None:
    client = stage.client(tenant)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(
            api_key="weir_live_0123456789AB_000000000000000000000000000000000sImyu",
            base_url=stage.gateways[0].public_url + "/v1",
            max_retries=0,
        ).models.list()
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=stage.chat_model, messages=[])
    assert stage.charged(tenant) == []


def test_one_replica_dies_and_the_other_answers(stage: Stage, tenant: Tenant) -> None:
    spare = LlamaServer(stage.installation, "llama-spare").start()
    model = unique("two-replicas")
    make_model(
        stage.installation, model, feature_count=None, token_counting="worker", maximum_output_tokens=64,
        fixed_tokens_per_request=0,
    )  # fmt: skip
    stage.installation.admin.expect(
        "PUT", f"/admin/v1/models/{model}/delivery", {"first_byte_ms": 60_000, "total_ms": 120_000}, (200,)
    )
    route(stage.installation, model, spare.address, stage.chat.address, protocol="openai")
    wait_until(lambda: model in names(stage, tenant, 0), "the model is there", 15)
    spare.kill()
    # What Weir does not repeat elsewhere, for want of a budget, the package asks again.
    client = stage.client(tenant, max_retries=4)
    for _ in range(6):
        answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, temperature=0)
        assert answer.choices[0].message.content
    assert len(stage.charged(tenant)) == 6


def test_a_used_up_quota_stops_the_package(stage: Stage) -> None:
    tier = unique("two-requests").lower()
    make_tier(stage.installation, tier, [{"unit": "requests", "frequency": "month", "amount": 2, "mode": "hard"}])
    tenant = make_tenant(stage.installation, tier)
    client = stage.client(tenant, max_retries=3)
    for _ in range(2):
        client.chat.completions.create(model=stage.chat_model, messages=QUESTION, max_tokens=2)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model=stage.chat_model, messages=QUESTION, max_tokens=2)
    assert refused.value.code == "insufficient_quota"
    assert len(stage.charged(tenant)) == 2
