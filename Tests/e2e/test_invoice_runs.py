"""Which months are invoiced: every one, once, whatever was missed, refused, voided or moved to another time zone."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api import assert_problem, get
from bills import BASE_FEE, act, cost, draft, entry_id, last_month, make_priced_tenant, month_before, use
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, unique

pytestmark = pytest.mark.timeout(300)
LAST, LAST_END = last_month()
SECOND = month_before(LAST)
FIRST = month_before(SECOND)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def run(gateway: Gateway) -> dict[str, Any]:
    return gateway.admin.expect("POST", "/admin/v1/invoices/run")


def issued(installation: Installation, tenant: Tenant) -> list[dict[str, Any]]:
    """Standing invoices, the oldest period first."""
    with installation.database() as database:
        rows = database.execute(
            """SELECT 'inv_' || invoice_id, period_start, period_end, time_zone, currency, total_micros, state, number FROM invoices
            WHERE tenant_id = %s AND kind = 'invoice' AND state IN ('finalised', 'paid') ORDER BY period_start, currency""",
            (tenant.id,)).fetchall()  # fmt: skip
    names = ("id", "start", "end", "zone", "currency", "total", "state", "number")
    return [dict(zip(names, row, strict=True)) for row in rows]


def unbilled(installation: Installation, tenant: Tenant) -> list[tuple]:
    """By model, what the ledger of closed months has and standing invoices have not."""
    with installation.database() as database:
        return database.execute(
            """SELECT model, sum(requests) FROM (
                SELECT model, requests FROM ledger WHERE tenant_id = %(tenant)s AND occurred_at < %(end)s
                UNION ALL
                SELECT u.model, -u.requests FROM invoice_usage u JOIN invoices i ON i.invoice_id = u.invoice_id
                WHERE i.tenant_id = %(tenant)s AND i.state IN ('finalised', 'paid')) parts
            GROUP BY 1 HAVING sum(requests) <> 0""", {"tenant": tenant.id, "end": LAST_END - DAY}).fetchall()  # fmt: skip


def void(gateway: Gateway, invoice: str, **more: Any) -> dict[str, Any]:
    return gateway.admin.expect("POST", f"/admin/v1/invoices/{invoice}/void", {"reason": "A mistake", **more})


def spoil(installation: Installation, tenant: Tenant, start: datetime, by: int) -> None:
    """Makes the roll-up of a month say something else than the ledger."""
    with installation.database() as database:
        def is_rolled_up() -> bool:
            return database.execute(
                "SELECT count(*) > 0 FROM usage WHERE tenant_id = %s AND bucket_start >= %s AND bucket_start < %s::timestamptz + interval '27 days'",
                (tenant.id, start, start)).fetchone()[0]  # fmt: skip

        wait_until(is_rolled_up, "the month is rolled up", 30)
        touched = database.execute(
            """UPDATE usage SET requests_count = requests_count + %s WHERE (tenant_id, bucket_start, key_id, model, tier_version_id) = (
                SELECT tenant_id, bucket_start, key_id, model, tier_version_id FROM usage
                WHERE tenant_id = %s AND bucket_start >= %s ORDER BY bucket_start LIMIT 1)""", (by, tenant.id, start))  # fmt: skip
        assert touched.rowcount == 1


def test_months_that_were_missed_are_issued_oldest_first(gateways: list[Gateway]) -> None:
    installation = gateways[0].installation
    tenant = make_priced_tenant(installation, FIRST)
    for number, month in enumerate((FIRST, SECOND, LAST), 1):
        use(installation, tenant, month + 3 * DAY, number)
    assert run(gateways[0])["refused"] == []
    found = issued(installation, tenant)
    assert [(row["start"], row["total"]) for row in found] == [
        (month, BASE_FEE + cost(number)) for number, month in enumerate((FIRST, SECOND, LAST), 1)
    ]
    assert [row["number"] for row in found] == sorted(row["number"] for row in found)
    assert unbilled(installation, tenant) == []
    assert run(gateways[1])["finalised"] == 0


def test_a_month_that_was_left_out_between_two_is_issued(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, FIRST)
    for month in (FIRST, LAST):
        act(one, draft(two, tenant, month), "finalize")
    use(one.installation, tenant, SECOND + DAY, 4)
    assert run(one)["finalised"] == 1
    assert [row["start"] for row in issued(one.installation, tenant)] == [FIRST, SECOND, LAST]


def test_a_refused_month_is_named_in_each_run_and_holds_up_the_later_ones(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, SECOND)
    use(one.installation, tenant, SECOND + 2 * DAY, 3)
    spoil(one.installation, tenant, SECOND, 5)
    for gateway in gateways:
        refused = [row["detail"] for row in run(gateway)["refused"] if row["tenant_id"] == tenant.id]
        assert len(refused) == 1 and f"{SECOND:%Y-%m}" in refused[0] and "usage_differs_from_ledger" in refused[0]
        assert issued(one.installation, tenant) == []
    spoil(one.installation, tenant, SECOND, -5)
    run(two)
    assert [row["total"] for row in issued(one.installation, tenant)] == [BASE_FEE + cost(3), BASE_FEE]


def test_no_invoice_is_issued_while_the_books_differ_also_of_months_that_it_charges_late(gateways: list[Gateway]) -> None:
    one, two = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation, SECOND)
    use(installation, tenant, SECOND + 2 * DAY, 3)
    first = draft(one, tenant, SECOND)
    spoil(installation, tenant, SECOND, 1)
    path = f"/admin/v1/invoices/{first['id']}/finalize"
    answer = two.admin.call("POST", path)
    assert_problem(answer, 409, "conflict")
    assert "usage_differs_from_ledger" in answer.json()["detail"] and tenant.id in answer.json()["detail"]
    spoil(installation, tenant, SECOND, -1)
    assert act(one, first, "finalize")["total_micros"] == BASE_FEE + cost(3)
    # Late usage of that month is on the next invoice, so its books have to agree again.
    use(installation, tenant, SECOND + 3 * DAY, 2)
    second = draft(two, tenant, LAST)
    spoil(installation, tenant, SECOND, 1)
    answer = one.admin.call("POST", f"/admin/v1/invoices/{second['id']}/finalize")
    assert_problem(answer, 409, "conflict")
    assert f"{SECOND:%Y-%m}" in answer.json()["detail"] and "usage_differs_from_ledger" in answer.json()["detail"]
    spoil(installation, tenant, SECOND, -1)
    assert act(two, second, "finalize")["total_micros"] == BASE_FEE + cost(5) - cost(3)


def test_months_without_an_invoice_are_a_difference_of_tenants_that_are_invoiced(gateways: list[Gateway]) -> None:
    one, two = gateways
    invoiced, never = make_priced_tenant(one.installation, FIRST), make_priced_tenant(one.installation, FIRST)
    for tenant in (invoiced, never):
        use(one.installation, tenant, FIRST + DAY, 1)
    act(one, draft(one, invoiced, FIRST), "finalize")

    def missed(tenant: Tenant) -> list[dict[str, str]]:
        body = {"tenant": tenant.id, "start": f"{FIRST - DAY:%FT%TZ}"}
        found = two.admin.expect("POST", "/admin/v1/reconcile", body)["differences"]
        return [each for each in found if each["kind"] == "period_not_invoiced"]

    assert [each["id"] for each in missed(invoiced)] == [f"{invoiced.id}/{SECOND:%FT%T.%fZ}"]
    assert missed(never) == []
    run(one)
    assert missed(invoiced) == missed(never) == []
    again = issued(one.installation, invoiced)[1]
    void(one, again["id"], reissue=False)
    assert missed(invoiced) == []


@pytest.mark.parametrize("zones", [("America/New_York", "Europe/Berlin"), ("Europe/Berlin", "America/New_York")])
def test_a_move_to_another_zone_leaves_no_hour_out_and_charges_none_twice(
    gateways: list[Gateway], zones: tuple[str, str]
) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, FIRST - 2 * DAY)
    path = f"/admin/v1/tenants/{tenant.id}"
    one.admin.expect("PATCH", path, {"time_zone": zones[0]})
    # An hour apart over all edges, so that some are between the months of the two zones.
    for edge in (SECOND, LAST):
        for hour in range(-13, 14):
            use(one.installation, tenant, edge + timedelta(hours=hour), 1)
    act(one, draft(one, tenant, FIRST), "finalize")
    one.admin.expect("PATCH", path, {"time_zone": zones[1]})
    assert run(two)["refused"] == []
    found = issued(one.installation, tenant)
    # In the first hours of a month of UTC the last one goes on in the west.
    last_is_over = datetime.now(timezone.utc) >= LAST_END.replace(tzinfo=ZoneInfo(zones[1]))
    assert [row["zone"] for row in found] == [zones[0], zones[1], zones[1]][: 3 if last_is_over else 2]
    assert [row["end"] for row in found[:-1]] == [row["start"] for row in found[1:]]
    with one.installation.database() as database:
        used = database.execute(
            "SELECT count(*) FROM ledger WHERE tenant_id = %s AND occurred_at >= %s AND occurred_at < %s",
            (tenant.id, found[0]["start"], found[-1]["end"])).fetchone()[0]  # fmt: skip
        billed = database.execute(
            "SELECT sum(u.requests) FROM invoice_usage u JOIN invoices i USING (invoice_id) WHERE i.tenant_id = %s", (tenant.id,)
        ).fetchone()[0]
    assert billed == used and (used == 54 or not last_is_over)
    # The base fee is the month's, for the time that the period really has.
    moved = one.admin.expect("GET", f"/admin/v1/invoices/{found[1]['id']}")
    fee = next(line["amount_micros"] for line in moved["lines"] if line["kind"] == "base_fee")
    assert 0 < abs(fee - BASE_FEE) < BASE_FEE // 60
    assert (fee < BASE_FEE) == (zones[1] == "Europe/Berlin")
    assert moved["period"] == f"{SECOND:%Y-%m}"
    last = one.admin.expect("GET", f"/admin/v1/invoices/{found[-1]['id']}")
    assert [line for line in last["lines"] if line["kind"] == "late_usage"] == []
    assert run(one)["finalised"] == 0


def test_a_draft_keeps_its_zone_and_is_refused_when_its_neighbours_moved(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, FIRST)
    path = f"/admin/v1/tenants/{tenant.id}"
    one.admin.expect("PATCH", path, {"time_zone": "America/New_York"})
    use(one.installation, tenant, SECOND + 3 * DAY, 3)
    first, last = draft(one, tenant, SECOND), draft(one, tenant, LAST)
    one.admin.expect("PATCH", path, {"time_zone": "Europe/Berlin"})
    made = act(two, first, "finalize")
    assert made["time_zone"] == "America/New_York" and made["period_start"] == first["period_start"]
    # The month after it is what is left, and nothing of the first is charged again.
    next_one = draft(two, tenant, LAST)
    assert next_one["id"] == last["id"] and next_one["time_zone"] == "Europe/Berlin"
    assert next_one["period_start"] == made["period_end"]
    assert [line["kind"] for line in next_one["lines"]] == ["base_fee"]
    # Its neighbour ends elsewhere now: the draft would leave hours out.
    void(one, made["id"])
    act(one, draft(two, tenant, SECOND), "finalize")
    answer = two.admin.call("POST", f"/admin/v1/invoices/{last['id']}/finalize")
    assert_problem(answer, 409, "conflict")
    assert "Draft the month anew" in answer.json()["detail"]
    assert act(two, draft(one, tenant, LAST), "finalize")["state"] == "finalised"


def change_currency(installation: Installation, tenant: Tenant, at: datetime) -> None:
    """Puts the tenant on a tier in euro from an instant on."""
    code = unique("euro")
    made = installation.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": "EUR", "base_fee_micros": BASE_FEE,
            "prices": [{"meter": "request", "model": "*", "unit_price": "1"}], "quotas": []}}, (201,))  # fmt: skip
    assert made["code"] == code
    with installation.database() as database:
        database.execute("UPDATE subscriptions SET ends_at = %s WHERE tenant_id = %s", (at, tenant.id))
        database.execute(
            """INSERT INTO subscriptions (subscription_id, tenant_id, tier_version_id, starts_at)
            SELECT gen_random_uuid(), %s, tier_version_id, %s FROM tier_versions WHERE tier_code = %s""", (tenant.id, at, code))  # fmt: skip


def test_a_month_of_two_currencies_is_two_invoices(gateways: list[Gateway]) -> None:
    one, two = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation, SECOND)
    use(installation, tenant, SECOND + DAY, 2)
    middle = SECOND + 10 * DAY
    change_currency(installation, tenant, middle)
    use(installation, tenant, middle + DAY, 5)
    assert run(one)["refused"] == []
    found = [(row["start"], row["currency"], row["total"]) for row in issued(installation, tenant)]
    length = LAST - SECOND
    part = lambda days: round(BASE_FEE * days / length)  # noqa: E731
    assert found == [
        (SECOND, "EUR", part(length - 10 * DAY) + 5_000_000), (SECOND, "USD", part(10 * DAY) + cost(2)),
        (LAST, "EUR", BASE_FEE),
    ]  # fmt: skip
    assert run(two)["finalised"] == 0


def make_month_of_two_currencies(gateway: Gateway) -> tuple[Tenant, dict[str, Any]]:
    """A tenant whose month before last is invoiced in both, and the invoice in dollars."""
    installation = gateway.installation
    tenant = make_priced_tenant(installation, SECOND)
    use(installation, tenant, SECOND + DAY, 2)
    change_currency(installation, tenant, SECOND + 10 * DAY)
    use(installation, tenant, SECOND + 11 * DAY, 5)
    draft(gateway, tenant, SECOND)
    listed = gateway.admin.expect("GET", f"/admin/v1/invoices?tenant={tenant.id}")["data"]
    assert sorted(row["currency"] for row in listed) == ["EUR", "USD"]
    for row in listed:
        act(gateway, row, "finalize")
    return tenant, next(row for row in issued(installation, tenant) if row["currency"] == "USD")


def missing(gateway: Gateway, tenant: Tenant) -> list[str]:
    body = {"tenant": tenant.id, "start": f"{SECOND - DAY:%FT%TZ}"}
    found = gateway.admin.expect("POST", "/admin/v1/reconcile", body)["differences"]
    return [each["id"] for each in found if each["kind"] == "period_not_invoiced" and each["id"].endswith("/USD")]


def test_a_currency_that_is_left_alone_is_not_charged_late(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant, dollars = make_month_of_two_currencies(one)
    void(two, dollars["id"], reissue=False)
    assert missing(one, tenant) == []
    assert [row["detail"] for row in run(one)["refused"] if row["tenant_id"] == tenant.id] == []
    found = [(row["start"], row["currency"], row["total"]) for row in issued(one.installation, tenant)]
    assert [row[:2] for row in found] == [(SECOND, "EUR"), (LAST, "EUR")] and found[1][2] == BASE_FEE
    # Who asks for the month gets it.
    again = act(two, draft(one, tenant, SECOND), "finalize")
    assert (again["currency"], again["total_micros"]) == ("USD", dollars["total"])


def test_a_currency_that_is_void_is_issued_anew_beside_the_other(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant, dollars = make_month_of_two_currencies(one)
    run(one)
    before = issued(one.installation, tenant)
    void(two, dollars["id"])
    assert missing(one, tenant) == [f"{tenant.id}/{SECOND:%FT%T.%fZ}/USD"]
    outcome = run(one)
    assert (outcome["finalised"], outcome["refused"]) == (1, [])
    after = issued(one.installation, tenant)
    made = [row for row in after if row not in before]
    assert [(row["start"], row["currency"], row["total"]) for row in made] == [(SECOND, "USD", dollars["total"])]
    assert [row for row in before if row not in after] == [dollars]
    assert unbilled(one.installation, tenant) == [] and missing(two, tenant) == []
    assert run(two)["finalised"] == 0


def test_a_draft_beside_an_invoice_that_came_to_nothing_holds_nothing_up(gateways: list[Gateway]) -> None:
    one, two = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation, SECOND - DAY)
    used = use(installation, tenant, SECOND + DAY, 2)
    change_currency(installation, tenant, SECOND)

    def correct(requests: int) -> None:
        with installation.database() as database:
            database.execute(
                """INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                    cached_input_tokens, output_tokens, token_source, occurred_at)
                SELECT %s, request_id, tenant_id, key_id, 'correction', model, tier_version_id, %s, %s, 0, %s, token_source, %s
                FROM ledger WHERE entry_id = %s""",
                (entry_id(SECOND + 2 * DAY), requests, requests * 100, requests * 10, SECOND + 2 * DAY,
                 used[0].removeprefix("req_")))  # fmt: skip

    euro = draft(one, tenant, SECOND)
    assert act(one, euro, "finalize")["currency"] == "EUR"
    listed = one.admin.expect("GET", f"/admin/v1/invoices?tenant={tenant.id}")["data"]
    assert [(row["currency"], row["state"]) for row in listed if row["id"] != euro["id"]] == [("USD", "draft")]
    # What the draft in dollars was for is taken back before it is issued.
    correct(-2)
    assert [row["detail"] for row in run(two)["refused"] if row["tenant_id"] == tenant.id] == []
    assert [(row["start"], row["currency"]) for row in issued(installation, tenant)] == [(SECOND, "EUR"), (LAST, "EUR")]
    listed = one.admin.expect("GET", f"/admin/v1/invoices?tenant={tenant.id}")["data"]
    assert [row["state"] for row in listed if row["currency"] == "USD"] == []
    assert_problem(two.admin.call("POST", "/admin/v1/invoices", {"tenant": tenant.id, "month": f"{SECOND:%Y-%m}"}), 409, "conflict")


def test_late_usage_is_charged_in_its_own_currency(gateways: list[Gateway]) -> None:
    one, two = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation, SECOND)
    used = use(installation, tenant, SECOND + DAY, 2)
    act(one, draft(two, tenant, SECOND), "finalize")
    change_currency(installation, tenant, LAST)
    # One more of the dollar's time becomes known, and a correction takes another back in the month of the euro.
    with installation.database() as database:
        database.execute(
            """INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT %s, request_id, tenant_id, key_id, 'correction', model, tier_version_id, 4, 0, 0, 0, token_source, %s
            FROM ledger WHERE entry_id = %s""", (entry_id(LAST + DAY), LAST + DAY, used[0].removeprefix("req_")))  # fmt: skip
    run(one)
    found = [(row["start"], row["currency"], row["total"]) for row in issued(installation, tenant)]
    assert found == [(SECOND, "USD", BASE_FEE + cost(2)), (LAST, "EUR", BASE_FEE), (LAST, "USD", 40_000)]
    assert unbilled(installation, tenant) == []


def test_quantities_that_were_corrected_to_nothing_name_no_currency(gateways: list[Gateway]) -> None:
    one, _ = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation, SECOND)
    used = use(installation, tenant, LAST + DAY, 1, tokens=(0, 0))
    with installation.database() as database:
        database.execute(
            """INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT %s, request_id, tenant_id, key_id, 'correction', model, tier_version_id, -1, 0, 0, 0, token_source, %s
            FROM ledger WHERE entry_id = %s""", (entry_id(LAST + DAY), LAST + DAY, used[0].removeprefix("req_")))  # fmt: skip
    change_currency(installation, tenant, LAST)
    made = draft(one, tenant, LAST)
    assert made["currency"] == "EUR" and made["total_micros"] == BASE_FEE
    listed = one.admin.expect("GET", f"/admin/v1/invoices?tenant={tenant.id}")["data"]
    assert [row["currency"] for row in listed] == ["EUR"]


def test_a_void_invoice_is_issued_anew_or_left_alone(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, LAST)
    used = use(one.installation, tenant, LAST + DAY, 3)
    run(one)
    first = issued(one.installation, tenant)[0]
    path = f"/admin/v1/invoices/{first['id']}/void"
    for body in ({}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "x", "reissue": 1}):
        assert_problem(two.admin.call("POST", path, body), 422, "validation_failed")
    gone = void(two, first["id"])
    assert (gone["state"], gone["void_reason"], gone["reissue"]) == ("void", "A mistake", True)
    assert run(one)["finalised"] == 1
    second = issued(one.installation, tenant)[0]
    # The lines of the second lead to the requests of the first.
    lines = one.admin.expect("GET", f"/admin/v1/invoices/{second['id']}")["lines"]
    number = next(line["line"] for line in lines if line["meter"] == "request")
    for invoice in (first, second):
        rows = get(two.public_url, f"/api/v1/invoices/{invoice['id']}/lines/{number}/requests", tenant.key).json()["data"]
        assert sorted(row["request_id"] for row in rows) == sorted(used)
    assert void(one, second["id"], reissue=False)["reissue"] is False
    assert run(two)["finalised"] == 0 and issued(one.installation, tenant) == []
    # Who asks for the month gets it.
    assert act(two, draft(one, tenant, LAST), "finalize")["total_micros"] == BASE_FEE + cost(3)


def test_lines_after_a_voiding_list_what_they_charge_and_late_usage_stays_where_it_is(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, SECOND)
    early = use(one.installation, tenant, SECOND + DAY, 3)
    first = act(one, draft(one, tenant, SECOND), "finalize")
    late = use(one.installation, tenant, SECOND + DAY, 2)
    second = act(two, draft(two, tenant, LAST), "finalize")
    void(one, first["id"])
    later = use(one.installation, tenant, SECOND + 2 * DAY, 1)
    again = act(two, draft(one, tenant, SECOND), "finalize")

    def listed(invoice: dict[str, Any], kind: str) -> list[str]:
        line = next(line for line in invoice["lines"] if line["meter"] == "request" and line["kind"] == kind)
        path = f"/api/v1/invoices/{invoice['id']}/lines/{line['line']}/requests"
        return sorted(row["request_id"] for row in get(two.public_url, path, tenant.key).json()["data"])

    assert listed(second, "late_usage") == sorted(late)
    assert listed(again, "usage") == sorted(early + later)


def test_a_job_that_waited_is_behind_its_line(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, LAST)
    used = use(one.installation, tenant, LAST + 2 * DAY, 1)
    # Its key is as old as its submission, twelve days before it ran in this month.
    waited = entry_id(LAST - 10 * DAY)
    with one.installation.database() as database:
        for table, key in (("requests", "request_id"), ("ledger", "entry_id")):
            columns = [row[0] for row in database.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND is_generated = 'NEVER'", (table,)
            ).fetchall() if row[0] not in ("tx", "posted_at")]  # fmt: skip
            values = [f"'{waited}'" if column in (key, "request_id") else column for column in columns]
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table} WHERE {key} = %s",  # noqa: S608
                (used[0].removeprefix("req_"),))  # fmt: skip
    made = act(one, draft(two, tenant, LAST), "finalize")
    line = next(line for line in made["lines"] if line["meter"] == "request")
    assert line["quantity"] == "2"
    path = f"/api/v1/invoices/{made['id']}/lines/{line['line']}/requests"
    rows = get(two.public_url, path, tenant.key).json()["data"]
    assert [row["request_id"] for row in rows] == [f"req_{waited}", used[0]]
    page = get(one.public_url, f"{path}?limit=1&after={rows[0]['id']}", tenant.key).json()
    assert [row["id"] for row in page["data"]] == [rows[1]["id"]] and page["has_more"] is False


def test_nothing_is_issued_before_its_time(gateways: list[Gateway]) -> None:
    installation = gateways[0].installation
    tenant = make_priced_tenant(installation, LAST_END)
    use(installation, tenant, datetime.now(timezone.utc) - timedelta(seconds=1), 1)
    run(gateways[0])
    assert issued(installation, tenant) == []


def test_the_replay_reproduces_invoices_of_moved_zones_and_of_two_currencies(gateways: list[Gateway]) -> None:
    one, two = gateways
    installation = one.installation
    moved = make_priced_tenant(installation, FIRST)
    for zone, month in (("America/New_York", FIRST), ("Europe/Berlin", SECOND)):
        one.admin.expect("PATCH", f"/admin/v1/tenants/{moved.id}", {"time_zone": zone})
        act(one, draft(two, moved, month), "finalize")
    # Late usage of the month that the move made shorter, at both ends of it.
    shorter = issued(installation, moved)[1]
    for instant in (shorter["start"], shorter["end"] - timedelta(seconds=1)):
        use(installation, moved, instant, 2)
    # A tier in another currency becomes known when the month has its invoice: with usage, and with nothing but its fee.
    used, unused = make_priced_tenant(installation, SECOND), make_priced_tenant(installation, SECOND)
    middle = SECOND + 10 * DAY
    for tenant in (used, unused):
        with installation.database() as database:
            database.execute("UPDATE subscriptions SET ends_at = %s WHERE tenant_id = %s", (middle, tenant.id))
        use(installation, tenant, SECOND + DAY, 1)
        act(two, draft(one, tenant, SECOND), "finalize")
        change_currency(installation, tenant, middle)
    use(installation, used, middle + DAY, 3)
    run(two)
    for tenant in (moved, used, unused):
        found = issued(installation, tenant)
        last = one.admin.expect("GET", f"/admin/v1/invoices/{found[-1]['id']}")
        assert {line["kind"] for line in last["lines"]} == {"late_usage", "base_fee"}
        replayed = two.admin.expect("GET", f"/admin/v1/tiers/replay?tenant={tenant.id}")
        assert replayed["differences"] == [] and replayed["equal"] == replayed["invoices"] == len(found)
    # So is whatever the tests before this one have issued.
    with installation.database() as database:
        standing = database.execute(
            "SELECT count(*) FROM invoices WHERE kind = 'invoice' AND state IN ('finalised', 'paid')"
        ).fetchone()[0]
    replayed = one.admin.expect("GET", "/admin/v1/tiers/replay")
    assert replayed["differences"] == [] and replayed["equal"] == replayed["invoices"] == standing
