"""Receipts with answers and proofs of single entries, verified without us: by `weir verify`, and by a program of its own that was written from the
documentation.
"""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ledger_verifier as verifier
from api import assert_problem, get, predict, predict_body, predict_headers
from deadline import wait_until
from ledger_files import Files, administrate, export, keys_of, posted_count, serve_traffic, wait_sealed, weir
from openai_stage import OpenAIStage, RawStream, chat, open_stage
from tenancy import Tenant, make_key, make_tenant
from wire import Wire, send_once

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stage() -> Iterator[OpenAIStage]:
    yield from open_stage()


@pytest.fixture(scope="module")
def model(stage: OpenAIStage) -> str:
    return stage.model()


@pytest.fixture
def tenant(stage: OpenAIStage) -> Tenant:
    return make_tenant(stage.installation)


def test_a_thousand_receipts_over_two_gateways_are_those_of_the_ledger(
    stage: OpenAIStage, model: str, tenant: Tenant, tmp_path: Path
) -> None:
    assert administrate(stage, "tenants", "set", tenant.id, "--receipts", "full").returncode == 0
    for gateway in stage.gateways:
        wait_until(
            lambda g=gateway: predict(g.public_url, tenant.key).header("x-weir-receipt"), "the gateway follows", 2)
    receipts: dict[str, str] = {}
    before = posted_count(stage, tenant)

    def predictions(number: int) -> None:
        with Wire(stage.gateways[number % 2].public_url) as wire:
            for turn in range(90):
                form = {"x-weir-receipt": "short"} if turn % 3 == 0 else {}
                answer = wire.request("POST", "/predict/", {**predict_headers(tenant.key), **form}, predict_body())
                assert answer.status == 200
                receipts[answer.request_id] = answer.header("x-weir-receipt")

    def streams(number: int) -> None:
        for _ in range(35):
            body = chat(model, stream=True, stream_options={"include_usage": True}, script={"chunks": 3})
            stream = RawStream(stage.gateways[number % 2], tenant.key, body)
            events = [json.loads(event) for event in stream.events() if event != "[DONE]"]
            assert [event for event in events[:-1] if "x_weir" in event] == []
            assert "x-weir-receipt" not in stream.headers
            receipts[stream.request_id] = events[-1]["x_weir"]["receipt"]
            stream.close()

    with ThreadPoolExecutor(12) as pool:
        work = [pool.submit(predictions, number) for number in range(8)]
        work += [pool.submit(streams, number) for number in range(8)]
        for part in work:
            part.result(300)
    assert len(receipts) == 8 * 90 + 8 * 35 == posted_count(stage, tenant) - before
    wait_sealed(stage, tenant)
    lines = export(stage.gateways[0], tenant)
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    report = verifier.verify_export(lines, files.keys)
    entries = {entry["request_id"]: entry for entry in report.entries}
    shorts = 0
    for request, text in receipts.items():
        assert len(text) <= 2048
        read = verifier.verify_receipt(text, files.keys, entries[request])
        shorts += not read.fields
    assert shorts == 8 * 30
    full = [text for request, text in receipts.items() if verifier.Receipt.of(text).fields]
    path = files.write("receipts.txt", "\n".join(full) + "\n")
    ledger = files.write("ledger.jsonl", "\n".join(lines) + "\n")
    done = weir("verify", "receipt", path, "--keys", files.keys_path, "--entry", ledger)
    assert done.returncode == 0, done.stderr
    assert f"{len(full)} receipts" in done.stdout

    request, text = next((r, t) for r, t in receipts.items() if not verifier.Receipt.of(t).fields)
    entry = files.write("entry.json", json.dumps(entries[request]))
    assert weir("verify", "receipt", text, "--keys", files.keys_path, "--entry", entry).returncode == 0
    assert weir("verify", "receipt", text, "--keys", files.keys_path).returncode == 2
    changed = files.write("changed.json", json.dumps({**entries[request], "output_tokens": 999}))
    assert weir("verify", "receipt", text, "--keys", files.keys_path, "--entry", changed).returncode == 1
    for text in random.Random(3).sample(full, 5):
        place = random.Random(text).randrange(len(text))
        broken = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        assert weir("verify", "receipt", broken, "--keys", files.keys_path).returncode == 1


def test_who_wants_no_receipt_and_whose_answer_is_kept_gets_none(stage: OpenAIStage, model: str, tenant: Tenant) -> None:
    url = stage.gateways[0].public_url

    def ask(**fields: str):
        return send_once(url, "POST", "/predict/", {**predict_headers(tenant.key), **fields}, predict_body())

    assert ask().header("x-weir-receipt") is None
    assert ask(**{"x-weir-receipt": "full"}).header("x-weir-receipt")
    assert ask(**{"x-weir-receipt": "none"}).header("x-weir-receipt") is None
    for nonsense in ("", "FULL", "yes", "short, full"):
        assert_problem(ask(**{"x-weir-receipt": nonsense}), 400, "bad_request")
    assert posted_count(stage, tenant) == 3
    first = ask(**{"x-weir-receipt": "full", "Idempotency-Key": "once"})
    again = ask(**{"x-weir-receipt": "full", "Idempotency-Key": "once"})
    assert again.header("idempotent-replayed") == "true" and again.body == first.body
    assert first.header("x-weir-receipt") is None and again.header("x-weir-receipt") is None
    body = chat(model, stream=True, stream_options={"include_usage": True}, script={"chunks": 2})
    texts = []
    for _ in range(2):
        stream = RawStream(
            stage.gateways[0], tenant.key, body, headers={"x-weir-receipt": "full", "Idempotency-Key": "stream"})
        texts.append(stream.events() if "content-length" not in stream.headers else None)
        stream.close()
    assert texts[0] and "receipt" not in json.loads(texts[0][-2])["x_weir"]
    # What failed was not charged and has no receipt.
    failed = send_once(
        url, "POST", "/predict/", {**predict_headers(tenant.key), "x-weir-receipt": "full"}, predict_body("nowhere"))
    assert failed.status == 404 and failed.header("x-weir-receipt") is None


def test_a_proof_of_one_entry_holds_alone_and_is_nobody_elses(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    serve_traffic(stage, tenant, 20)
    wait_sealed(stage, tenant)
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    requests = stage.database.execute(
        "SELECT entry_id::text FROM sealed_entries WHERE tenant_id = %s ORDER BY seq", [tenant.id]).fetchall()
    for number, (request,) in enumerate(requests):
        answer = get(stage.gateways[number % 2].public_url, f"/api/v1/ledger/proofs/req_{request}", tenant.key)
        assert answer.status == 200, answer.body
        proof = answer.json()
        assert proof["entry"]["request_id"] == f"req_{request}"
        verifier.verify_proof(proof, files.keys)
        if number in (0, 7, len(requests) - 1):
            path = files.write("proof.json", answer.body.decode())
            assert weir("verify", "proof", path, "--keys", files.keys_path).returncode == 0
            proof["entry"]["output_tokens"] += 1
            path = files.write("proof.json", json.dumps(proof))
            assert weir("verify", "proof", path, "--keys", files.keys_path).returncode == 1
    stranger = make_tenant(stage.installation)
    url = stage.gateways[0].public_url
    foreign = assert_problem(get(url, f"/api/v1/ledger/proofs/req_{requests[0][0]}", stranger.key), 404, "not_found")
    unknown = assert_problem(
        get(url, "/api/v1/ledger/proofs/req_0195a3bf-30c4-7a52-bb10-6d7e8f901a2b", stranger.key), 404, "not_found")
    assert foreign["detail"] == unknown["detail"]
    assert_problem(get(url, "/api/v1/ledger/head", stranger.key), 404, "not_found")
    assert len(export(stage.gateways[0], stranger)) == 2
    weak = make_key(stage.installation.admin, tenant.id, scopes=["read"])
    for target in ("head", "entries", f"proofs/{requests[0][0]}"):
        assert_problem(get(url, f"/api/v1/ledger/{target}", weak.key), 403, "insufficient_scope")


def test_tags_are_part_of_what_is_sealed(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    url = stage.gateways[0].public_url
    for number in range(9):
        tags = {"x-weir-tags": ["team=a", "team=a,env=prod", "z=1,b=2,a=3"][number % 3]} if number % 2 else {}
        answer = send_once(url, "POST", "/predict/", {**predict_headers(tenant.key), **tags}, predict_body())
        assert answer.status == 200, answer.body
    wait_sealed(stage, tenant)
    lines = export(stage.gateways[1], tenant)
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    entries = verifier.verify_export(lines, files.keys).entries
    kept = stage.database.execute(
        "SELECT entry_id::text, array_to_string(tags, ',') FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchall()
    assert {entry["entry_id"]: entry.get("tags") for entry in entries} == dict(kept)
    assert len({tags for _, tags in kept}) == 4
    assert files.ledger(lines).returncode == 0
    for place, line in enumerate(lines):
        entry = json.loads(line)
        if entry["object"] != "ledger_entry":
            continue
        changes = [{**entry, "tags": "other=1"}, {**entry, "tags": "z=1,b=2"}]
        if "tags" in entry:
            changes.append({name: value for name, value in entry.items() if name != "tags"})
        for changed in changes:
            mutated = [*lines[:place], json.dumps(changed), *lines[place + 1 :]]
            done = files.ledger(mutated)
            assert done.returncode == 1 and json.loads(done.stdout)["seq"] == entry["seq"]
            with pytest.raises(verifier.Bad):
                verifier.verify_export(mutated, files.keys)
    tagged = next(entry for entry in entries if "tags" in entry)
    proof = get(url, f"/api/v1/ledger/proofs/{tagged['request_id']}", tenant.key).json()
    verifier.verify_proof(proof, files.keys)
    proof["entry"]["tags"] += ",more=1"
    with pytest.raises(verifier.Bad):
        verifier.verify_proof(proof, files.keys)
