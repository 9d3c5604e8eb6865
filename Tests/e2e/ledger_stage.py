"""Usage that was, written by SQL as settling writes it: request rows and ledger entries of hours that are over."""

from datetime import datetime, timedelta, timezone

import psycopg

FILL = """
    WITH made AS MATERIALIZED (
        SELECT i, at, (left(uuid_lower_bound(at)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id
        FROM (SELECT i, %(start)s::timestamptz + i * %(step)s::interval AS at FROM generate_series(0, %(count)s - 1) i) moments
    ), subject AS (
        SELECT k.tenant_id, k.key_id, s.tier_version_id FROM api_keys k
        JOIN subscriptions s ON s.tenant_id = k.tenant_id AND s.ends_at IS NULL
        WHERE k.tenant_id = %(tenant)s LIMIT 1
    ), recorded AS (
        INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, created_at, completed_at, processing_us,
            input_tokens, output_tokens, tier_version_id)
        SELECT id, tenant_id, key_id, %(model)s, 'completed', 200, at, at + interval '1 millisecond', 1000, 5 + i %% 50, i %% 20, tier_version_id
        FROM made, subject
    )
    INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
        output_tokens, token_source, occurred_at)
    SELECT id, tenant_id, key_id, id, 'usage', %(model)s, tier_version_id, 1, 5 + i %% 50, i %% 5, i %% 20, 'worker', at FROM made, subject
"""


THIS_HOUR = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)


def past_hour(hours_ago: int) -> datetime:
    """The beginning of an hour that is over; the same throughout a run, also where an hour ends in the middle of a test."""
    return THIS_HOUR - timedelta(hours=hours_ago)


def fill(
    database: psycopg.Connection,
    tenant_id: str,
    count: int,
    start: datetime,
    span: timedelta = timedelta(hours=1),
    model: str = "iris",
) -> None:
    """`count` requests of a tenant, evenly over `span`."""
    database.execute(
        FILL, {"tenant": tenant_id, "count": count, "start": start, "step": span / count, "model": model}
    )


def instant(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
