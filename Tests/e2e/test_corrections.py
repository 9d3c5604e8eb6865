"""Corrections of what was charged give back what it came to, in the month of the request: no more and no less."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from api import assert_problem
from bills import BASE_FEE, PRICES, act, cost, draft, last_month, make_priced_tenant, month_before, unbilled, use
from installation import Gateway, Installation
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()
WHOLE = {"requests": -1, "input_tokens": -100, "output_tokens": -10}


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def correct(gateway: Gateway, request: str, change: dict[str, int]) -> dict[str, Any]:
    return gateway.admin.expect(
        "POST", "/admin/v1/adjustments", {"request_id": request, "reason": "It was ours", **change}, (201,)
    )


def make_tenant_with(gateway: Gateway, **terms: Any) -> Tenant:
    """On a tier with these terms since the start of the last month."""
    code = unique("terms")
    gateway.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": "USD", "base_fee_micros": BASE_FEE, "quotas": [], **terms,
            "prices": [{"meter": meter, "model": "*", "unit_price": str(price)} for meter, price in PRICES.items()]}},
        (201,))  # fmt: skip
    tenant = make_tenant(gateway.installation, code)
    with gateway.installation.database() as database:
        database.execute(
            """UPDATE subscriptions SET starts_at = %s, trial_ends_at = CASE WHEN trial_ends_at IS NOT NULL THEN %s + interval '70 days' END
            WHERE tenant_id = %s""", (MONTH, MONTH, tenant.id))  # fmt: skip
    return tenant


def test_what_was_included_or_free_gives_nothing_back(gateways: list[Gateway]) -> None:
    one, two = gateways
    included = make_tenant_with(one, included_requests=100, included_tokens=1_000_000)
    request = use(one.installation, included, MONTH + timedelta(days=3), 3)[0]
    trial = make_tenant_with(one, trial_days=70)
    free = use(one.installation, trial, MONTH + timedelta(days=3), 3)[0]
    for tenant, wrong, fee in ((included, request, BASE_FEE), (trial, free, 0)):
        assert draft(one, tenant, MONTH)["subtotal_micros"] == fee
        correct(two, wrong, WHOLE)
        for month in (MONTH, datetime.now(timezone.utc)):
            made = draft(two, tenant, month)
            assert made["subtotal_micros"] == fee and "carried_credit" not in {line["kind"] for line in made["lines"]}


def test_what_was_paid_comes_back_as_it_was_charged(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 3)[0]
    with one.installation.database() as database:
        database.execute("ALTER TABLE ledger DISABLE TRIGGER USER")
        database.execute("UPDATE ledger SET tags = '{team=search}' WHERE entry_id = %s", (request[4:],))
        database.execute("ALTER TABLE ledger ENABLE TRIGGER USER")
    assert draft(one, tenant, MONTH)["subtotal_micros"] == BASE_FEE + cost(3)
    correct(two, request, WHOLE)
    assert draft(one, tenant, MONTH)["subtotal_micros"] == BASE_FEE + cost(2)
    assert draft(one, tenant, datetime.now(timezone.utc))["subtotal_micros"] == BASE_FEE
    with one.installation.database() as database:
        rows = database.execute(
            """SELECT DISTINCT occurred_at, key_id, model, tier_version_id, tags FROM ledger
            WHERE tenant_id = %s AND request_id = %s""", (tenant.id, request[4:])).fetchall()  # fmt: skip
        assert len(rows) == 1 and rows[0][4] == ["team=search"]


def test_of_an_invoiced_month_it_is_on_the_next_invoice(gateways: list[Gateway]) -> None:
    one, two = gateways
    earlier = month_before(MONTH)
    tenant = make_priced_tenant(one.installation, earlier)
    request = use(one.installation, tenant, earlier + timedelta(days=3), 2)[0]
    first = act(one, draft(one, tenant, earlier), "finalize")
    assert first["subtotal_micros"] == BASE_FEE + cost(2)
    made = correct(two, request, {"requests": -1, "input_tokens": -40})
    assert made["tenant_id"] == tenant.id and made["requests"] == -1
    second = act(two, draft(two, tenant, MONTH), "finalize")
    assert {line["meter"]: line["amount_micros"] for line in second["lines"] if line["kind"] == "late_usage"} == {
        "request": -10_000, "input_token": -120,
    }  # fmt: skip
    assert second["subtotal_micros"] == BASE_FEE - 10_120
    assert unbilled(one.installation, tenant, earlier) == [] and unbilled(one.installation, tenant, MONTH) == []
    # Once.
    assert draft(one, tenant, datetime.now(timezone.utc))["subtotal_micros"] == BASE_FEE


def test_it_takes_no_more_than_was_charged(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 1)[0]
    correct(two, request, {"requests": -1, "input_tokens": -40})
    for more in ({"requests": -1}, {"input_tokens": -61}, {"cached_input_tokens": 61}, {"output_tokens": -11}, {}):
        answer = one.admin.call("POST", "/admin/v1/adjustments", {"request_id": request, "reason": "More", **more})
        assert_problem(answer, 422, "validation_failed")
    answer = one.admin.call(
        "POST", "/admin/v1/adjustments", {"request_id": f"req_{tenant.id}", "requests": -1, "reason": "Whose?"}
    )
    assert_problem(answer, 404, "not_found")
    with one.installation.database() as database:
        kinds = database.execute("SELECT kind FROM ledger WHERE tenant_id = %s ORDER BY kind", (tenant.id,)).fetchall()
        assert kinds == [("correction",), ("usage",)]
        with pytest.raises(Exception, match="append-only"):
            database.execute("UPDATE adjustments SET reason = 'x' WHERE tenant_id = %s", (tenant.id,))


def stand(installation: Installation, tenant: Tenant, start: datetime, count: int) -> None:
    """Writes invoices of so many months from an instant on."""
    with installation.database() as database:
        for number in range(count):
            database.execute(
                """INSERT INTO invoices (invoice_id, issuer, number, kind, tenant_id, period_id, period_start, period_end, time_zone,
                    currency, state, subtotal_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id,
                    number_prefix, finalised_at)
                SELECT %(id)s, 'default', 1000000 + (SELECT count(*) FROM invoices), 'invoice', %(tenant)s, 'x',
                    %(start)s + %(n)s * interval '1 month', %(start)s + (%(n)s + 1) * interval '1 month', 'UTC', 'USD', 'finalised', 0,
                    0, 'x', 'x', '', '', '', now()""",
                {"id": str(uuid.uuid4()), "tenant": tenant.id, "start": start, "n": number})  # fmt: skip


def test_a_month_that_no_run_invoices_is_not_corrected(gateways: list[Gateway]) -> None:
    one, two = gateways
    earlier = month_before(MONTH)
    tenant = make_priced_tenant(one.installation, earlier)
    before = use(one.installation, tenant, earlier + timedelta(days=3), 2)[0]
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 2)[0]
    correct(one, before, {"output_tokens": -1})

    def refused(request: str) -> str:
        body = {"request_id": request, "reason": "Late", "requests": -1}
        problem = assert_problem(two.admin.call("POST", "/admin/v1/adjustments", body), 422, "validation_failed")
        assert "grant a credit" in problem["errors"][0]["fix"]
        return problem["errors"][0]["message"]

    first = act(one, draft(one, tenant, MONTH), "finalize")
    assert "before the first invoice" in refused(before)
    correct(one, request, {"output_tokens": -1})
    act(one, first, "void", {"reason": "It was ours"})
    correct(one, request, {"output_tokens": -1})
    second = act(one, draft(one, tenant, MONTH), "finalize")
    act(one, second, "void", {"reason": "It was ours", "reissue": False})
    assert "is void and not issued anew" in refused(request)


def test_what_no_invoice_would_have_is_refused(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 2)[0]
    body = {"request_id": request, "reason": "Late", "requests": -1}
    stand(one.installation, tenant, MONTH, 24)
    correct(one, request, {"output_tokens": -1})
    stand(one.installation, tenant, MONTH_END + timedelta(days=31 * 23), 1)
    problem = assert_problem(two.admin.call("POST", "/admin/v1/adjustments", body), 422, "validation_failed")
    assert "24 invoiced months" in problem["errors"][0]["message"] and "credit note" in problem["errors"][0]["fix"]
    # Last, because it takes the month away from the others.
    with one.installation.database() as database:
        database.execute(f"ALTER TABLE ledger DETACH PARTITION ledger_y{MONTH:%Y}m{MONTH:%m}")
    problem = assert_problem(two.admin.call("POST", "/admin/v1/adjustments", body), 422, "validation_failed")
    assert "archived" in problem["errors"][0]["message"]
