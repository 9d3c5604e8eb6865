"""Tenants with usage of a month that is over, and the oracle of what it costs."""

import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from installation import Gateway, Installation
from tenancy import Tenant, make_tenant, unique

# Of one request, input token and output token; cached input tokens are free.
PRICES = {"request": Decimal("0.01"), "input_token": Decimal("0.000003"), "output_token": Decimal("0.000007")}


def last_month() -> tuple[datetime, datetime]:
    """In UTC."""
    end = datetime.now(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - timedelta(days=1)).replace(day=1), end


def month_before(start: datetime) -> datetime:
    return (start - timedelta(days=1)).replace(day=1)


def make_priced_tenant(installation: Installation, since: datetime | None = None) -> Tenant:
    """A tenant on a tier of its own prices, subscribed since an instant of before."""
    code = unique("billed")
    installation.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": "USD", "base_fee_micros": 3_000_000,
            "prices": [{"meter": meter, "model": "*", "unit_price": str(price)} for meter, price in PRICES.items()],
            "quotas": []}}, (201,))  # fmt: skip
    tenant = make_tenant(installation, code)
    with installation.database() as database:
        database.execute(
            "UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (since or last_month()[0], tenant.id)
        )
    return tenant


def entry_id(at: datetime) -> str:
    """A UUIDv7 of an instant."""
    milliseconds = int(at.timestamp() * 1000)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def use(installation: Installation, tenant: Tenant, at: datetime, count: int = 1, model: str = "iris",
        tokens: tuple[int, int] = (100, 10)) -> list[str]:  # fmt: skip
    """Writes ledger entries as settlement would have written them then; returns the requests' ids."""
    ids = [entry_id(at + timedelta(milliseconds=n)) for n in range(count)]
    with installation.database() as database, database.cursor() as cursor:
        cursor.executemany(
            """WITH recorded AS (
                INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, created_at, completed_at, processing_us,
                    input_tokens, output_tokens, tier_version_id)
                SELECT %(id)s, %(tenant)s, %(key)s, %(model)s, 'completed', 200, %(at)s, %(at)s, 1000, %(input)s, %(output)s, tier_version_id
                FROM subscriptions WHERE tenant_id = %(tenant)s AND ends_at IS NULL
            )
            INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT %(id)s, %(id)s, %(tenant)s, %(key)s, 'usage', %(model)s, tier_version_id, 1, %(input)s, 0, %(output)s, 'worker', %(at)s
            FROM subscriptions WHERE tenant_id = %(tenant)s AND ends_at IS NULL""",
            [{"id": one, "tenant": tenant.id, "key": tenant.key_id, "model": model, "input": tokens[0],
              "output": tokens[1], "at": at} for one in ids])  # fmt: skip
    return [f"req_{one}" for one in ids]


def cost(count: int, tokens: tuple[int, int] = (100, 10)) -> int:
    """Micro-units of requests of one model: each meter's line is rounded once."""
    lines = (count * PRICES["request"], count * tokens[0] * PRICES["input_token"], count * tokens[1] * PRICES["output_token"])
    return sum(int((line * 1_000_000).to_integral_value("ROUND_HALF_EVEN")) for line in lines)


BASE_FEE = 3_000_000


def draft(gateway: Gateway | Installation, tenant: Tenant, month: datetime | None = None) -> dict[str, Any]:
    body = {"tenant": tenant.id, **({"month": f"{month:%Y-%m}"} if month else {})}
    return gateway.admin.expect("POST", "/admin/v1/invoices", body, (201,))


def act(
    gateway: Gateway | Installation, invoice: dict[str, Any], what: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    return gateway.admin.expect("POST", f"/admin/v1/invoices/{invoice['id']}/{what}", body, (200,))


def unbilled(installation: Installation, tenant: Tenant, start: datetime) -> list[tuple]:
    """Where the ledger of a month and what standing invoices charge of it differ; nothing, if all is well."""
    with installation.database() as database:
        return database.execute(
            """SELECT model, sum(requests), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens) FROM (
                SELECT model, requests, input_tokens, cached_input_tokens, output_tokens FROM ledger
                WHERE tenant_id = %(tenant)s AND occurred_at >= %(start)s AND occurred_at < %(start)s + interval '1 month'
                UNION ALL
                SELECT u.model, -u.requests, -u.input_tokens, -u.cached_input_tokens, -u.output_tokens
                FROM invoice_usage u JOIN invoices i ON i.invoice_id = u.invoice_id
                WHERE i.tenant_id = %(tenant)s AND i.state IN ('finalised', 'paid') AND u.usage_period_start = %(start)s) parts
            GROUP BY 1 HAVING (sum(requests), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens)) <> (0, 0, 0, 0)""",
            {"tenant": tenant.id, "start": start}).fetchall()  # fmt: skip
