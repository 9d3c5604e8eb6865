"""Tenants on tiers of every kind of price, with usage of months that are over, and what the oracle says of it."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import rating_oracle
from bills import entry_id
from installation import Installation
from tenancy import Tenant, make_key, unique

# Everything that a price can be made of, in numbers that no rounding hides.
START = {
    "currency": "USD", "base_fee_micros": 49_000_007, "minimum_commitment_micros": 60_000_000,
    "included_requests": 20, "included_tokens": 5_000,
    "prices": [
        {"meter": "request", "model": "*", "price_model": "package", "unit_price": "0.51", "package_size": 7},
        {"meter": "input_token", "model": "*", "price_model": "graduated", "bands": [
            {"up_to": 2_000, "unit_price": "0.00015"}, {"up_to": 10_000, "unit_price": "0.0000999"},
            {"up_to": None, "unit_price": "0.00007"}]},
        {"meter": "input_token", "model": "opus", "unit_price": "0.0005"},
        {"meter": "cached_input_token", "model": "*", "unit_price": "0.0000135"},
        {"meter": "output_token", "model": "*", "price_model": "volume", "bands": [
            {"up_to": 1_000, "unit_price": "0.002"}, {"up_to": 5_000, "unit_price": "0.0015"},
            {"up_to": None, "unit_price": "0.0010001"}]},
    ],
    "multipliers": [
        {"meter": "output_token", "model": "opus", "multiplier": "2.5"},
        {"meter": "input_token", "model": "tiny", "multiplier": "0.333333"},
    ],
    "quotas": [],
}  # fmt: skip
GROWN = {
    "currency": "USD", "base_fee_micros": 99_000_000, "included_tokens": 40_000, "included_requests": 3,
    "prices": [
        {"meter": "request", "model": "*", "price_model": "graduated", "bands": [
            {"up_to": 10, "unit_price": "0"}, {"up_to": 50, "unit_price": "0.03"}, {"up_to": None, "unit_price": "0.02"}]},
        {"meter": "input_token", "model": "*", "price_model": "volume", "bands": [
            {"up_to": 30_000, "unit_price": "0.0002"}, {"up_to": None, "unit_price": "0.00011"}]},
        {"meter": "output_token", "model": "*", "price_model": "package", "unit_price": "0.4", "package_size": 1_000},
        {"meter": "output_token", "model": "iris", "unit_price": "0.0009995"},
    ],
    "multipliers": [{"meter": "input_token", "model": "opus", "multiplier": "3"}],
    "quotas": [],
}  # fmt: skip
WITH_TRIAL = {**START, "minimum_commitment_micros": 0, "base_fee_micros": 30_000_001, "trial_days": 9}


@dataclass
class Stay:
    tier: str
    version: str
    terms: dict[str, Any]
    start: datetime
    end: datetime | None = None
    trial_end: datetime | None = None


@dataclass
class Customer:
    """A tenant, the stays that it was given, and each request that was written for it."""

    tenant: Tenant
    zone: str
    stays: list[Stay]
    used: list[dict[str, Any]] = field(default_factory=list)

    def month(self, name: str, until: int | None = None) -> dict[str, Any]:
        """What the oracle says of a month; of the first requests alone, where it is asked for so many."""
        start, end = rating_oracle.month_edges(self.zone, name)
        spans = []
        for number, stay in enumerate(self.stays, 1):
            first = max(start, rating_oracle.microseconds(stay.start.isoformat()))
            last = min(end, rating_oracle.microseconds(stay.end.isoformat())) if stay.end else end
            cut = min(last, rating_oracle.microseconds(stay.trial_end.isoformat())) if stay.trial_end else first
            for low, high, trial in ((first, cut, True), (max(first, cut), last, False)):
                if low < high:
                    instants = {"start": rating_oracle.instant(low), "end": rating_oracle.instant(high)}
                    spans.append({"version": number, "trial": trial, **instants})
        inside = [row for row in self.used[:until] if start <= rating_oracle.microseconds(row["at"].isoformat()) < end]
        terms = [
            {"version": number, "rules": [{"price_model": "flat", **price} for price in stay.terms["prices"]],
             **{key: value for key, value in stay.terms.items() if key not in ("prices", "quotas", "trial_days")}}
            for number, stay in enumerate(self.stays, 1)]  # fmt: skip
        return rating_oracle.rate({"zone": self.zone, "month": name, "terms": terms, "spans": spans, "usage": inside})


def make_rich_tier(installation: Installation, terms: dict[str, Any]) -> tuple[str, str]:
    """Its code and the id of its version."""
    code = unique("rich")
    made = installation.admin.expect("POST", "/admin/v1/tiers", {"code": code, "name": code, "version": terms}, (201,))
    return code, made["version"]["id"].removeprefix("pv_")


def join(installation: Installation, stays: list[Stay], zone: str = "UTC") -> Customer:
    """A tenant that had these stays, one after the other."""
    made = installation.admin.expect(
        "POST", "/admin/v1/tenants", {"name": unique("rich"), "tier": stays[0].tier, "time_zone": zone}, (201,)
    )
    for stay in stays[1:]:
        body = {"tenant": made["id"], "tier": stay.tier, "when": "now"}
        installation.admin.expect("POST", "/admin/v1/subscriptions", body, (200,))
    key = make_key(installation.admin, made["id"])
    with installation.database() as database:
        for stay in stays:
            database.execute(
                "UPDATE subscriptions SET starts_at = %s, ends_at = %s, trial_ends_at = %s WHERE tenant_id = %s AND tier_version_id = %s",
                (stay.start, stay.end, stay.trial_end, made["id"], stay.version),
            )
    return Customer(Tenant(made["id"], key.key, key.key_id), zone, stays)


def spend(
    installation: Installation, customer: Customer, at: datetime, count: int, model: str, input_tokens: int,
    output_tokens: int, cached: int = 0,
) -> None:  # fmt: skip
    """Writes requests as settlement would have written them then, each a second behind the one before."""
    rows = []
    for n in range(count):
        moment = at + timedelta(seconds=n)
        number, stay = next(
            (number, stay) for number, stay in enumerate(customer.stays, 1)
            if stay.start <= moment and (stay.end is None or moment < stay.end)
        )  # fmt: skip
        customer.used.append(
            {"version": number, "trial": bool(stay.trial_end and moment < stay.trial_end), "model": model, "requests": 1,
             "input_tokens": input_tokens, "cached_input_tokens": cached, "output_tokens": output_tokens, "at": moment})  # fmt: skip
        rows.append(
            {"id": entry_id(moment), "tenant": customer.tenant.id, "key": customer.tenant.key_id, "model": model,
             "input": input_tokens, "cached": cached, "output": output_tokens, "version": uuid.UUID(stay.version), "at": moment})  # fmt: skip
    with installation.database() as database, database.cursor() as cursor:
        cursor.executemany(
            """WITH recorded AS (
                INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, created_at, completed_at, processing_us,
                    input_tokens, output_tokens, tier_version_id)
                VALUES (%(id)s, %(tenant)s, %(key)s, %(model)s, 'completed', 200, %(at)s, %(at)s, 1000, %(input)s, %(output)s, %(version)s)
            )
            INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            VALUES (%(id)s, %(id)s, %(tenant)s, %(key)s, 'usage', %(model)s, %(version)s, 1, %(input)s, %(cached)s, %(output)s, 'worker',
                %(at)s)""",
            rows,
        )
