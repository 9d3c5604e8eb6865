"""Streams that end in every way there is, through two gateways: each is settled once, for what the policy says."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deadline import wait_until
from openai_stage import OpenAIStage, RawStream, chat, open_stage
from tenancy import Tenant, make_tenant, unique
from wire import Wire, head, send_once

CHUNKS = 40
QUICK = {"attempts": 1, "breaker_failures": 0, "breaker_percent": 0}


@pytest.fixture(scope="module")
def stage() -> Iterator[OpenAIStage]:
    yield from open_stage()


@pytest.fixture(scope="module")
def model(stage: OpenAIStage) -> str:
    return stage.model(QUICK)


@pytest.fixture(scope="module")
def drained(stage: OpenAIStage) -> str:
    return stage.model({**QUICK, "stream_leave": "drain"})


@pytest.fixture
def tenant(stage: OpenAIStage) -> Tenant:
    return make_tenant(stage.installation)


def entries(stage: OpenAIStage, tenant: Tenant) -> int:
    return stage.database.execute(
        "SELECT count(*) FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchone()[0]


def left(stage: OpenAIStage, tenant: Tenant) -> tuple[int, ...]:
    """What replays will know of the streams that were left."""
    return stage.database.execute(
        """SELECT coalesce(sum(left_streams), 0), coalesce(sum(drained_streams), 0), coalesce(sum(drained_output_tokens), 0),
            coalesce(sum(drained_delivered_tokens), 0) FROM term_usage WHERE tenant_id = %s""", [tenant.id]).fetchone()


def test_the_caller_leaves_at_every_piece_and_pays_for_what_it_has(stage, model, tenant):
    def leave(count: int) -> tuple[int, dict]:
        gate = unique("gate")
        stage.worker.gate(gate, count)
        stream = RawStream(
            stage.gateways[count % 2], tenant.key, chat(model, stream=True, script={"chunks": CHUNKS, "gate": gate}))
        stream.tokens(count)
        stream.close()
        row = stage.settled(stream.request_id)
        wait_until(lambda: stage.worker.seen(gate)[0]["gone"], "the worker was told to stop", 10)
        return count, row

    with ThreadPoolExecutor(4) as pool:
        for count, row in pool.map(leave, range(1, CHUNKS)):
            assert (row["output"], row["end"], row["entries"]) == (count, "client_left", 1), (count, row)
            assert row["delivered"] == row["generated"] == count
    assert entries(stage, tenant) == CHUNKS - 1
    wait_until(lambda: left(stage, tenant) == (CHUNKS - 1, 0, 0, 0), "the streams are rolled up as left and not drained", 30)


def test_the_caller_leaves_at_every_piece_and_the_worker_goes_on(stage, drained, tenant):
    def leave(count: int) -> tuple[int, dict]:
        gate = unique("gate")
        stage.worker.gate(gate, count)
        stream = RawStream(
            stage.gateways[count % 2], tenant.key, chat(drained, stream=True, script={"chunks": CHUNKS, "gate": gate}))
        stream.tokens(count)
        stream.close()
        stage.worker.gate(gate, CHUNKS)
        return count, stage.settled(stream.request_id)

    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(leave, range(1, CHUNKS)))
        for count, row in rows:
            # The last piece may have been written before the caller was seen to have left.
            assert row["end"] in ("client_left", "finished") and (row["output"], row["entries"]) == (CHUNKS, 1), (count, row)
            # A piece may have been on its way when the caller left.
            assert count <= row["delivered"] <= CHUNKS and row["generated"] == CHUNKS
    assert entries(stage, tenant) == CHUNKS - 1
    gone = [row["delivered"] for _, row in rows if row["end"] == "client_left"]
    short = [delivered for delivered in gone if delivered < CHUNKS]
    expected = (len(gone), len(short), len(short) * CHUNKS, sum(short))
    wait_until(lambda: left(stage, tenant) == expected, "the streams are rolled up as drained", 30)


@pytest.mark.parametrize("extra", [0, 7])
def test_the_worker_is_cut_at_every_piece_and_what_came_is_charged(stage, model, tenant, extra):
    def cut(count: int) -> tuple[int, RawStream, list[str]]:
        script = {"chunks": CHUNKS, "break_after": count, "break_bytes": extra}
        stream = RawStream(stage.gateways[count % 2], tenant.key, chat(model, stream=True, script=script))
        return count, stream, stream.events() if stream.status == 200 else []

    with ThreadPoolExecutor(4) as pool:
        for count, stream, events in pool.map(cut, range(CHUNKS)):
            row = stage.settled(stream.request_id)
            if count == 0:
                assert stream.status == 502 and row["entries"] == 0 and row["status"] == "failed"
                continue
            assert "[DONE]" not in events and json.loads(events[-1])["error"]["code"] == "bad_upstream"
            assert (row["output"], row["end"], row["entries"]) == (count, "worker_failed", 1), (count, row)
    assert entries(stage, tenant) == CHUNKS - 1


def test_an_error_of_the_worker_ends_the_stream_and_what_came_is_charged(stage, model, tenant):
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 9, "error_after": 4}))
    assert "error" in json.loads(stream.events()[-1]) and stream.is_whole
    row = stage.settled(stream.request_id)
    assert (row["output"], row["end"]) == (4, "worker_failed")


def test_a_stream_that_ends_without_its_last_word_is_charged_for_what_came(stage, model, tenant):
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 3, "no_done": True}))
    assert "error" in json.loads(stream.events()[-1])
    assert stage.settled(stream.request_id)["output"] == 3


def test_an_error_before_the_first_token_is_free(stage, model, tenant):
    stream = RawStream(
        stage.gateways[1], tenant.key, chat(model, stream=True, script={"chunks": 3, "error_after": 0}))
    assert stream.status == 502
    row = stage.settled(stream.request_id)
    assert row["status"] == "failed" and row["entries"] == 0


def test_a_worker_that_goes_on_behind_the_bound_is_cut_there(stage, model, tenant):
    stream = RawStream(
        stage.gateways[0], tenant.key,
        chat(model, stream=True, max_tokens=5, script={"chunks": 30, "overrun": True}))
    events = stream.events()
    assert events[-1] == "[DONE]"
    last = json.loads(events[-2])
    assert last["choices"][0]["finish_reason"] == "length" and last["x_weir"]["finish_detail"] == "quota"
    row = stage.settled(stream.request_id)
    assert (row["output"], row["end"], row["entries"]) == (5, "cut_at_bound", 1)


def test_a_worker_that_says_nothing_more_is_given_up(stage, tenant):
    model = stage.model({**QUICK, "stream_gap_ms": 300})
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 9, "hang_after": 2}))
    assert json.loads(stream.events()[-1])["error"]["code"] == "upstream_timeout"
    row = stage.settled(stream.request_id)
    assert (row["output"], row["end"]) == (2, "deadline")


def test_usage_with_each_piece_is_believed_where_the_end_does_not_come(stage, model, tenant):
    stream = RawStream(
        stage.gateways[0], tenant.key,
        chat(model, "a b c d", stream=True, script={"chunks": 9, "each_usage": True, "break_after": 6}))
    stream.events()
    row = stage.settled(stream.request_id)
    assert (row["input"], row["output"], row["source"]) == (4, 6, "worker")


def test_a_caller_that_reads_slowly_holds_the_worker_back(stage, tenant):
    model = stage.model(QUICK, maximum_output_tokens=200_000)
    stream = RawStream(stage.gateways[0], tenant.key, chat(model, "z" * 40, stream=True, script={"chunks": 60_000}))
    word = "z" * 40
    # The worker comes to a stand although it has more to send: nobody gathers a stream in memory.
    def standing() -> int:
        before = stage.worker.seen(word)[0]["sent"]
        time.sleep(0.3)
        return before if before == stage.worker.seen(word)[0]["sent"] < 60_000 else 0

    sent = wait_until(standing, "the worker waits", 30)
    assert 0 < sent < 60_000
    stream.close()
    row = stage.settled(stream.request_id)
    assert row["end"] == "client_left" and 0 < row["output"] <= sent


def test_a_gateway_that_stops_lets_a_stream_end(stage, model, tenant):
    gateway = stage.installation.gateway(unique("stopping")).start()
    wait_until(lambda: stage.knows(gateway, model, tenant), "the model is there", 15)
    gate = unique("gate")
    stage.worker.gate(gate, 2)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 4, "gate": gate}))
    stream.tokens(2)
    gateway.process.send(signal.SIGTERM)
    stage.worker.gate(gate, 4)
    assert stream.events()[-1] == "[DONE]"
    assert stage.settled(stream.request_id)["output"] == 4
    assert gateway.process.wait(30) == 0


def test_a_gateway_that_stops_does_not_wait_for_ever(stage, model, tenant):
    gateway = stage.installation.gateway(unique("stopping"), {"WEIR_GRACE_SECONDS": "1"}).start()
    wait_until(lambda: stage.knows(gateway, model, tenant), "the model is there", 15)
    gate = unique("gate")
    stage.worker.gate(gate, 3)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 9, "gate": gate}))
    stream.tokens(3)
    gateway.process.send(signal.SIGTERM)
    assert "error" in json.loads(stream.events()[-1])
    row = stage.settled(stream.request_id)
    assert (row["output"], row["end"], row["entries"]) == (3, "stopping", 1)
    assert gateway.process.wait(30) == 0


def test_a_gateway_that_is_killed_charges_nothing_that_was_not_ended(stage, model, tenant):
    gateway = stage.installation.gateway(unique("killed")).start()
    wait_until(lambda: stage.knows(gateway, model, tenant), "the model is there", 15)
    gate = unique("gate")
    stage.worker.gate(gate, 3)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 9, "gate": gate}))
    stream.tokens(3)
    gateway.process.kill()
    wait_until(lambda: stage.worker.seen(gate)[0]["gone"], "the worker was told to stop", 10)
    assert entries(stage, tenant) == 0


def test_a_stream_without_an_end_is_ended(stage, tenant):
    model = stage.model({**QUICK, "stream_total_ms": 600}, maximum_output_tokens=100_000)
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 50_000, "pause_ms": 20}))
    events = stream.events()
    assert json.loads(events[-1])["error"]["code"] == "upstream_timeout"
    row = stage.settled(stream.request_id)
    assert row["end"] == "deadline" and row["output"] == sum('"content"' in event for event in events) - 1


def test_a_caller_that_takes_nothing_is_cut_and_pays_for_what_it_took(stage, tenant):
    gateway = stage.installation.gateway(
        unique("impatient"), {"WEIR_STREAM_STALL_MS": "400", "WEIR_STREAM_HEARTBEAT_MS": "100"}).start()
    model = stage.model(QUICK, maximum_output_tokens=200_000)
    wait_until(lambda: stage.knows(gateway, model, tenant), "the model is there", 15)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 100_000}))
    row = stage.settled(stream.request_id)
    assert row["end"] == "client_left" and 0 < row["output"] < 100_000
    # Who pauses but reads is sent comments meanwhile, and is not cut.
    gate = unique("gate")
    stage.worker.gate(gate, 1)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 2, "gate": gate}))
    stream.tokens(1)
    assert stream._chunk() == b": ping\n\n" and stream._chunk() == b": ping\n\n"
    stage.worker.gate(gate, 2)
    assert stream.events()[-1] == "[DONE]" and stage.settled(stream.request_id)["output"] == 2
    gateway.stop()


def test_a_stream_outlives_the_lease_that_it_began_with(stage, model, tenant):
    gateway = stage.installation.gateway(unique("short-lease"), {"WEIR_LEASE_SECONDS": "1"}).start()
    wait_until(lambda: stage.knows(gateway, model, tenant), "the model is there", 15)
    gate = unique("gate")
    stage.worker.gate(gate, 1)
    stream = RawStream(gateway, tenant.key, chat(model, stream=True, script={"chunks": 3, "gate": gate}))
    stream.tokens(1)
    until = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > until, "three leases are over", 10)
    stage.worker.gate(gate, 3)
    assert stream.events()[-1] == "[DONE]"
    assert stage.settled(stream.request_id)["entries"] == 1
    gateway.stop()


def test_a_caller_that_leaves_before_its_whole_body_was_never_there(stage, model, tenant):
    word = unique("word")
    payload = json.dumps(chat(model, word)).encode()
    with Wire(stage.gateways[0].public_url) as wire:
        fields = {
            "Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
        }
        wire.send(head("POST", "/v1/chat/completions", "127.0.0.1", fields) + payload[:-1])
    # A later request of the same tenant is recorded: what was before it would be too.
    later = RawStream(stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 1}))
    later.events()
    stage.settled(later.request_id)
    rows = stage.database.execute("SELECT count(*) FROM requests WHERE tenant_id = %s", [tenant.id]).fetchone()
    assert rows == (1,) and stage.worker.seen(word) == []


def test_a_caller_that_leaves_before_its_answer_has_one_charge_and_can_have_the_answer(stage, model, tenant):
    word = unique("word")
    body = chat(model, word, script={"delay_ms": 300, "chunks": 2})
    payload = json.dumps(body).encode()
    fields = {
        "Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json",
        "Content-Length": str(len(payload)), "Idempotency-Key": unique("key"),
    }
    with Wire(stage.gateways[0].public_url) as wire:
        wire.send(head("POST", "/v1/chat/completions", "127.0.0.1", fields) + payload)
        wait_until(lambda: stage.worker.seen(word), "the worker has it", 10)
    wait_until(lambda: entries(stage, tenant) == 1, "the work that was done is charged", 10)
    again = send_once(stage.gateways[1].public_url, "POST", "/v1/chat/completions", headers=fields, body=payload)
    assert again.status == 200 and again.header("Idempotent-Replayed") == "true"
    assert again.json()["choices"][0]["message"]["content"] == " w0 w1"
    assert len(stage.worker.seen(word)) == 1 and entries(stage, tenant) == 1


def held(stage: OpenAIStage, tenant: Tenant) -> list[int]:
    answer = send_once(
        stage.gateways[0].public_url, "GET", "/api/v1/quota", headers={"Authorization": f"Bearer {tenant.key}"})
    return [quota["held"] for quota in answer.json()["data"]]


def test_what_was_held_for_a_stream_that_fails_early_is_free_again(stage, tenant):
    """Also where no byte of an answer came: the caller is told by a status, a row tells of it, and nothing stays held."""
    model = stage.model({**QUICK, "first_byte_ms": 2000})
    told = {}
    for script in ({"status": 500}, {"status": 400}, {"silent": True}, {"chunks": 2, "error_after": 0}):
        stream = RawStream(stage.gateways[0], tenant.key, chat(model, stream=True, script=script))
        told[json.dumps(script)] = stream.status
        row = stage.settled(stream.request_id)
        assert row["status"] == "failed" and row["entries"] == 0, (script, row)
        stream.close()
    assert list(told.values()) == [502, 400, 504, 502]
    # Idle gateways give back what they hold; what leaked they would keep.
    wait_until(lambda: set(held(stage, tenant)) == {0}, "nothing is held", 30)


def test_a_caller_that_leaves_before_the_first_byte_pays_nothing(stage, model, tenant):
    word = unique("word")
    payload = json.dumps(chat(model, word, stream=True, script={"silent": True})).encode()
    fields = {
        "Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json", "Content-Length": str(len(payload)),
    }
    with Wire(stage.gateways[0].public_url) as wire:
        wire.send(head("POST", "/v1/chat/completions", "127.0.0.1", fields) + payload)
        wait_until(lambda: stage.worker.seen(word), "the worker has it", 10)
    row = wait_until(
        lambda: stage.database.execute(
            "SELECT status, error_code FROM requests WHERE tenant_id = %s", [tenant.id]).fetchone(), "it is recorded", 10)
    assert row == ("failed", "client_closed") and entries(stage, tenant) == 0
    wait_until(lambda: set(held(stage, tenant)) == {0}, "nothing is held", 30)


def test_a_worker_that_goes_on_behind_its_last_word_is_cut(stage, model, tenant):
    word = unique("word")
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, word, stream=True, script={"chunks": 2, "after_done": 1 << 34}))
    assert stream.events()[-1] == "[DONE]" and stage.settled(stream.request_id)["output"] == 2
    wait_until(lambda: stage.worker.seen(word)[0]["gone"], "the worker was cut", 20)


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_who_comes_back_with_the_key_gets_what_was_charged(stage, model, drained, tenant, policy):
    gate, headers = unique("gate"), {"Idempotency-Key": unique("key")}
    stage.worker.gate(gate, 2)
    body = chat(drained if policy == "drain" else model, stream=True, script={"chunks": 5, "gate": gate})
    first = RawStream(stage.gateways[0], tenant.key, body, headers=headers)
    first.tokens(2)
    first.close()
    if policy == "drain":
        stage.worker.gate(gate, 5)
    row = stage.settled(first.request_id)
    again = send_once(
        stage.gateways[1].public_url, "POST", "/v1/chat/completions", body=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json", **headers})
    events = [event.removeprefix("data: ") for event in again.body.decode().split("\n\n") if event]
    said = sum(1 for e in events if e != "[DONE]" and any((c.get("delta") or {}).get("content") for c in json.loads(e).get("choices", [])))
    assert again.header("Idempotent-Replayed") == "true" and said == row["output"]
    if policy == "drain":
        assert said == 5 and events[-1] == "[DONE]"
    else:
        assert said == 2 and json.loads(events[-1])["error"]["code"] == "client_closed"
    assert entries(stage, tenant) == 1


def test_a_stream_is_not_looked_for_in_the_cache(stage, model, tenant):
    stream = RawStream(
        stage.gateways[0], tenant.key, chat(model, stream=True, script={"chunks": 2}), headers={"x-weir-cache": "only"})
    assert stream.status == 504 and entries(stage, tenant) == 0
