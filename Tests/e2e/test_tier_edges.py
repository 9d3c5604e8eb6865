"""The instant at which a tenant goes from one price version to another: what arrives decides, not the news; and changes that cannot be made."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from api import assert_served, get, predict
from bills import PRICES, act, draft, last_month, make_priced_tenant, use
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def make_tier(gateway: Gateway, currency: str = "USD") -> str:
    code = unique("tier")
    gateway.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": currency, "quotas": [],
            "prices": [{"meter": meter, "model": "*", "unit_price": str(price)} for meter, price in PRICES.items()]}},
        (201,))  # fmt: skip
    return code


def schedule(gateway: Gateway, tenant: Tenant, tier: str, when: str) -> None:
    body = {"tenant": tenant.id, "tier": tier, "when": when}
    gateway.admin.expect("POST", "/admin/v1/subscriptions", body, (200,))


def charged(database: psycopg.Connection, tenant: Tenant) -> list[tuple[datetime, str]]:
    """When each request occurred and the tier that it is charged by, in their order."""
    return database.execute(
        """SELECT l.occurred_at, v.tier_code FROM ledger l JOIN tier_versions v ON v.tier_version_id = l.tier_version_id
        WHERE l.tenant_id = %s ORDER BY 1""", (tenant.id,)).fetchall()  # fmt: skip


def keep_asking(gateway: Gateway, tenant: Tenant, end: datetime, failures: list[object]) -> None:
    while datetime.now(timezone.utc) < end:
        answer = predict(gateway.public_url, tenant.key)
        if answer.status != 200:
            failures.append(answer)


def failure_of(gateway: Gateway, tenant: Tenant) -> str:
    with gateway.installation.database() as database:
        rows = wait_until(
            lambda: database.execute(
                "SELECT after->>'failure' FROM audit_log WHERE tenant_id = %s AND action = 'subscription.fail'", (tenant.id,)
            ).fetchall(), "the change has failed", 20)  # fmt: skip
    assert len(rows) == 1
    mine = get(gateway.public_url, "/api/v1/subscription", tenant.key).json()
    assert mine["scheduled"] is None
    return rows[0][0]


def test_what_arrives_behind_the_edge_has_the_new_price_before_the_change_is_entered(gateways: list[Gateway]) -> None:
    one, two = gateways
    first, second = make_tier(one), make_tier(one)
    tenant = make_tenant(one.installation, first)
    schedule(one, tenant, second, "period_end")
    due = datetime.now(timezone.utc) + timedelta(seconds=5)
    failures: list[object] = []
    with one.installation.database() as database, one.installation.database() as holder:
        database.execute("UPDATE subscription_changes SET due_at = %s WHERE tenant_id = %s", (due, tenant.id))
        # Whoever would enter the change waits.
        with holder.transaction():
            holder.execute("SELECT FROM tenants WHERE tenant_id = %s FOR NO KEY UPDATE", (tenant.id,))
            threads = [
                threading.Thread(target=keep_asking, args=(gateway, tenant, due + timedelta(seconds=2), failures))
                for gateway in gateways
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert get(two.public_url, "/api/v1/subscription", tenant.key).json()["current"]["tier"] == first
        wait_until(
            lambda: get(two.public_url, "/api/v1/subscription", tenant.key).json()["current"]["tier"] == second,
            "the change is entered", 20)  # fmt: skip
        assert_served(predict(two.public_url, tenant.key))
        entries = charged(database, tenant)
        assert not failures
        assert {tier for at, tier in entries if at < due} == {first}
        assert {tier for at, tier in entries if at >= due} == {second}
        nearest = min(abs(at - due) for at, _ in entries)
        assert nearest < timedelta(seconds=0.5), nearest


def test_a_version_that_is_sold_no_more_is_not_changed_to(gateways: list[Gateway]) -> None:
    one, two = gateways
    first, second = make_tier(one), make_tier(one)
    tenant = make_tenant(one.installation, first)
    schedule(one, tenant, second, (datetime.now(timezone.utc) + timedelta(seconds=4)).isoformat())
    one.admin.expect("POST", f"/admin/v1/tiers/{second}/versions/1/retire", None, (200,))
    assert failure_of(two, tenant) == "the version is sold no more"
    assert_served(predict(two.public_url, tenant.key))
    with one.installation.database() as database:
        assert {tier for _, tier in charged(database, tenant)} == {first}
        assert database.execute("SELECT count(*) FROM subscriptions WHERE tenant_id = %s", (tenant.id,)).fetchone() == (1,)


def test_a_month_that_is_invoiced_is_not_cut(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    use(one.installation, tenant, MONTH + timedelta(days=20), 2)
    schedule(one, tenant, make_tier(one), "period_end")
    invoice = act(one, draft(one, tenant, MONTH), "finalize")
    with one.installation.database() as database:
        stays = database.execute("SELECT * FROM subscriptions WHERE tenant_id = %s", (tenant.id,)).fetchall()
        database.execute(
            "UPDATE subscription_changes SET due_at = %s WHERE tenant_id = %s", (MONTH + timedelta(days=10), tenant.id)
        )
        assert "is invoiced" in failure_of(two, tenant)
        assert database.execute("SELECT * FROM subscriptions WHERE tenant_id = %s", (tenant.id,)).fetchall() == stays
    assert one.admin.expect("GET", f"/admin/v1/invoices/{invoice['id']}")["subtotal_micros"] == invoice["subtotal_micros"]


def test_another_currency_within_a_month_is_not_changed_to(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_tenant(one.installation, make_tier(one))
    euro = make_tier(one, "EUR")
    schedule(one, tenant, euro, "period_end")
    # In another zone the month's end is another instant: it would come within one.
    answer = one.admin.call("PATCH", f"/admin/v1/tenants/{tenant.id}", {"time_zone": "Asia/Kathmandu"})
    assert answer.status == 409 and "scheduled" in answer.json()["detail"]
    now = datetime.now(timezone.utc)
    with one.installation.database() as database:
        database.execute(
            "UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (now - timedelta(minutes=20), tenant.id)
        )
        database.execute(
            "UPDATE subscription_changes SET due_at = %s WHERE tenant_id = %s", (now - timedelta(minutes=5), tenant.id)
        )
    assert "another currency" in failure_of(two, tenant)
    mine = get(two.public_url, "/api/v1/subscription", tenant.key).json()
    assert len(mine["history"]) <= 1 and mine["current"]["currency"] == "USD"
