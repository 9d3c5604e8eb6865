"""What the database and the worker say, read past the product: the oracles of the end-to-end tests."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg


def bare(identifier: object) -> str:
    """The UUID inside an identifier, without `req_` and the like."""
    return re.sub(r"^[a-z]+_", "", str(identifier)).lower()


@dataclass(frozen=True)
class Entry:
    """A usage entry of the ledger."""

    request_id: str
    key_id: str | None
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    token_source: str


@dataclass(frozen=True)
class RequestRow:
    request_id: str
    status: str
    http_status: int | None
    error_code: str | None
    model: str


def usage_entries(database: psycopg.Connection, tenant_id: str) -> list[Entry]:
    rows = database.execute(
        "SELECT request_id::text, key_id::text, model, requests, input_tokens, output_tokens, token_source::text"
        " FROM ledger WHERE tenant_id = %s AND kind = 'usage'",
        [tenant_id],
    ).fetchall()
    return [Entry(*row) for row in rows]


def request_rows(database: psycopg.Connection, tenant_id: str) -> list[RequestRow]:
    rows = database.execute(
        "SELECT request_id::text, status::text, http_status, error_code, model FROM requests WHERE tenant_id = %s",
        [tenant_id],
    ).fetchall()
    return [RequestRow(*row) for row in rows]


def entries_of(database: psycopg.Connection, request_id: str) -> int:
    """How many usage entries one request has."""
    row = database.execute(
        "SELECT count(*) FROM ledger WHERE kind = 'usage' AND request_id = %s", [bare(request_id)]
    ).fetchone()
    assert row is not None
    return row[0]


@dataclass(frozen=True)
class QuotaBalance:
    """One quota of a tenant over all its periods, and what the ledger says it should be."""

    unit: str
    settled: int
    held: int
    in_ledger: int


def quota_balances(database: psycopg.Connection, tenant_id: str) -> list[QuotaBalance]:
    rows = database.execute(
        "SELECT q.unit, coalesce(sum(p.settled), 0)::bigint, coalesce(sum(p.held), 0)::bigint, (SELECT"
        " coalesce(sum(CASE q.unit WHEN 'requests' THEN l.requests"
        " ELSE l.input_tokens + l.output_tokens END), 0)::bigint"
        " FROM ledger l WHERE l.tenant_id = q.tenant_id)"
        " FROM quotas q LEFT JOIN quota_periods p USING (quota_id) WHERE q.tenant_id = %s"
        " GROUP BY q.quota_id, q.unit, q.tenant_id",
        [tenant_id],
    ).fetchall()
    return [QuotaBalance(*row) for row in rows]


def busy_settlements(database: psycopg.Connection) -> int:
    """Settlement writers that are inside a statement or a transaction now."""
    row = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'weir-settlement%' AND state <> 'idle'"
    ).fetchone()
    assert row is not None
    return row[0]


def end_settlement_backends(database: psycopg.Connection) -> int:
    """Ends the database's side of every settlement writer; returns how many there were."""
    return len(
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'weir-settlement%'"
        ).fetchall()
    )


def journal_calls(*paths: Path) -> Counter[str]:
    """How often each request id reached a worker, from the journals that the workers wrote."""
    calls: Counter[str] = Counter()
    for path in paths:
        if not path.exists():
            continue
        # A worker that was killed may leave half a line at the end.
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            calls[bare(json.loads(line)["request_id"])] += 1
    return calls
