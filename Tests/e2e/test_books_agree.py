"""Comparing the books: nothing on an installation with live traffic, and exactly the row that somebody has touched."""

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from deadline import wait_until
from installation import Installation, binary
from ledger_stage import fill, instant, past_hour
from load import Load
from record import ClientRecord
from tenancy import Tenant, make_tenant


def weir(installation: Installation, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary(), "reconcile", "--json", *arguments], capture_output=True, text=True, timeout=120,
        env={"WEIR_ADMIN_URL": installation.admin_url, "WEIR_ADMIN_KEY": key or installation.admin_key, "PATH": "/usr/bin:/bin"},
    )


def found(installation: Installation, *arguments: str) -> list[tuple[str, str]]:
    answer = json.loads(weir(installation, *arguments).stdout)
    assert answer["difference_count"] == len(answer["differences"])
    return sorted((each["kind"], each["id"]) for each in answer["differences"])


def rolled_up(database) -> None:
    wait_until(
        lambda: database.execute(
            "SELECT (SELECT coalesce(sum(requests_count), 0) FROM usage) = (SELECT coalesce(sum(requests), 0) FROM ledger)"
        ).fetchone()[0],
        "all of it is rolled up", 60,
    )


def sealed(database) -> None:
    wait_until(
        lambda: database.execute("SELECT (SELECT count(*) FROM sealed_entries) = (SELECT count(*) FROM ledger)").fetchone()[0],
        "all of it is sealed", 60,
    )


# A hit of the cache before all else.
HIT = """
    WITH made AS MATERIALIZED (
        SELECT (left(uuid_lower_bound(%(at)s)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id, key_id, tier_version_id
        FROM ledger WHERE tenant_id = %(tenant)s LIMIT 1
    ), recorded AS (
        INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, created_at, completed_at, processing_us, estimated_tokens,
            input_tokens, output_tokens, tier_version_id, cached)
        SELECT id, %(tenant)s, key_id, 'iris', 'completed', 200, %(at)s, %(at)s, 1000, 50, 4, 2, tier_version_id, true FROM made
    )
    INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
        output_tokens, token_source, occurred_at, served_input_tokens, served_output_tokens)
    SELECT id, %(tenant)s, key_id, id, 'usage', 'iris', tier_version_id, 1, 4, 1, 2, 'cache', %(at)s, 8, 4 FROM made
"""


@pytest.fixture(scope="module")
def books() -> Iterator[tuple[Installation, Tenant]]:
    """Usage of hours that are over and a correction of it, an invoice over it, an export of it, and deliveries of it."""
    with Installation() as running:
        tenant, start = make_tenant(running), past_hour(5)
        with running.database() as database:
            fill(database, tenant.id, 200, start)
            request = database.execute("SELECT 'req_' || max(entry_id::text) FROM ledger").fetchone()[0]
            running.admin.expect("POST", "/admin/v1/adjustments", {"request_id": request, "output_tokens": -1, "reason": "x"}, (201,))
            database.execute(HIT, {"tenant": tenant.id, "at": start - timedelta(hours=1)})
            rolled_up(database)
            sealed(database)
            database.execute(
                """WITH i AS (INSERT INTO invoices (invoice_id, issuer, kind, tenant_id, period_id, period_start, period_end, time_zone,
                    currency, subtotal_micros, credits_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id, number_prefix)
                VALUES ('0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42', 'default', 'invoice', %(tenant)s, 'hour', %(start)s,
                    %(start)s::timestamptz + interval '1 hour', 'UTC', 'USD', 300, 100, 200, 'x', 'Weir', '', '', 'INV-') RETURNING invoice_id)
                SELECT 1""", {"tenant": tenant.id, "start": start})
            database.execute(
                """INSERT INTO invoice_lines (invoice_id, line_number, kind, description, span_start, span_end, amount_micros)
                SELECT invoice_id, n, 'usage', 'x', period_start, period_end, n * 100 FROM invoices, generate_series(1, 2) n""")
            database.execute(
                """INSERT INTO invoice_usage (invoice_id, usage_period_start, tier_version_id, is_trial, model, requests, input_tokens,
                    cached_input_tokens, output_tokens, seen)
                SELECT i.invoice_id, i.period_start, l.tier_version_id, false, l.model, sum(l.requests), sum(l.input_tokens),
                    sum(l.cached_input_tokens), sum(l.output_tokens), pg_current_snapshot()
                FROM invoices i JOIN ledger l ON l.tenant_id = i.tenant_id AND l.occurred_at >= i.period_start AND l.occurred_at < i.period_end
                GROUP BY 1, 2, 3, 4, 5""")
            database.execute(
                """WITH g AS (INSERT INTO credit_grants (grant_id, tenant_id, kind, currency, amount_micros, effective_at, reason)
                    VALUES (new_uuid7(), %s, 'promotional', 'USD', 500, '2026-01-01Z', 'x') RETURNING grant_id)
                INSERT INTO credit_applications SELECT invoice_id, grant_id, 100 FROM g, invoices""", [tenant.id])
            database.execute("UPDATE invoice_issuers SET last_number = 1")
            database.execute("UPDATE invoices SET state = 'finalised', number = 1, finalised_at = now()")
            running.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/stripe", {"customer_id": "cus_1", "since": instant(start)})
            database.execute("SELECT plan_stripe_deliveries(1000)")
        made = running.admin.expect("POST", "/admin/v1/exports", {
            "format": "csv", "tenant": tenant.id, "start": instant(start), "end": instant(start + timedelta(hours=1))}, (202,))
        wait_until(
            lambda: running.admin.expect("GET", f"/admin/v1/exports/{made['id']}")["state"] == "completed", "the export", 30)
        yield running, tenant


def test_nothing_differs_while_two_gateways_are_busy(tmp_path: Path) -> None:
    with Installation() as running:
        tenant = make_tenant(running)
        running.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/stripe", {"customer_id": "cus_1"})
        second = running.gateway("second").start()
        port = int(running.public_url.rsplit(":", 1)[1])
        with (
            Load(port, tenant.key, ClientRecord(tmp_path / "first"), 8) as first,
            Load(second.port, tenant.key, ClientRecord(tmp_path / "second"), 8) as other,
            running.database() as database,
        ):
            for number in range(8):
                wait_until(
                    lambda: database.execute("SELECT count(*) FROM ledger").fetchone()[0] > number * 50, "traffic", 40)
                if number == 3:
                    running.admin.expect("POST", "/admin/v1/exports", {"format": "jsonl", "incremental": True}, (202,))
                answer = weir(running)
                assert answer.returncode == 0, answer.stdout
                assert json.loads(answer.stdout)["difference_count"] == 0
            first.stop(), other.stop()
        assert weir(running).returncode == 0


def test_nothing_differs_where_nothing_was_touched(books):
    assert found(books[0]) == []
    assert weir(books[0]).returncode == 0


CASES = {
    "request_without_entry": (
        "DELETE FROM ledger WHERE entry_id = (SELECT entry_id FROM ledger ORDER BY entry_id LIMIT 1) RETURNING 'req_' || entry_id"),
    "entry_without_request": (
        "DELETE FROM requests WHERE request_id = (SELECT min(entry_id::text)::uuid FROM ledger) RETURNING 'led_' || request_id"),
    "entry_differs_from_request": (
        "UPDATE ledger SET output_tokens = output_tokens + 1 WHERE entry_id = (SELECT min(entry_id::text)::uuid FROM ledger) "
        "RETURNING 'led_' || entry_id"),
    "usage_differs_from_ledger": (
        """UPDATE usage SET requests_count = requests_count + 1 WHERE bucket_start = (SELECT min(bucket_start) FROM usage)
        RETURNING concat_ws('/', tenant_id, rfc3339(bucket_start), model, key_id, tier_version_id)"""),
    "model_usage_differs_from_ledger": (
        """UPDATE model_usage_metrics SET token_count = token_count - 1 WHERE time_window = (SELECT min(bucket_start) FROM usage)
        RETURNING concat_ws('/', model_name, rfc3339(time_window))"""),
    "invoice_total_differs_from_lines": (
        "UPDATE invoice_lines SET amount_micros = amount_micros + 1 WHERE line_number = 2 RETURNING 'inv_' || invoice_id"),
    "invoice_usage_differs_from_ledger": (
        """UPDATE invoice_usage SET output_tokens = output_tokens + 1
        RETURNING concat_ws('/', 'inv_' || invoice_id, model, tier_version_id)"""),
    "manifest_differs_from_parts": (
        """UPDATE exports SET manifest = replace(manifest, '"rows" : 200, "bytes"', '"rows" : 201, "bytes"')
        RETURNING 'exp_' || export_id"""),
    "export_part_differs_from_ledger": (
        "UPDATE export_parts SET output_tokens = output_tokens + 1 RETURNING concat_ws('/', 'exp_' || export_id, part)"),
    "export_bytes_differ_from_hash": (
        """UPDATE export_pieces SET content = set_byte(content, 100, 255 - get_byte(content, 100))
        RETURNING concat_ws('/', 'exp_' || export_id, part)"""),
    "stripe_differs_from_ledger": (
        "UPDATE stripe_deliveries SET value = value + 1 WHERE meter = 'output_token' RETURNING identifier"),
}
ROLLED_UP = {"term_usage_differs_from_ledger", "minute_usage_differs_from_ledger"}
USAGE = ROLLED_UP | {"usage_differs_from_ledger", "model_usage_differs_from_ledger", "export_part_differs_from_ledger", "stripe_differs_from_ledger"}
# What else is different where a row is: the books hang together.
ALONG = {
    "entry_without_request": ROLLED_UP,
    "request_without_entry": USAGE | {"export_differs_from_ledger", "sealed_entry_missing"},
    "entry_differs_from_request": USAGE | {"entry_differs_from_seal"},
    "invoice_total_differs_from_lines": {"invoice_differs_from_digest"},
    "invoice_usage_differs_from_ledger": {"invoice_differs_from_digest"},
    "export_part_differs_from_ledger": {"manifest_differs_from_parts"},
}


@pytest.mark.parametrize("kind", CASES)
def test_a_row_that_was_touched_is_named(books, kind):
    check(books[0], kind, CASES[kind], ALONG.get(kind, set()))


ENTRY = "WHERE entry_id = (SELECT entry_id FROM sealed_entries WHERE seq = 57) RETURNING 'led_' || entry_id"
# Every column of the ledger that nothing else is compared with.
COLUMNS = {
    "cached_input_tokens": ("cached_input_tokens + 1", USAGE), "occurred_at": ("occurred_at + interval '1 millisecond'", ROLLED_UP),
    "model_version": ("'77'", set()), "user_id": ("gen_random_uuid()", set()), "token_source": ("'cache'", ROLLED_UP),
    "served_input_tokens": ("9", ROLLED_UP), "served_output_tokens": ("9", ROLLED_UP), "lease_id": ("gen_random_uuid()", set()),
    "posted_at": ("posted_at - interval '1 microsecond'", set()), "tags": ("ARRAY['mine']", set()),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_an_entry_that_was_touched_is_named(books, column):
    value, along = COLUMNS[column]
    check(books[0], "entry_differs_from_seal", f"UPDATE ledger SET {column} = {value} {ENTRY}", along)


OF_TERMS = ["hits", "served_input_tokens", "served_output_tokens", "hit_input_tokens", "hit_cached_input_tokens", "hit_output_tokens",
            "left_streams", "drained_streams", "drained_output_tokens", "drained_delivered_tokens"]  # fmt: skip
OF_MINUTES = ["requests", "tokens", "arrivals", "held_tokens", "most_tokens", "admitted", "least_tokens", "busy_us"]


@pytest.mark.parametrize("column", OF_TERMS)
def test_a_column_of_the_roll_up_of_terms_that_was_touched_is_named(books, column):
    check(books[0], "term_usage_differs_from_ledger", f"UPDATE term_usage SET {column} = {column} + 1 "
          "RETURNING concat_ws('/', tenant_id, rfc3339(bucket_start), model, key_id, tier_version_id)", set())  # fmt: skip


@pytest.mark.parametrize("change", [*(f"{column} = {column} + 1" for column in OF_MINUTES), "last_end = last_end - interval '1 microsecond'"])
def test_a_column_of_a_minute_that_was_touched_is_named(books, change):
    check(books[0], "minute_usage_differs_from_ledger", f"UPDATE usage_minutes SET {change} "
          "WHERE minute = (SELECT max(minute) FROM usage_minutes) RETURNING concat_ws('/', tenant_id, rfc3339(minute))", set())  # fmt: skip


PLACE = "RETURNING tenant_id || '/' || seq"
HEAD = "WHERE seq = (SELECT max(seq) FROM sealed_entries) RETURNING concat_ws('/', tenant_id, seq, key_id)"
MORE = {
    "another request of a correction": ("entry_differs_from_seal",
        "UPDATE ledger SET request_id = gen_random_uuid() WHERE kind = 'correction' RETURNING 'led_' || entry_id",
        {"correction_differs_from_adjustment"}),
    "the last entry": ("entry_differs_from_seal",
        "UPDATE ledger SET model_version = '7' WHERE entry_id = (SELECT entry_id FROM sealed_entries ORDER BY seq DESC LIMIT 1) "
        "RETURNING 'led_' || entry_id", set()),
    "an entry that was never sealed": ("entry_not_sealed",
        """INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
            output_tokens, token_source, occurred_at, tx)
        SELECT new_uuid7(), tenant_id, key_id, request_id, kind, model, tier_version_id, 0, 0, 0, 0, token_source, occurred_at, '3'::xid8
        FROM ledger WHERE kind = 'correction' RETURNING 'led_' || entry_id""",
        {"correction_without_adjustment", "export_differs_from_ledger"}),
    "a seal": ("seal_differs_from_chain", f"UPDATE sealed_entries SET hash = sha256(hash) WHERE seq = 57 {PLACE}", set()),
    "the last seal": ("seal_differs_from_chain",
        f"UPDATE sealed_entries SET hash = sha256(hash) WHERE seq = (SELECT max(seq) FROM sealed_entries) {PLACE}", set()),
    "a seal that is gone": ("seal_missing", f"DELETE FROM sealed_entries WHERE seq = 57 {PLACE}", {"entry_not_sealed"}),
    "the last seal that is gone": ("seal_missing",
        f"DELETE FROM sealed_entries WHERE seq = (SELECT max(seq) FROM sealed_entries) {PLACE}", {"entry_not_sealed"}),
    "the hash of a head": ("head_differs_from_chain", f"UPDATE ledger_heads SET hash = sha256(hash) {HEAD}", set()),
    "the time of a head": ("head_differs_from_chain", f"UPDATE ledger_heads SET signed_at = signed_at - interval '1 second' {HEAD}", set()),
    "a head that is gone": ("head_missing",
        f"DELETE FROM ledger_heads WHERE seq = (SELECT max(seq) FROM sealed_entries) {PLACE}", set()),
    "the reason of a correction": ("correction_differs_from_adjustment",
        "UPDATE adjustments SET request_id = gen_random_uuid() RETURNING 'led_' || entry_id", set()),
    "no reason of a correction": ("correction_without_adjustment", "DELETE FROM adjustments RETURNING 'led_' || entry_id", set()),
    "a reason of no correction": ("adjustment_without_correction",
        """INSERT INTO adjustments (entry_id, tenant_id, request_id, reason, actor)
        SELECT new_uuid7(), tenant_id, request_id, reason, actor FROM adjustments RETURNING 'led_' || entry_id""", set()),
    "a line's price": ("invoice_differs_from_digest",
        "UPDATE invoice_lines SET unit_price = 1 WHERE line_number = 1 RETURNING 'default/1'", set()),
    "a line's text": ("invoice_differs_from_digest",
        "UPDATE invoice_lines SET description = 'y' WHERE line_number = 2 RETURNING 'default/1'", set()),
    "who is charged": ("invoice_differs_from_digest", "UPDATE invoices SET customer_name = 'y' RETURNING 'default/1'", set()),
    "when it is due": ("invoice_differs_from_digest", "UPDATE invoices SET due_at = now() RETURNING 'default/1'", set()),
    "a trial": ("invoice_differs_from_digest", "UPDATE invoice_usage SET is_trial = true RETURNING 'default/1'", set()),
    "what was seen": ("invoice_differs_from_digest", "UPDATE invoice_usage SET seen = '3:3:' RETURNING 'default/1'", set()),
    "a credit that was drawn on": ("invoice_differs_from_digest",
        "UPDATE credit_applications SET amount_micros = 99 RETURNING 'default/1'", {"invoice_credits_differ_from_grants"}),
    "an invoice that is gone": ("invoice_missing", "DELETE FROM invoices RETURNING 'default/1'", {"invoice_number_missing"}),
    "a digest": ("invoice_differs_from_digest", "UPDATE invoice_digests SET sha256 = sha256(sha256) RETURNING 'default/1'", set()),
    "a number that was given": ("invoice_number_missing", "UPDATE invoice_issuers SET last_number = 3 RETURNING 'default/2'", set()),
    "a number that was not": ("invoice_number_beyond_last", "UPDATE invoice_issuers SET last_number = 0 RETURNING 'default/1'", set()),
    "a grant": ("credit_grant_overdrawn", "UPDATE credit_grants SET amount_micros = 99 RETURNING grant_id::text", set()),
    "a manifest that is none": ("manifest_differs_from_parts", "UPDATE exports SET manifest = '{oops' RETURNING 'exp_' || export_id", set()),
}


@pytest.mark.parametrize("what", MORE)
def test_of_seals_corrections_and_invoices_the_row_is_named(books, what):
    check(books[0], *MORE[what])


def check(running: Installation, kind: str, change: str, along: set[str]) -> None:
    with running.database() as database:
        database.autocommit = False
        database.execute("SET session_replication_role = replica")  # no trigger, no foreign key
        for name in TABLES:
            database.execute(f"CREATE TEMPORARY TABLE kept_{name} AS SELECT * FROM {name}")  # noqa: S608
        touched = [row[0] for row in database.execute(change).fetchall()]
        database.commit()
        try:
            assert len(touched) == 1
            differences = found(running)
            answer = weir(running)
        finally:
            for name in reversed(TABLES):
                database.execute(f"DELETE FROM {name}")  # noqa: S608
            for name in TABLES:
                database.execute(f"INSERT INTO {name} SELECT * FROM kept_{name}")  # noqa: S608
                database.execute(f"DROP TABLE kept_{name}")  # noqa: S608
            database.commit()
    assert (kind, touched[0]) in differences, differences
    assert {each for each, _ in differences} <= {kind} | along, differences
    assert [each for each in differences if each[0] == kind] == [(kind, touched[0])]
    assert answer.returncode == 1
    assert found(running) == []


TABLES = [
    "requests", "ledger", "sealed_entries", "ledger_heads", "adjustments", "usage", "term_usage", "usage_minutes", "model_usage_metrics", "invoice_issuers", "invoices",
    "invoice_lines", "invoice_usage", "invoice_digests", "credit_grants", "credit_applications", "exports", "export_parts", "export_pieces",
    "stripe_deliveries",
]


def test_who_cannot_compare_says_so(books):
    answer = weir(books[0], key="weir_admn_" + "0" * 51)
    assert answer.returncode == 2 and answer.stderr
    unknown = weir(books[0], "--tenant", "0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42")
    assert unknown.returncode == 2 and "no such tenant" in unknown.stderr.lower()


def test_runs_are_kept_and_listed(books):
    running, tenant = books
    assert weir(running, "--tenant", tenant.id).returncode == 0
    page = running.admin.expect("GET", "/admin/v1/reconcile?limit=1")
    assert page["data"][0]["tenant_id"] == tenant.id and page["data"][0]["difference_count"] == 0
