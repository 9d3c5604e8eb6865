"""Usage as a stream: the right rows of the right tenant, whole or visibly broken."""

import csv
import io
import json
import time
from datetime import timedelta

import pytest

from api import assert_problem, get
from deadline import wait_until
from downloads import Reader, download
from installation import Installation
from ledger_stage import fill, instant, past_hour
from tenancy import Tenant, make_key, make_tenant

PATH = "/api/v1/usage/export"


def window(hours_ago: int = 3, hours: int = 2) -> str:
    start = past_hour(hours_ago)
    return f"start={instant(start)}&end={instant(start + timedelta(hours=hours))}"


def rows_of(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


@pytest.fixture
def filled(installation: Installation, tenant: Tenant) -> Tenant:
    with installation.database() as database:
        fill(database, tenant.id, 500, past_hour(3))
    return tenant


def test_csv_holds_exactly_the_entries_of_the_window_and_says_how_many(installation, filled):
    found = download(installation.public_url, f"{PATH}?format=csv&{window()}", filled.key)
    assert (found.status, found.is_whole) == (200, True)
    assert found.headers["content-type"].startswith("text/csv") and "attachment" in found.headers["content-disposition"]
    rows = rows_of(found.body)
    assert found.trailers["x-weir-rows"] == str(len(rows)) == "500"
    with installation.database() as database:
        entries = database.execute(
            "SELECT 'led_' || entry_id, input_tokens::text, output_tokens::text FROM ledger WHERE tenant_id = %s", [filled.id]
        ).fetchall()
    assert sorted((row["entry_id"], row["input_tokens"], row["output_tokens"]) for row in rows) == sorted(entries)
    assert {row["tenant_id"] for row in rows} == {filled.id}


def test_lines_of_json_end_with_a_count(installation, filled):
    found = download(installation.public_url, f"{PATH}?format=jsonl&{window()}", filled.key)
    lines = [json.loads(line) for line in found.body.splitlines()]
    assert lines.pop() == {"object": "export_trailer", "rows": 500}
    assert len({line["entry_id"] for line in lines}) == 500
    assert isinstance(lines[0]["input_tokens"], int) and lines[0]["occurred_at"].endswith("Z")


def test_cloud_events_have_what_the_standard_asks_for(installation, filled):
    found = download(installation.public_url, f"{PATH}?format=cloudevents&{window()}", filled.key)
    events = [json.loads(line) for line in found.body.splitlines()]
    assert len(events) == 500 == int(found.trailers["x-weir-rows"])
    assert len({(event["source"], event["id"]) for event in events}) == 500
    for event in events[:20]:
        assert event["specversion"] == "1.0" and event["type"] == "com.weir.usage.v1"
        assert event["subject"] == filled.id and event["id"].startswith("led_")
        assert event["datacontenttype"] == "application/json" and event["data"]["requests"] == 1
        assert set(event) <= {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}


def test_sums_are_the_ledgers_also_ahead_of_the_roll_up(installation, filled):
    for granularity in ("hour", "day", "month"):
        found = download(installation.public_url, f"{PATH}?granularity={granularity}&{window()}", filled.key)
        rows = rows_of(found.body)
        assert sum(int(row["requests"]) for row in rows) == 500, granularity
        with installation.database() as database:
            tokens = database.execute(
                "SELECT sum(input_tokens)::bigint, sum(output_tokens)::bigint FROM ledger WHERE tenant_id = %s", [filled.id]
            ).fetchone()
        assert (sum(int(r["input_tokens"]) for r in rows), sum(int(r["output_tokens"]) for r in rows)) == tokens


def test_entries_whose_key_is_of_another_time_are_there_once(installation, tenant):
    """A correction of long ago that was posted now, and a job that waited for hours."""
    start = past_hour(30)
    with installation.database() as database:
        fill(database, tenant.id, 10, start)
        database.execute(
            """INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT new_uuid7(), tenant_id, key_id, request_id, 'correction', model, tier_version_id, -1, -input_tokens, 0, 0,
                'counted', occurred_at FROM ledger WHERE tenant_id = %s AND input_tokens = 5""",
            [tenant.id],
        )
        database.execute(
            """INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT id, tenant_id, key_id, id, 'usage', model, tier_version_id, 1, 1, 0, 0, 'counted', occurred_at
            FROM (SELECT l.*, (left(uuid_lower_bound(occurred_at - interval '3 days')::text, 14) || '7'
                || substr(gen_random_uuid()::text, 16))::uuid AS id
                FROM ledger l WHERE tenant_id = %s AND input_tokens = 6 AND kind = 'usage') x""",
            [tenant.id],
        )
    edges = f"start={instant(start)}&end={instant(start + timedelta(hours=1))}"
    found = rows_of(download(installation.public_url, f"{PATH}?{edges}", tenant.key).body)
    assert len(found) == 12 and len({row["entry_id"] for row in found}) == 12
    assert [row["kind"] for row in found].count("correction") == 1
    later = f"start={instant(start + timedelta(hours=1))}&end={instant(start + timedelta(hours=40))}"
    assert rows_of(download(installation.public_url, f"{PATH}?{later}", tenant.key).body) == []


def test_cells_that_a_sheet_would_run_are_texts(installation, tenant):
    hostile = ["=cmd|'/c calc'!A0", "+1+1", "-2", "@SUM(A1)", "\tx", "\rx", 'a "quoted" one', "two\nlines", "com,ma", "ünï"]
    with installation.database() as database:
        for name in hostile:
            fill(database, tenant.id, 1, past_hour(3), model=name)
        database.execute("UPDATE tenants SET name = %s WHERE tenant_id = %s", ['=HYPERLINK("http://x")', tenant.id])
    found = download(installation.public_url, f"{PATH}?{window()}", tenant.key)
    rows = rows_of(found.body)
    assert {row["tenant_name"] for row in rows} == {"'=HYPERLINK(\"http://x\")"}
    expected = {("'" + name) if name[0] in "=+-@\t\r" else name for name in hostile}
    assert {row["model"] for row in rows} == expected
    lines = download(installation.public_url, f"{PATH}?format=jsonl&{window()}", tenant.key).body.splitlines()
    assert {json.loads(line).get("model") for line in lines[:-1]} == set(hostile)


def test_a_tenant_sees_its_own_rows_alone(installation, filled):
    other = make_tenant(installation)
    with installation.database() as database:
        fill(database, other.id, 30, past_hour(3))
    for target in ("format=csv", "format=jsonl", "format=cloudevents", "granularity=hour"):
        mine = download(installation.public_url, f"{PATH}?{target}&{window()}", other.key).body.decode()
        assert other.id in mine and filled.id not in mine
    assert_problem(get(installation.public_url, f"{PATH}?{window()}&tenant={filled.id}", other.key), 422, "validation_failed")


def test_who_has_seen_the_end_of_a_file_gets_the_next_at_once(installation, filled):
    for _ in range(100):
        assert download(installation.public_url, f"{PATH}?{window()}", filled.key).status == 200


def test_the_operator_gets_all_tenants_or_one(installation, filled):
    path = "/admin/v1/usage/export"
    every = rows_of(download(installation.admin_url, f"{path}?{window()}", installation.admin_key).body)
    assert filled.id in {row["tenant_id"] for row in every}
    one = rows_of(download(installation.admin_url, f"{path}?{window()}&tenant={filled.id}", installation.admin_key).body)
    assert len(one) == 500
    unknown = filled.id[:-4] + "ffff"
    assert_problem(get(installation.admin_url, f"{path}?{window()}&tenant={unknown}", installation.admin_key), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z",
        "start=2026-03-01T00:00:00Z",
        "start=2024-03-01T00:00:00Z&end=2026-03-01T00:00:00Z",
        "format=xml&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z",
        "format=cloudevents&granularity=day&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z",
        "granularity=day&start=2026-03-01T00:00:01Z&end=2026-03-02T00:00:00Z",
    ],
)
def test_what_cannot_be_exported_is_refused(installation, tenant, query):
    assert_problem(get(installation.public_url, f"{PATH}?{query}", tenant.key), 422, "validation_failed")


def test_the_scope_is_needed(installation, tenant):
    key = make_key(installation.admin, tenant.id, scopes=["read"]).key
    assert_problem(get(installation.public_url, f"{PATH}?{window()}", key), 403, "insufficient_scope")


def test_a_slow_reader_holds_a_place_and_no_memory(installation):
    """200,000 rows that nobody reads: the server waits, a second export of the tenant is refused, and the place comes back."""
    tenant = make_tenant(installation)
    gateway = installation.gateway("slow", {"WEIR_EXPORT_STREAMS": "1"}).start()
    start = past_hour(30)
    with installation.database() as database:
        fill(database, tenant.id, 200_000, start)
    target = f"{PATH}?format=jsonl&start={instant(start)}&end={instant(start + timedelta(hours=2))}"
    before = resident(gateway.process.pid)
    with Reader(gateway.public_url, target, tenant.key, receive_bytes=4096) as reader:
        assert reader.download.status == 200
        time.sleep(2)  # what would have been buffered by now, if anything were
        assert resident(gateway.process.pid) - before < 40 << 20
        refused = assert_problem(get(gateway.public_url, target, tenant.key), 503, "overloaded")
        assert "one may at a time" in refused["detail"] or "as may" in refused["detail"]
    wait_until(lambda: get(gateway.public_url, f"{PATH}?{window(1, 1)}", tenant.key).status == 200, "the place is free", 20)


def test_a_stream_that_breaks_off_is_seen_to(installation):
    tenant = make_tenant(installation)
    start = past_hour(30)
    with installation.database() as database:
        fill(database, tenant.id, 200_000, start)
        target = f"{PATH}?format=csv&start={instant(start)}&end={instant(start + timedelta(hours=2))}"
        with Reader(installation.public_url, target, tenant.key, receive_bytes=4096) as reader:
            assert reader.download.status == 200
            wait_until(
                lambda: database.execute(
                    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE query LIKE '%COPY (SELECT%' AND application_name = 'weir-reader' AND state = 'active'"""
                ).fetchall(),
                "the COPY is ended",
                20,
            )
            found = reader.rest()
    assert not found.is_whole and found.trailers == {}
    assert found.body.count(b"led_") < 200_000


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
