"""What customers can verify without us: exported ledgers, over two gateways, a change of the signing key and a
killed sealer. Everything is verified twice: by `weir verify`, and by a program of its own that was written from the documentation.
"""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger_verifier as verifier
from api import assert_problem, get, predict_body, predict_headers
from deadline import wait_until
from ledger_files import Files, administrate, export, keys_of, posted_count, sealed_count, serve_traffic, wait_sealed, weir
from openai_stage import OpenAIStage, open_stage
from process import command_line, send_signal
from tenancy import Tenant, make_key, make_tenant
from wire import Wire

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stage() -> Iterator[OpenAIStage]:
    yield from open_stage()


@pytest.fixture
def tenant(stage: OpenAIStage) -> Tenant:
    return make_tenant(stage.installation)


def test_a_ledger_holds_over_two_gateways_a_new_key_and_a_killed_sealer(
    stage: OpenAIStage, tenant: Tenant, tmp_path: Path
) -> None:
    serve_traffic(stage, tenant, 200)
    first_key = keys_of(stage.gateways[0])["data"][0]["id"]
    wait_sealed(stage, tenant)
    early = get(stage.gateways[0].public_url, "/api/v1/ledger/head", tenant.key).json()
    done = administrate(stage, "ledger", "rotate-key", "--json")
    assert done.returncode == 0, done.stderr
    second_key = json.loads(done.stdout)["id"]
    for gateway in stage.gateways:
        wait_until(lambda g=gateway: keys_of(g)["data"][0]["id"] == second_key or None, "the gateway follows", 2)

    kill_the_sealer_in_its_rounds(stage, tenant)
    wait_sealed(stage, tenant)

    lines = export(stage.gateways[0], tenant)
    assert export(stage.gateways[1], tenant) == lines
    files = Files(tmp_path, keys_of(stage.gateways[1]))
    report = verifier.verify_export(lines, files.keys, known=early)
    assert len(report.entries) == posted_count(stage, tenant)
    assert {json.loads(line)["key_id"] for line in lines if line.startswith('{"object":"head"')} >= {first_key, second_key}
    done = files.ledger(lines, "--head", files.write("head.json", json.dumps(early)))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] == len(report.entries)
    books = stage.database.execute(
        "SELECT entry_id::text, input_tokens, output_tokens, model, tier_version_id::text FROM ledger WHERE tenant_id = %s",
        [tenant.id]).fetchall()
    assert {
        (e["entry_id"], e["input_tokens"], e["output_tokens"], e["model"], e["price_version"].removeprefix("pv_"))
        for e in report.entries
    } == set(books)

    # Without the new key, and with one that somebody else may have, nothing is proved.
    keys = keys_of(stage.gateways[0])
    old = {**keys, "data": [key for key in keys["data"] if key["id"] != second_key]}
    done = weir("verify", "ledger", str(tmp_path / "ledger.jsonl"), "--keys", files.write("old.json", json.dumps(old)))
    assert done.returncode == 1 and "not among the keys" in done.stderr
    done = administrate(stage, "ledger", "verify", "--tenant", tenant.id)
    assert done.returncode == 0, done.stderr
    assert f"verified: {len(report.entries)} entries" in done.stdout


def kill_the_sealer_in_its_rounds(stage: OpenAIStage, tenant: Tenant) -> None:
    """Leaves one process to seal, and kills it three times in the middle of a round, while requests come."""
    one, two = stage.gateways
    one.stop()
    one.start({"WEIR_ROLES": "gateway,admin,dispatcher"})
    others = [pid for pid in stage.installation.own_processes() if "serve" in command_line(pid)]
    assert others
    for pid in others:
        send_signal(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            with stage.installation.database() as blocker, blocker.transaction():
                # Its round has read and hashed, and waits with what it has to write.
                blocker.execute("LOCK TABLE sealed_entries IN SHARE MODE")
                before = sealed_count(stage, tenant)
                serve_some(stage, tenant, 60)
                wait_until(
                    lambda: stage.database.execute(
                        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%InsertSealedEntries%'"
                    ).fetchone(), "a round is under way", 20)
                assert two.process is not None
                two.process.send(signal.SIGKILL)
                two.process.wait(10)
            serve_some(stage, tenant, 20)
            assert sealed_count(stage, tenant) == before
            two.start()
            wait_until(lambda b=before: sealed_count(stage, tenant) > b or None, "the next one goes on", 20)
    finally:
        for pid in others:
            send_signal(pid, signal.SIGCONT)
        one.stop()
        one.start()


def serve_some(stage: OpenAIStage, tenant: Tenant, count: int) -> None:
    """Through the gateway that is left alone."""
    with Wire(stage.gateways[0].public_url) as wire:
        for _ in range(count):
            answer = wire.request("POST", "/predict/", predict_headers(tenant.key), predict_body())
            assert answer.status == 200, answer.body[:300]


FIELDS = [
    ("model", "irIs"), ("model_version", "77"), ("requests", 2), ("input_tokens", 1), ("output_tokens", 0),
    ("cached_input_tokens", 1), ("token_source", "cache"), ("kind", "correction"), ("served_input_tokens", 9),
    ("occurred_at", "2026-01-01T00:00:00.000001Z"), ("posted_at", "2026-01-01T00:00:00.000001Z"),
    ("user_id", "0195a3bf-30c4-7a52-bb10-6d7e8f901a2b"), ("hash", "00" * 32),
]


def rehashed(lines: list[str], tenant: str) -> list[str]:
    """Hashes anew what was changed, as anybody can who has no key."""
    current, seq, made = verifier.origin(tenant), 0, []
    for line in lines:
        item = json.loads(line)
        if item["object"] == "ledger_entry":
            seq += 1
            current = verifier.link("ledger", current, seq, verifier.ledger_leaf(item))
            item = {**item, "seq": seq, "hash": current.hex()}
        elif item["object"] == "trailer":
            item["count"] = seq
        made.append(json.dumps(item))
    return made


def test_every_mutation_of_an_export_is_caught_and_named(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    other = make_tenant(stage.installation)
    serve_traffic(stage, tenant, 40)
    wait_sealed(stage, tenant)
    older = export(stage.gateways[0], tenant)
    serve_traffic(stage, tenant, 40)
    serve_traffic(stage, other, 80)
    wait_sealed(stage, tenant)
    wait_sealed(stage, other)
    lines, foreign = export(stage.gateways[0], tenant), export(stage.gateways[1], other)
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    head = get(stage.gateways[0].public_url, "/api/v1/ledger/head", tenant.key).json()
    head_path = files.write("head.json", json.dumps(head))
    assert files.ledger(lines, "--head", head_path).returncode == 0
    assert files.ledger(older).returncode == 0
    places = [index for index, line in enumerate(lines) if '"ledger_entry"' in line]
    # Those with an entry behind them: where a head follows, an entry that is gone could be any since the head before.
    inner = [i for i in range(3, len(places) - 3) if '"ledger_entry"' in lines[places[i] + 1]]
    chance = random.Random(7)

    def caught(mutated: list[str], seq: int | None, *more: str) -> None:
        done = files.ledger(mutated, *more)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        found = json.loads(done.stdout)
        assert found["verified"] is False and found["reason"]
        if seq is not None:
            assert found["seq"] == seq, found
        with pytest.raises((verifier.Bad, ValueError)):
            verifier.verify_export(mutated, files.keys, known=head if more else None)

    for name, value in FIELDS:
        place = chance.choice(places)
        entry = json.loads(lines[place])
        assert entry[name] != value
        caught([*lines[:place], json.dumps({**entry, name: value}), *lines[place + 1 :]], entry["seq"])
    for _ in range(4):
        index = chance.choice(inner)
        place = places[index]
        caught([*lines[:place], *lines[place + 1 :]], index + 1)
        caught([*lines[:place], lines[place], *lines[place:]], index + 2)
        swapped = list(lines)
        swapped[place], swapped[places[index + 2]] = swapped[places[index + 2]], swapped[place]
        caught(swapped, index + 1)
        alien = next(line for line in foreign if f'"seq":{index + 1},' in line and '"ledger_entry"' in line)
        caught([*lines[:place], alien, *lines[place + 1 :]], index + 1)
        caught([*lines[:place], lines[-1]], None)
        caught(lines[:place], None)
        entry = json.loads(lines[place])
        forged = rehashed([*lines[:place], json.dumps({**entry, "output_tokens": 0}), *lines[place + 1 :]], tenant.id)
        done = files.ledger(forged)
        assert done.returncode == 1
        assert json.loads(done.stdout)["seq"] <= index + 1
    # An older export is a good one, but not where a later head is known.
    caught(older, json.loads(older[-1])["count"] + 1, "--head", head_path)
    caught([*lines[:-1], older[-1]], None)
    # What cannot be tried at all is told apart.
    assert weir("verify", "ledger", str(tmp_path / "nothing"), "--keys", files.keys_path).returncode == 2
    assert weir("verify", "ledger", str(tmp_path / "ledger.jsonl"), "--keys", str(tmp_path / "head.json")).returncode == 2
    assert weir("verify", "ledger", str(tmp_path / "ledger.jsonl")).returncode == 2


def test_pages_and_a_part_of_an_export_join(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    serve_traffic(stage, tenant, 60)
    wait_sealed(stage, tenant)
    lines = export(stage.gateways[0], tenant)
    whole = [json.loads(line) for line in lines if '"ledger_entry"' in line]
    url, after, pages = stage.gateways[1].public_url, "0", []
    while True:
        page = get(url, f"/api/v1/ledger/entries?limit=25&after={after}", tenant.key).json()
        assert page["previous_hash"] == (pages[-1]["hash"] if pages else verifier.origin(tenant.id).hex())
        pages += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert pages == whole
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    part = export(stage.gateways[0], tenant, "&after=33")
    assert len(verifier.verify_export(part, files.keys, after=33).entries) == len(whole) - 33
    # An export says of itself where it begins, so that is no proof that nothing was before: the reader has to say it.
    with pytest.raises(verifier.Bad, match="begins behind 33"):
        verifier.verify_export(part, files.keys)
    done = files.ledger(part)
    assert done.returncode == 1 and "begins behind the entry 33" in done.stderr
    assert files.ledger(part, "--after", "32").returncode == 1
    done = files.ledger(part, "--after", "33")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["after"], report["last_seq"], report["held_against_head"]) == (33, len(whole), False)
    done = weir("verify", "ledger", str(tmp_path / "ledger.jsonl"), "--keys", files.keys_path, "--after", "33")
    assert f"(34 to {len(whole)})" in done.stdout and "not held against a known head" in done.stdout
    empty = export(stage.gateways[0], make_tenant(stage.installation))
    done = files.ledger(empty)
    assert done.returncode == 0 and json.loads(done.stdout)["held_against_head"] is False and json.loads(done.stdout)["entries"] == 0
    assert_problem(get(url, f"/api/v1/ledger/entries?after={len(whole) + 1}", tenant.key), 422, "validation_failed")
    assert_problem(get(url, "/api/v1/ledger/entries?after=-1", tenant.key), 422, "validation_failed")
    assert_problem(get(url, "/api/v1/ledger/entries?format=jsonl&limit=5", tenant.key), 422, "validation_failed")


def test_a_change_of_the_tables_is_found_and_named(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    """Whoever owns the database can switch its triggers off."""
    serve_traffic(stage, tenant, 40)
    wait_sealed(stage, tenant)
    seq, entry = stage.database.execute(
        "SELECT seq, entry_id::text FROM sealed_entries WHERE tenant_id = %s AND seq = 17", [tenant.id]).fetchone()
    with stage.database.transaction():
        stage.database.execute("SET LOCAL session_replication_role = replica")
        stage.database.execute("UPDATE ledger SET output_tokens = output_tokens + 1 WHERE entry_id = %s", [entry])
    done = administrate(stage, "ledger", "verify", "--tenant", tenant.id)
    assert done.returncode == 1 and f"entry {seq} ({entry})" in done.stderr, done.stderr
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    done = files.ledger(export(stage.gateways[0], tenant))
    assert done.returncode == 1 and json.loads(done.stdout)["seq"] == seq
    found = stage.installation.admin.expect("GET", f"/admin/v1/ledger/verify?tenant={tenant.id}", None, (200,))
    assert found["verified"] is False and found["first_bad"]["entry_id"] == entry
    with stage.database.transaction():
        stage.database.execute("SET LOCAL session_replication_role = replica")
        stage.database.execute("DELETE FROM ledger WHERE entry_id = %s", [entry])
    done = administrate(stage, "ledger", "verify", "--tenant", tenant.id)
    assert done.returncode == 1 and f"entry {seq}" in done.stderr, done.stderr


def test_the_audit_log_is_chained_and_a_tenant_sees_its_part(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    assert administrate(stage, "tenants", "set", tenant.id, "--receipts", "short").returncode == 0
    wait_until(
        lambda: stage.database.execute(
            "SELECT (SELECT count(*) FROM audit_log) = (SELECT count(*) FROM sealed_audit)").fetchone()[0] or None,
        "the audit log is sealed", 20)
    path = str(tmp_path / "audit.jsonl")
    done = administrate(stage, "audit", "export", "--output", path)
    assert done.returncode == 0, done.stderr
    lines = Path(path).read_text().splitlines()
    files = Files(tmp_path, keys_of(stage.gateways[0]))
    report = verifier.verify_export(lines, files.keys)
    assert len(report.entries) == stage.database.execute("SELECT count(*) FROM sealed_audit").fetchone()[0]
    assert weir("verify", "audit", path, "--keys", files.keys_path).returncode == 0
    place = next(i for i, line in enumerate(lines) if tenant.id in line and "tenant.change" in line)
    entry = json.loads(lines[place])
    changed = [*lines[:place], json.dumps({**entry, "actor": "system"}), *lines[place + 1 :]]
    done = weir("verify", "audit", files.write("changed.jsonl", "\n".join(changed)), "--keys", files.keys_path, "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["seq"] == entry["seq"]
    key = make_key(stage.installation.admin, tenant.id, scopes=["admin"])
    url = stage.gateways[1].public_url
    wait_until(lambda: get(url, "/api/v1/audit", key.key).status == 200 or None, "the key is known", 5)
    own = {item["id"]: item for item in get(url, "/api/v1/audit?limit=100", key.key).json()["data"]}
    mine = own[entry["id"]]
    assert (mine["seq"], mine["hash"], mine["after"]) == (entry["seq"], entry["hash"], entry["after"])
    assert {e["id"] for e in report.entries if e["tenant_id"] == tenant.id} <= set(own)
    stranger = make_tenant(stage.installation)
    other = make_key(stage.installation.admin, stranger.id, scopes=["admin"])
    assert not set(own) & {item["id"] for item in get(url, "/api/v1/audit", other.key).json()["data"]}
    assert_problem(get(url, "/api/v1/audit", tenant.key), 403, "insufficient_scope")


def test_after_a_compromised_key_the_heads_are_signed_anew(stage: OpenAIStage, tenant: Tenant, tmp_path: Path) -> None:
    serve_traffic(stage, tenant, 20)
    wait_sealed(stage, tenant)
    old = keys_of(stage.gateways[0])["data"][0]["id"]
    stale = export(stage.gateways[0], tenant)
    done = administrate(stage, "ledger", "rotate-key", "--compromised", "--json")
    assert done.returncode == 0, done.stderr
    fresh = json.loads(done.stdout)["id"]

    def resigned() -> bool | None:
        head = get(stage.gateways[0].public_url, "/api/v1/ledger/head", tenant.key)
        return head.status == 200 and head.json()["key_id"] == fresh or None

    wait_until(resigned, "the head is signed anew", 10)
    for gateway in stage.gateways:
        wait_until(lambda g=gateway: keys_of(g)["data"][0]["id"] == fresh or None, "the gateway follows", 2)
    keys = keys_of(stage.gateways[0])
    assert [key["state"] for key in keys["data"] if key["id"] == old] == ["compromised"]
    again = administrate(stage, "ledger", "distrust-key", old)
    assert again.returncode == 1 and "already" in again.stderr, again.stderr
    done = administrate(stage, "ledger", "distrust-key", "0" * 16)
    assert done.returncode == 1 and "no such signing key" in done.stderr.lower(), done.stderr
    retired = next((key["id"] for key in keys["data"] if key["state"] == "retired"), None)
    if retired is None:
        retired = fresh
        fresh = json.loads(administrate(stage, "ledger", "rotate-key", "--json").stdout)["id"]
    done = administrate(stage, "ledger", "distrust-key", retired)
    assert done.returncode == 0 and done.stdout.split() == [retired, "compromised"], done.stderr
    wait_until(resigned, "the head is signed by the key in use", 10)
    for gateway in stage.gateways:
        wait_until(
            lambda g=gateway: {k["id"]: k["state"] for k in keys_of(g)["data"]}[retired] == "compromised" or None, "the gateway follows", 2)
    keys = keys_of(stage.gateways[0])
    files = Files(tmp_path, keys)
    assert len(verifier.verify_export(export(stage.gateways[1], tenant), files.keys).entries) == 20
    assert files.ledger(export(stage.gateways[1], tenant)).returncode == 0
    done = files.ledger(stale)
    assert done.returncode == 1 and "compromised" in done.stderr
