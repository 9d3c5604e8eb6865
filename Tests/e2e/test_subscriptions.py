"""Changes of tier: now, later, once, and with trials."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from api import assert_problem, get
from bills import PRICES
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def make_tier(gateway: Gateway, currency: str = "USD", requests: int = 1000) -> str:
    code = unique("tier")
    gateway.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": currency,
            "prices": [{"meter": meter, "model": "*", "unit_price": str(price)} for meter, price in PRICES.items()],
            "quotas": [{"unit": "requests", "frequency": "month", "amount": requests, "mode": "hard"}]}}, (201,))  # fmt: skip
    return code


def change(gateway: Gateway, tenant: Tenant, tier: str, when: str = "now") -> dict:
    return gateway.admin.expect(
        "POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": tier, "when": when}, (200,)
    )


def test_a_change_that_is_due_is_applied_once_from_the_due_instant_on(gateways: list[Gateway]) -> None:
    one, two = gateways
    first, second = make_tier(one), make_tier(one, requests=77)
    tenant = make_tenant(one.installation, first)
    due = datetime.now(timezone.utc) + timedelta(seconds=3)
    made = change(one, tenant, second, due.isoformat())
    assert made["current"]["tier"] == first and made["scheduled"]["tier"] == second
    mine = get(two.public_url, "/api/v1/subscription", tenant.key).json()
    assert mine["scheduled"]["tier"] == second and mine["trial"] is False
    deadline = time.monotonic() + 60
    while mine["scheduled"] and time.monotonic() < deadline:
        time.sleep(0.2)
        mine = get(two.public_url, "/api/v1/subscription", tenant.key).json()
    assert mine["current"]["tier"] == second
    assert datetime.fromisoformat(mine["current"]["starts_at"]) == due
    assert datetime.fromisoformat(mine["history"][1]["ends_at"]) == due
    wait_until(lambda: "77" in str(get(two.public_url, "/api/v1/quota", tenant.key).json()), "its quota counts", 10)
    with one.installation.database() as database:
        assert database.execute(
            "SELECT count(*) FROM audit_log WHERE tenant_id = %s AND action = 'subscription.apply'", (tenant.id,)
        ).fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM subscriptions WHERE tenant_id = %s", (tenant.id,)).fetchone() == (2,)


def test_another_currency_begins_with_a_month_and_a_change_can_be_taken_back(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_tenant(one.installation, make_tier(one))
    euro = make_tier(one, "EUR")
    soon = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    for when in ("now", soon):
        answer = one.admin.call("POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": euro, "when": when})
        assert_problem(answer, 409, "conflict")
    answer = one.admin.call("PATCH", f"/admin/v1/tenants/{tenant.id}", {"tier": euro})
    assert_problem(answer, 409, "conflict")
    made = change(two, tenant, euro, "period_end")
    assert made["scheduled"]["due_at"] == made["period"]["end"]
    # Another takes its place.
    assert change(one, tenant, make_tier(one), "period_end")["scheduled"]["tier"] != euro
    taken = two.admin.expect("POST", "/admin/v1/subscriptions/cancel", {"tenant": tenant.id})
    assert taken["scheduled"] is None
    answer = one.admin.call("POST", "/admin/v1/subscriptions/cancel", {"tenant": tenant.id})
    assert_problem(answer, 409, "conflict")
    past = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    for body in ({"tenant": tenant.id, "tier": euro, "when": past}, {"tenant": tenant.id, "tier": euro, "when": "soon"},
                 {"tenant": tenant.id, "tier": "no-such-tier"}):  # fmt: skip
        assert_problem(one.admin.call("POST", "/admin/v1/subscriptions", body), 422, "validation_failed")


def test_a_tier_of_one_tenant_is_none_for_others(gateways: list[Gateway]) -> None:
    one, _ = gateways
    plain = make_tier(one)
    own, other = make_tenant(one.installation, plain), make_tenant(one.installation, plain)
    special = make_tier(one)
    with one.installation.database() as database:
        database.execute("UPDATE tiers SET tenant_id = %s WHERE code = %s", (own.id, special))
    answer = one.admin.call("POST", "/admin/v1/subscriptions", {"tenant": other.id, "tier": special})
    assert_problem(answer, 422, "validation_failed")
    assert change(one, own, special)["current"]["tier"] == special


def test_a_trial_is_given_once_and_ends_on_a_quarter_of_an_hour(gateways: list[Gateway]) -> None:
    one, two = gateways
    plain, trial = make_tier(one), unique("trial")
    tenant = make_tenant(one.installation, plain)
    with one.installation.database() as database:
        database.execute("INSERT INTO tiers (code, name) VALUES (%s, %s)", (trial, trial))
        database.execute(
            "INSERT INTO tier_versions (tier_version_id, tier_code, version, currency, trial_days) VALUES (gen_random_uuid(), %s, 1, 'USD', 14)",
            (trial,))  # fmt: skip
        database.execute(
            "UPDATE tier_versions SET state = 'published', published_at = now() WHERE tier_code = %s", (trial,)
        )
    current = change(one, tenant, trial)["current"]
    start, end = (datetime.fromisoformat(current[name]) for name in ("starts_at", "trial_ends_at"))
    assert timedelta(days=14) <= end - start < timedelta(days=14, minutes=15) and end.timestamp() % 900 == 0
    assert get(two.public_url, "/api/v1/subscription", tenant.key).json()["trial"] is True
    change(two, tenant, plain)
    assert change(one, tenant, trial)["current"]["trial_ends_at"] is None
