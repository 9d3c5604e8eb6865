"""Invoices of tiers with every kind of price: equal to an independent program line by line, and to their own replay to the micro-unit."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bills import act, draft, last_month, month_before
from installation import Installation, binary
from rich_month import GROWN, START, WITH_TRIAL, Customer, Stay, join, make_rich_tier, spend

pytestmark = pytest.mark.timeout(300)
MONTH, _ = last_month()
EARLIER = month_before(MONTH)
NAME, EARLIER_NAME = f"{MONTH:%Y-%m}", f"{EARLIER:%Y-%m}"


@pytest.fixture(scope="module")
def own() -> Iterator[Installation]:
    with Installation() as running:
        yield running


def a_stay(own: Installation, terms: dict[str, Any], start: datetime, **more: datetime) -> Stay:
    return Stay(*make_rich_tier(own, terms), terms, start, **more)


def lines_of(invoice: dict[str, Any], customer: Customer) -> Counter[tuple]:
    """What an invoice asks for, with its tier versions by their number."""
    numbers = {f"pv_{stay.version}": number for number, stay in enumerate(customer.stays, 1)}
    return Counter(
        (line["kind"], numbers[line["price_version"]], line["model"], line["meter"], line["band"], line["start"], line["end"],
         None if line["quantity"] is None else Decimal(line["quantity"]), line["unit_price"], line["amount_micros"])
        for line in invoice["lines"])  # fmt: skip


def lines_of_oracle(rated: dict[str, Any]) -> Counter[tuple]:
    return Counter(
        (line["kind"], line["version"], line["model"], line["meter"], line["band"], line["start"], line["end"],
         None if line["quantity_millionths"] is None else Decimal(line["quantity_millionths"]) / 1_000_000,
         line["unit_price"], line["amount_micros"])
        for line in rated["lines"])  # fmt: skip


def issue(own: Installation, customer: Customer, month: datetime) -> dict[str, Any]:
    return act(own, draft(own, customer.tenant, month), "finalize")


def replay(own: Installation, customer: Customer | None = None) -> dict[str, Any]:
    query = f"?tenant={customer.tenant.id}" if customer else ""
    return own.admin.expect("GET", f"/admin/v1/tiers/replay{query}")


def weir(own: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"WEIR_ADMIN_URL": own.admin_url, "WEIR_ADMIN_KEY": own.admin_key, "PATH": "/usr/bin:/bin"}
    return subprocess.run([binary(), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)


def change(own: Installation, statement: str, *values: Any) -> None:
    """What no role of the product can do."""
    with own.database() as database:
        database.execute("SET session_replication_role = replica")
        assert database.execute(statement, values).rowcount == 1
        database.commit()


@pytest.fixture(scope="module")
def issued(own: Installation) -> dict[str, tuple[Customer, list[dict[str, Any]], list[dict[str, Any]]]]:
    """By kind of customer: who, what was issued to it, and what the oracle says of each."""
    found = {}

    little = join(own, [a_stay(own, START, EARLIER)])
    spend(own, little, MONTH + timedelta(days=2), 9, "iris", 31, 7)
    found["little"] = (little, [issue(own, little, MONTH)], [little.month(NAME)])

    much = join(own, [a_stay(own, START, EARLIER)])
    spend(own, much, MONTH + timedelta(days=2), 60, "iris", 131, 57, cached=11)
    spend(own, much, MONTH + timedelta(days=9), 23, "opus", 211, 45)
    spend(own, much, MONTH + timedelta(days=20), 41, "tiny", 77, 13)
    spend(own, much, MONTH + timedelta(days=21), 17, "other", 401, 29, cached=400)
    found["much"] = (much, [issue(own, much, MONTH)], [much.month(NAME)])

    # The trial ends within the month, on an edge of usage.
    start = MONTH + timedelta(days=3, hours=7, minutes=11, microseconds=5)
    trial = join(own, [a_stay(own, WITH_TRIAL, start, trial_end=MONTH + timedelta(days=12, hours=7, minutes=15))])
    spend(own, trial, MONTH + timedelta(days=5), 30, "iris", 400, 90)
    spend(own, trial, MONTH + timedelta(days=14), 40, "opus", 300, 70, cached=7)
    found["trial"] = (trial, [issue(own, trial, MONTH)], [trial.month(NAME)])

    # An upgrade in mid-month, in a zone whose month is not UTC's.
    zone = ZoneInfo("Europe/Berlin")
    moved = MONTH + timedelta(days=11, hours=13, minutes=17, seconds=5, microseconds=123_457)
    upgraded = join(own, [a_stay(own, START, EARLIER, end=moved), a_stay(own, GROWN, moved)], "Europe/Berlin")
    midnight = MONTH.replace(tzinfo=zone)
    spend(own, upgraded, midnight, 25, "iris", 301, 99)
    spend(own, upgraded, midnight - timedelta(seconds=3), 3, "iris", 7_777, 7_777)
    spend(own, upgraded, moved - timedelta(seconds=10), 20, "opus", 1_009, 213, cached=99)
    spend(own, upgraded, moved + timedelta(days=4), 70, "tiny", 911, 101)
    found["upgraded"] = (upgraded, [issue(own, upgraded, MONTH.replace(tzinfo=None))], [upgraded.month(NAME)])

    # Usage of a month that became known when its invoice was final, enough to fill bands and packages further.
    late = join(own, [a_stay(own, START, EARLIER - timedelta(days=9), end=EARLIER + timedelta(days=16)),
                      a_stay(own, GROWN, EARLIER + timedelta(days=16))])  # fmt: skip
    spend(own, late, EARLIER + timedelta(days=2), 33, "iris", 91, 37)
    spend(own, late, EARLIER + timedelta(days=20), 33, "opus", 1_301, 37)
    first = issue(own, late, EARLIER)
    before = late.month(EARLIER_NAME)
    spend(own, late, MONTH + timedelta(days=2), 15, "iris", 91, 370)
    spend(own, late, EARLIER + timedelta(days=3), 44, "iris", 191, 41)
    spend(own, late, EARLIER + timedelta(days=21), 29, "opus", 777, 1, cached=700)
    second = issue(own, late, MONTH)
    found["late"] = (late, [first, second], [before, late.month(NAME)])
    return found


@pytest.mark.parametrize("kind", ["little", "much", "trial", "upgraded"])
def test_an_invoice_says_what_the_oracle_says_line_by_line(issued: dict, kind: str) -> None:
    customer, (invoice,), (rated,) = issued[kind]
    assert lines_of(invoice, customer) == lines_of_oracle(rated)
    assert invoice["subtotal_micros"] == rated["subtotal_micros"] > 0
    kinds = {line["kind"] for line in invoice["lines"]}
    assert {"little": "minimum_commitment", "much": "included", "trial": "trial", "upgraded": "base_fee"}[kind] in kinds


def test_the_months_have_every_kind_of_price_in_them(issued: dict) -> None:
    lines = [line for _, invoices, _ in issued.values() for invoice in invoices for line in invoice["lines"]]
    assert {line["kind"] for line in lines} == {"base_fee", "usage", "included", "trial", "minimum_commitment", "late_usage"}
    assert {line["band"] for line in lines} >= {1, 2, 3}
    assert any("in packages of" in line["description"] for line in lines)
    fees = [line["amount_micros"] for line in issued["upgraded"][1][0]["lines"] if line["kind"] == "base_fee"]
    assert len(fees) == 2 and 0 < fees[0] < START["base_fee_micros"] and 0 < fees[1] < GROWN["base_fee_micros"]


def test_late_usage_asks_for_the_difference_that_the_oracle_finds(issued: dict) -> None:
    customer, (first, second), (before, of_month) = issued["late"]
    assert lines_of(first, customer) == lines_of_oracle(before)
    now = customer.month(EARLIER_NAME)
    assert second["subtotal_micros"] == of_month["subtotal_micros"] + now["subtotal_micros"] - before["subtotal_micros"]

    def sums(rated: dict[str, Any], sign: int) -> Counter:
        found: Counter = Counter()
        for line in rated["lines"]:
            found[line["version"], line["model"], line["meter"]] += sign * line["amount_micros"]
        return found

    expected = sums(now, 1)
    expected.update(sums(before, -1))
    numbers = {f"pv_{stay.version}": number for number, stay in enumerate(customer.stays, 1)}
    late = {
        (numbers[line["price_version"]], line["model"], line["meter"]): line["amount_micros"]
        for line in second["lines"] if line["kind"] == "late_usage"
    }  # fmt: skip
    assert {key: amount for key, amount in late.items() if amount} == {key: amount for key, amount in expected.items() if amount}
    own_lines = {**second, "lines": [line for line in second["lines"] if line["kind"] != "late_usage"]}
    assert lines_of(own_lines, customer) == lines_of_oracle(of_month)


def test_the_replay_reproduces_every_issued_invoice(own: Installation, issued: dict) -> None:
    count = sum(len(invoices) for _, invoices, _ in issued.values())
    assert count == 6
    replayed = replay(own)
    assert replayed == {
        "object": "invoice_replay", "invoices": count, "equal": count, "differing": 0, "differences": []
    }  # fmt: skip
    assert replay(own, issued["late"][0])["invoices"] == 2
    done = weir(own, "tiers", "replay", "--issued")
    assert (done.returncode, done.stdout) == (0, f"{count} invoices, {count} equal, 0 differ\n"), done.stderr
    refused = weir(own, "tiers", "replay")
    assert refused.returncode == 64 and "--issued" in refused.stderr


@pytest.mark.parametrize(
    ("kind", "position", "line_kind", "column"),
    [
        ("much", 0, "usage", "amount_micros"),
        ("little", 0, "minimum_commitment", "amount_micros"),
        ("trial", 0, "trial", "amount_micros"),
        ("upgraded", 0, "included", "quantity_millionths"),
        ("late", 0, "base_fee", "amount_micros"),
        ("late", 1, "late_usage", "amount_micros"),
        ("late", 1, "late_usage", "quantity_millionths"),
    ],
)
def test_the_replay_names_the_one_invoice_whose_line_was_changed(
    own: Installation, issued: dict, kind: str, position: int, line_kind: str, column: str
) -> None:
    invoice = issued[kind][1][position]
    id = invoice["id"].removeprefix("inv_")
    number = next(line["line"] for line in invoice["lines"] if line["kind"] == line_kind and line["quantity" if column != "amount_micros" else "kind"])
    statement = f"UPDATE invoice_lines SET {column} = {column} + %s WHERE invoice_id = %s AND line_number = %s"
    change(own, statement, 1, id, number)
    try:
        replayed = replay(own)
        assert (replayed["invoices"], replayed["equal"], replayed["differing"]) == (6, 5, 1)
        (found,) = replayed["differences"]
        assert (found["id"], found["number"], found["tenant_id"]) == (invoice["id"], invoice["number"], invoice["tenant_id"])
        assert found["issued_micros"] == found["replayed_micros"] == invoice["subtotal_micros"]
        (part,) = [part for part in found["parts"] if not part["equal"]]
        assert part["issued_micros"] - part["replayed_micros"] == (1 if column == "amount_micros" else 0)
        done = weir(own, "tiers", "replay", "--issued", "--json")
        assert done.returncode == 1 and json.loads(done.stdout) == replayed
    finally:
        change(own, statement, -1, id, number)
    assert replay(own)["equal"] == 6


def test_the_replay_tells_both_amounts_of_a_subtotal_that_was_changed(own: Installation, issued: dict) -> None:
    invoice = issued["much"][1][0]
    statement = (
        "UPDATE invoices SET subtotal_micros = subtotal_micros + %s, total_micros = total_micros + %s WHERE invoice_id = %s"
    )
    id = invoice["id"].removeprefix("inv_")
    change(own, statement, 5, 5, id)
    try:
        (found,) = replay(own)["differences"]
        assert found["id"] == invoice["id"]
        assert found["issued_micros"] == found["replayed_micros"] + 5 == invoice["subtotal_micros"] + 5
        assert invoice["number"] in weir(own, "tiers", "replay", "--issued").stdout
    finally:
        change(own, statement, -5, -5, id)


def test_what_was_void_and_made_anew_is_reproduced_too(own: Installation, issued: dict) -> None:
    customer, (first, second), _ = issued["late"]
    # The second knows what the first had asked for; the one in its place does without it.
    act(own, first, "void", {"reason": "A mistake"})
    between = replay(own, customer)
    assert (between["invoices"], between["equal"]) == (1, 1)
    again = issue(own, customer, EARLIER)
    after = replay(own, customer)
    assert (after["invoices"], after["equal"]) == (2, 2)
    assert again["subtotal_micros"] == first["subtotal_micros"]
    act(own, second, "pay")
    assert replay(own, customer)["equal"] == 2
