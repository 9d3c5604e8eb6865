"""FOCUS 1.2: the columns that there must be, and costs that sum to the invoice."""

import csv
import io
from decimal import Decimal

import pytest

from downloads import download
from focus_rules import faults
from installation import Installation
from tenancy import make_tenant

WINDOW = "format=focus&start=2026-03-01T00:00:00Z&end=2026-04-01T00:00:00Z"
LINES = [
    ("base_fee", None, None, None, None, 9_990_000),
    ("usage", "iris", "request", 1_500_000_000, "0.000250000000", 375_000),
    ("usage", "iris", "input_token", 12_345_678_900_000, "0.000000150000", 1_851_852),
    ("included", "*", "output_token", 1_000_000_000, "0", 0),
    ("late_usage", "iris", "output_token", 7_000_000, "0.000000333333", 2),
    # 2,500 requests in begun packages of a thousand.
    ("usage", "iris", "request", 2_500_000_000, "1.500000000000", 4_500_000),
    ("minimum_commitment", None, None, None, None, 1),
]


@pytest.fixture(scope="module")
def invoiced(installation: Installation):
    tenant, other = make_tenant(installation), make_tenant(installation)
    with installation.database() as database:
        for number, (one, state) in enumerate([(tenant, "finalised"), (other, "finalised"), (tenant, "draft")]):
            subtotal = sum(line[-1] for line in LINES)
            credits = 1_000_001 if number == 0 else 0
            invoice = database.execute(
                """INSERT INTO invoices (invoice_id, issuer, kind, tenant_id, period_id, period_start, period_end, time_zone, currency,
                    subtotal_micros, credits_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id, number_prefix)
                VALUES (new_uuid7(), 'default', 'invoice', %s, '2026-03', '2026-03-01Z', '2026-04-01Z', 'UTC', %s, %s, %s, %s, '=Evil & Co', 'Weir', '', '', 'INV-')
                RETURNING invoice_id""",
                [one.id, "USD" if state == "finalised" else "EUR", subtotal, credits, subtotal - credits]).fetchone()[0]
            for place, (kind, model, meter, quantity, price, amount) in enumerate(LINES, 1):
                database.execute(
                    """INSERT INTO invoice_lines (invoice_id, line_number, kind, tier_version_id, model, meter, description, span_start,
                        span_end, quantity_millionths, unit_price, amount_micros)
                    SELECT %s, %s, %s, s.tier_version_id, %s, %s, '@line', '2026-03-01Z', '2026-04-01Z', %s, %s, %s
                    FROM subscriptions s WHERE s.tenant_id = %s AND s.ends_at IS NULL""",
                    [invoice, place, kind, model, meter, quantity, price, amount, one.id])
            if credits:
                database.execute(
                    """WITH g AS (INSERT INTO credit_grants (grant_id, tenant_id, kind, currency, amount_micros, effective_at, reason)
                        VALUES (new_uuid7(), %s, 'promotional', 'USD', 5000000, '2026-01-01Z', 'x') RETURNING grant_id)
                    INSERT INTO credit_applications SELECT %s, grant_id, %s FROM g""", [one.id, invoice, credits])
            if state != "draft":
                database.execute(
                    "UPDATE invoices SET state = 'finalised', finalised_at = now(), number = (SELECT coalesce(max(number), 0) + 1 FROM invoices) "
                    "WHERE invoice_id = %s", [invoice])
        for amount, is_given in ((1_000_000, True), (250_000, False)):
            note = database.execute(
                """INSERT INTO invoices (invoice_id, issuer, kind, corrects_invoice_id, tenant_id, period_id, period_start, period_end, time_zone,
                    currency, subtotal_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id, number_prefix)
                SELECT new_uuid7(), issuer, 'credit_note', invoice_id, tenant_id, period_id, period_start, period_end, time_zone, currency, %s, %s,
                    customer_name, issuer_name, '', '', 'INV-'
                FROM invoices WHERE tenant_id = %s AND state = 'finalised' AND kind = 'invoice' RETURNING invoice_id""",
                [amount, amount, tenant.id]).fetchone()[0]
            database.execute(
                """INSERT INTO invoice_lines (invoice_id, line_number, kind, description, span_start, span_end, amount_micros)
                VALUES (%s, 1, 'credit_note', 'x', '2026-03-01Z', '2026-04-01Z', %s)""", [note, amount])
            if is_given:
                database.execute(
                    """INSERT INTO credit_grants (grant_id, tenant_id, kind, currency, amount_micros, effective_at, reason, source_invoice_id)
                    VALUES (new_uuid7(), %s, 'refund', 'USD', %s, '2026-01-01Z', 'x', %s)""", [tenant.id, amount, note])
            database.execute(
                "UPDATE invoices SET state = 'finalised', finalised_at = now(), number = (SELECT max(number) + 1 FROM invoices) "
                "WHERE invoice_id = %s", [note])
    return tenant, other


def read(found) -> tuple[list[str], list[dict[str, str]]]:
    assert found.status == 200 and found.is_whole, found
    reader = csv.DictReader(io.StringIO(found.body.decode(), newline=""))
    rows = list(reader)
    assert found.trailers["x-weir-rows"] == str(len(rows))
    return list(reader.fieldnames or []), rows


def test_every_rule_holds_and_each_invoice_sums_to_its_total(installation, invoiced):
    header, rows = read(download(installation.admin_url, f"/admin/v1/usage/export?{WINDOW}", installation.admin_key))
    assert faults(header, rows) == []
    with installation.database() as database:
        totals = dict(database.execute(
            "SELECT 'inv_' || invoice_id, CASE WHEN kind = 'invoice' THEN total_micros WHEN EXISTS (SELECT FROM credit_grants g "
            "WHERE g.source_invoice_id = invoice_id) THEN 0 ELSE -total_micros END FROM invoices WHERE state = 'finalised' AND period_start = '2026-03-01Z'").fetchall())
    sums: dict[str, Decimal] = {}
    for row in rows:
        sums[row["InvoiceId"]] = sums.get(row["InvoiceId"], Decimal(0)) + Decimal(row["BilledCost"])
    assert {invoice: total * 1_000_000 for invoice, total in sums.items()} == totals and len(totals) >= 4
    assert {row["BillingAccountName"] for row in rows} == {"'=Evil & Co"}
    usage = [row for row in rows if row["SkuId"] == "input_token"][0]
    assert (usage["PricingQuantity"], usage["PricingUnit"], usage["ListUnitPrice"]) == ("12345678.9", "Tokens", "0.000000150000")
    packed = [row for row in rows if row["PricingUnit"] == "Packages"]
    assert {(row["PricingQuantity"], row["ConsumedQuantity"], row["ConsumedUnit"]) for row in packed} == {("3", "2500", "Requests")}
    fees = [row for row in rows if row["ChargeCategory"] == "Purchase"]
    assert {(row["PricingQuantity"], row["PricingUnit"], row["ConsumedQuantity"]) for row in fees} == {("1", "Units", "")}
    assert all(row["ListUnitPrice"] == row["ListCost"] for row in fees) and len(fees) == 4


def test_a_customer_gets_its_own_invoices(installation, invoiced):
    tenant, other = invoiced
    _, rows = read(download(installation.public_url, f"/api/v1/usage/export?{WINDOW}", tenant.key))
    assert {row["BillingAccountId"] for row in rows} == {tenant.id} and len(rows) == len(LINES) + 1 + 3
    assert [row["BilledCost"] for row in rows if row["x_LineKind"] == "credit"] == ["-1.000001"]
    given = [row for row in rows if row["x_LineKind"] in ("credit_note", "given_as_credit")]
    assert sorted(row["BilledCost"] for row in given) == ["-0.250000", "-1.000000", "1.000000"]


@pytest.mark.parametrize("name, value, fault", [
    ("BilledCost", "1,5", "no plain decimal"), ("BillingCurrency", "", "is empty"), ("ChargeCategory", "Fee", "ChargeCategory"),
    ("ChargePeriodEnd", "2026-03-01", "no instant"), ("PricingUnit", "", "go together"), ("PricingQuantity", "12", "times its price"), ("ChargeCategory", "Purchase", "consumed"),
])
def test_the_checker_sees_what_is_wrong(installation, invoiced, name, value, fault):
    header, rows = read(download(installation.admin_url, f"/admin/v1/usage/export?{WINDOW}", installation.admin_key))
    row = next(row for row in rows if row["SkuId"] == "input_token")
    row[name] = value
    assert any(fault in each for each in faults(header, rows))
    assert any("missing" in each for each in faults([each for each in header if each != "BilledCost"], []))
