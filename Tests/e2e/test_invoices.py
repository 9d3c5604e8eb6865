"""Invoices from two gateways: what they charge is what the ledger says, once, and numbers have no gap whatever happens."""

import csv
import io
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from api import assert_problem, get
from bills import BASE_FEE, act, cost, draft, last_month, make_priced_tenant, month_before, unbilled, use
from installation import Gateway, Installation
from tenancy import make_key, make_tenant

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def numbers(installation: Installation) -> list[int]:
    with installation.database() as database:
        return [row[0] for row in database.execute(
            "SELECT number FROM invoices WHERE number IS NOT NULL ORDER BY number").fetchall()]  # fmt: skip


def assert_gapless(installation: Installation) -> None:
    given = numbers(installation)
    assert given == list(range(1, len(given) + 1))
    with installation.database() as database:
        assert database.execute("SELECT last_number FROM invoice_issuers").fetchall() == [(len(given),)]


def test_an_invoice_from_draft_to_payment(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    use(one.installation, tenant, MONTH + timedelta(days=3), 7)
    first = draft(one, tenant)
    assert first["state"] == "draft" and first["number"] is None
    assert first["total_micros"] == BASE_FEE + cost(7) == sum(line["amount_micros"] for line in first["lines"])
    # A customer sees no draft.
    assert_problem(get(two.public_url, f"/api/v1/invoices/{first['id']}", tenant.key), 404, "not_found")
    # What is used meanwhile is in the next draft, which is the same invoice, and in what is issued.
    use(one.installation, tenant, MONTH + timedelta(days=4), 2)
    assert draft(two, tenant)["id"] == first["id"]
    use(one.installation, tenant, MONTH_END - timedelta(microseconds=1), 1)
    use(one.installation, tenant, MONTH_END, 5)
    issued = act(two, first, "finalize")
    assert issued["state"] == "finalised" and issued["number"].startswith("INV-")
    assert issued["total_micros"] == BASE_FEE + cost(10)
    assert unbilled(one.installation, tenant, MONTH) == []
    for what in ("finalize",):
        answer = one.admin.call("POST", f"/admin/v1/invoices/{first['id']}/{what}")
        assert_problem(answer, 409, "conflict")
    answer = one.admin.call("POST", "/admin/v1/invoices", {"tenant": tenant.id})
    assert_problem(answer, 409, "conflict")
    assert act(one, first, "pay")["state"] == "paid"
    for what, body in (("pay", None), ("void", {"reason": "No"}), ("finalize", None)):
        assert_problem(two.admin.call("POST", f"/admin/v1/invoices/{first['id']}/{what}", body), 409, "conflict")
    assert_gapless(one.installation)


def test_what_is_issued_cannot_change_and_is_its_tenants_alone(gateways: list[Gateway]) -> None:
    installation = gateways[0].installation
    tenant, other = make_priced_tenant(installation), make_priced_tenant(installation)
    use(installation, tenant, MONTH, 2)
    issued = act(gateways[0], draft(gateways[1], tenant), "finalize")
    id = issued["id"].removeprefix("inv_")
    with installation.database() as database:
        for statement in (
            "UPDATE invoices SET note = 'x' WHERE invoice_id = %s", "DELETE FROM invoices WHERE invoice_id = %s",
            "UPDATE invoice_lines SET amount_micros = 0 WHERE invoice_id = %s",
            "DELETE FROM invoice_usage WHERE invoice_id = %s",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.CheckViolation):
                database.execute(statement, (id,))
        database.execute("SET ROLE weir_reader")
        for one, count in ((tenant, 1), (other, 0)):
            database.execute("SELECT set_config('weir.tenant_id', %s, false)", (one.id,))
            for table in ("invoices", "invoice_lines", "invoice_usage"):
                found = database.execute(f"SELECT count(*) > 0 FROM {table} WHERE invoice_id = %s", (id,)).fetchone()
                assert found == (bool(count),), table


def test_what_cannot_be_invoiced_is_refused(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    current = draft(one, tenant, datetime.now(timezone.utc))
    assert_problem(two.admin.call("POST", f"/admin/v1/invoices/{current['id']}/finalize"), 409, "conflict")
    # Neither a subscription nor usage then.
    nothing = one.admin.call("POST", "/admin/v1/invoices", {"tenant": tenant.id, "month": "2020-02"})
    assert_problem(nothing, 409, "conflict")
    for body in ({"tenant": tenant.id, "month": "2026-13"}, {"tenant": "x"}, {}):
        assert_problem(one.admin.call("POST", "/admin/v1/invoices", body), 422, "validation_failed")
    for path in (f"inv_{tenant.id}", "nonsense"):
        assert_problem(one.admin.call("GET", f"/admin/v1/invoices/{path}"), 404, "not_found")


def test_a_grace_keeps_the_period_open(gateways: list[Gateway]) -> None:
    installation = gateways[0].installation
    tenant = make_priced_tenant(installation)
    use(installation, tenant, MONTH, 1)
    patient = installation.gateway("patient", {"WEIR_INVOICE_GRACE": "2592000"}).start()
    try:
        made = draft(patient, tenant)
        answer = patient.admin.call("POST", f"/admin/v1/invoices/{made['id']}/finalize")
        # On the last day of a long month even the longest grace is over.
        if datetime.now(timezone.utc) < MONTH_END + timedelta(days=30):
            assert_problem(answer, 409, "conflict")
        else:
            assert answer.status == 200
            return
    finally:
        patient.stop()
    assert act(gateways[0], made, "finalize")["state"] == "finalised"


def test_late_usage_is_on_the_next_invoice_and_nothing_is_charged_twice(gateways: list[Gateway]) -> None:
    one, two = gateways
    before = month_before(MONTH)
    tenant = make_priced_tenant(one.installation, before)
    use(one.installation, tenant, before + timedelta(days=2), 3)
    first = act(one, draft(one, tenant, before), "finalize")
    assert first["total_micros"] == BASE_FEE + cost(3)
    late = use(one.installation, tenant, before + timedelta(days=2), 4)
    assert unbilled(one.installation, tenant, before) != []
    use(one.installation, tenant, MONTH + timedelta(days=1), 2)
    second = act(two, draft(two, tenant, MONTH), "finalize")
    lines = [line for line in second["lines"] if line["kind"] == "late_usage"]
    assert sum(line["amount_micros"] for line in lines) == cost(7) - cost(3)
    assert second["total_micros"] == BASE_FEE + cost(2) + cost(7) - cost(3)
    assert unbilled(one.installation, tenant, before) == unbilled(one.installation, tenant, MONTH) == []
    requests = next(line for line in lines if line["meter"] == "request")
    found = get(two.public_url, f"/api/v1/invoices/{second['id']}/lines/{requests['line']}/requests", tenant.key).json()
    assert sorted(row["request_id"] for row in found["data"]) == sorted(late)
    # Void the first: what it charged is charged anew, without what the second has.
    act(one, first, "void", {"reason": "Wrong"})
    again = act(two, draft(one, tenant, before), "finalize")
    assert again["total_micros"] == first["total_micros"]
    assert unbilled(one.installation, tenant, before) == []
    assert_gapless(one.installation)


def test_credit_notes_take_back_no_more_than_is_left(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    issued = act(one, draft(one, tenant), "finalize")
    act(two, issued, "pay")
    path = f"/admin/v1/invoices/{issued['id']}/credit"
    note = one.admin.expect("POST", path, {"amount_micros": 2_000_000, "reason": "An outage"}, (201,))
    assert note["kind"] == "credit_note" and note["corrects"] == issued["id"] and note["total_micros"] == 2_000_000
    answer = two.admin.call("POST", path, {"amount_micros": 1_000_001, "reason": "Too much"})
    assert_problem(answer, 422, "validation_failed")
    two.admin.expect("POST", path, {"amount_micros": 1_000_000, "reason": "The rest", "as": "money"}, (201,))
    assert_problem(two.admin.call("POST", f"/admin/v1/invoices/{issued['id']}/void", {"reason": "No"}), 409, "conflict")
    credits = get(one.public_url, "/api/v1/credits", tenant.key).json()["data"]
    assert [(row["kind"], row["remaining_micros"]) for row in credits] == [("refund", 2_000_000)]
    assert get(one.public_url, f"/api/v1/invoices/{issued['id']}", tenant.key).json()["credited_micros"] == 3_000_000
    assert_gapless(one.installation)


def test_credits_pay_once_for_what_was_used_while_they_were_valid(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    use(one.installation, tenant, MONTH + timedelta(days=5), 100)
    use(one.installation, tenant, MONTH + timedelta(days=20), 100)
    cut = MONTH + timedelta(days=10)
    grants = [
        {"amount_micros": 50_000_000, "effective_at": f"{MONTH:%FT%TZ}", "expires_at": f"{cut:%FT%TZ}", "reason": "Early"},
        {"amount_micros": 200_000, "effective_at": f"{cut:%FT%TZ}", "priority": 1, "reason": "Late"},
    ]
    for grant in grants:
        one.admin.expect("POST", "/admin/v1/credits", {"tenant": tenant.id, "currency": "USD", **grant}, (201,))
    issued = act(two, draft(one, tenant), "finalize")
    paid = {credit["reason"]: credit["amount_micros"] for credit in issued["credits"]}
    assert paid == {"Early": BASE_FEE + cost(100), "Late": 200_000}
    assert issued["total_micros"] == issued["subtotal_micros"] - sum(paid.values())
    left = {row["reason"]: row["remaining_micros"] for row in get(two.public_url, "/api/v1/credits", tenant.key).json()["data"]}
    assert left == {"Early": 50_000_000 - paid["Early"], "Late": 0}
    act(one, issued, "void", {"reason": "Wrong"})
    left = one.admin.expect("GET", f"/admin/v1/credits?tenant={tenant.id}")["data"]
    assert sum(row["remaining_micros"] for row in left) == 50_200_000


def test_a_line_leads_to_its_requests_and_nobody_elses(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant, other = make_priced_tenant(one.installation), make_tenant(one.installation)
    used = {
        model: use(one.installation, tenant, MONTH + timedelta(days=day), count, model, tokens)
        for day, (model, count, tokens) in enumerate([("iris", 250, (7, 3)), ("other", 3, (11, 0))])
    }
    use(one.installation, tenant, MONTH_END, 4)
    issued = act(one, draft(one, tenant), "finalize")
    use(one.installation, tenant, MONTH + timedelta(days=2), 9)
    seen = 0
    for line in issued["lines"]:
        if line["meter"] is None:
            continue
        rows, query = [], ""
        while True:
            path = f"/api/v1/invoices/{issued['id']}/lines/{line['line']}/requests?limit=100{query}"
            page = get(gateways[seen % 2].public_url, path, tenant.key).json()
            rows += page["data"]
            if not page["has_more"]:
                break
            query = f"&after={page['last_id']}"
        assert sum(row["quantity"] for row in rows) == int(line["quantity"]), line
        assert {row["request_id"] for row in rows} == set(used[line["model"]]) and len(rows) == len(used[line["model"]])
        seen += 1
    assert seen == 5, "other has no output tokens"
    for path in (issued["id"], f"{issued['id']}.html", f"{issued['id']}.csv", f"{issued['id']}.pdf", f"{issued['id']}/lines/2/requests"):
        assert_problem(get(two.public_url, f"/api/v1/invoices/{path}", other.key), 404, "not_found")
    assert_problem(get(two.public_url, f"/api/v1/invoices/{issued['id']}/lines/99/requests", tenant.key), 404, "not_found")
    assert get(two.public_url, "/api/v1/invoices", other.key).json()["data"] == []
    listed = get(two.public_url, "/api/v1/invoices", tenant.key).json()["data"]
    assert [row["id"] for row in listed] == [issued["id"]]
    poor = make_key(one.admin, tenant.id, scopes=["predict"])
    assert_problem(get(one.public_url, "/api/v1/invoices", poor.key), 403, "insufficient_scope")


def test_an_invoice_as_a_page_a_table_and_a_pdf(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    name = "<script>alert(1)</script> & Söhne"
    one.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"name": name})
    use(one.installation, tenant, MONTH, 5)
    issued = act(one, draft(one, tenant), "finalize")
    page = get(two.public_url, f"/api/v1/invoices/{issued['id']}.html", tenant.key)
    text = page.body.decode()
    assert page.status == 200 and "<script" not in text and "&lt;script&gt;" in text and "Söhne" in text
    assert issued["number"] in text and "default-src 'none'" in (page.header("content-security-policy") or "")
    assert "http" not in text.replace("https", "http").split("<body>")[0].split("<style>")[0]
    table = get(two.public_url, f"/api/v1/invoices/{issued['id']}.csv", tenant.key)
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    assert sum(int(row["amount_micros"]) for row in rows) == issued["total_micros"]
    assert one.admin.call("GET", f"/admin/v1/invoices/{issued['id']}.html").body == page.body
    assert shutil.which("weasyprint"), "scripts/install-packages installs it"
    pdf = get(one.public_url, f"/api/v1/invoices/{issued['id']}.pdf", tenant.key, timeout=60)
    assert pdf.status == 200 and pdf.body.startswith(b"%PDF-") and pdf.header("content-type") == "application/pdf"
    without = one.installation.gateway("without", {"WEIR_PDF_COMMAND": "/nonexistent/weasyprint"}).start()
    try:
        answer = get(without.public_url, f"/api/v1/invoices/{issued['id']}.pdf", tenant.key)
        assert_problem(answer, 503, "pdf_unavailable")
    finally:
        without.stop()


def test_numbers_have_no_gap_under_twenty_at_once(gateways: list[Gateway]) -> None:
    tenants = [make_priced_tenant(gateways[0].installation) for _ in range(20)]
    drafts = [draft(gateways[n % 2], tenant) for n, tenant in enumerate(tenants)]
    with ThreadPoolExecutor(40) as pool:
        # Each of them by both gateways: one wins.
        answers = list(pool.map(
            lambda n: gateways[n % 2].admin.call("POST", f"/admin/v1/invoices/{drafts[n // 2]['id']}/finalize").status,
            range(40)))  # fmt: skip
    assert sorted(answers) == [200] * 20 + [409] * 20
    assert_gapless(gateways[0].installation)


def test_a_run_that_is_killed_leaves_neither_a_gap_nor_a_second_invoice(gateways: list[Gateway]) -> None:
    installation = gateways[0].installation
    tenants = [make_priced_tenant(installation) for _ in range(12)]
    for tenant in tenants:
        use(installation, tenant, MONTH + timedelta(days=9), 3)
    victim = installation.gateway("victim").start()
    assert victim.process
    with ThreadPoolExecutor(2) as pool:
        pool.submit(lambda: victim.admin.call("POST", "/admin/v1/invoices/run"))
        count = len(numbers(installation))
        deadline = time.monotonic() + 30
        while len(numbers(installation)) == count and time.monotonic() < deadline:
            pass
        victim.process.send(signal.SIGKILL)
    assert count < len(numbers(installation))
    assert_gapless(installation)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda one: one.admin.expect("POST", "/admin/v1/invoices/run"), gateways))
    assert all(run["refused"] == [] for run in runs), runs
    assert_gapless(installation)
    with installation.database() as database:
        found = database.execute(
            "SELECT tenant_id::text, total_micros FROM invoices WHERE state = 'finalised' AND period_start = %s AND tenant_id = ANY(%s::uuid[])",
            (MONTH, [tenant.id for tenant in tenants])).fetchall()  # fmt: skip
    assert sorted(found) == sorted((tenant.id, BASE_FEE + cost(3)) for tenant in tenants)
    again = gateways[0].admin.expect("POST", "/admin/v1/invoices/run")
    assert again["finalised"] == 0
