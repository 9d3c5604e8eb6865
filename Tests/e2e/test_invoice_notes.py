"""What becomes of an invoice after it was issued: notes, what they give back, what the audit log says of it, and who may read that."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api import assert_problem, get
from bills import BASE_FEE, act, cost, draft, last_month, make_priced_tenant, use
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, make_key

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def note(gateway: Gateway, invoice: dict[str, Any], amount: int, form: str | None = None) -> dict[str, Any]:
    body = {"amount_micros": amount, "reason": "An outage", **({"as": form} if form else {})}
    return gateway.admin.expect("POST", f"/admin/v1/invoices/{invoice['id']}/credit", body, (201,))


def shown(gateway: Gateway, invoice: dict[str, Any], tenant: Tenant) -> dict[str, Any]:
    return get(gateway.public_url, f"/api/v1/invoices/{invoice['id']}", tenant.key).json()


def refunds(gateway: Gateway, tenant: Tenant) -> list[int]:
    rows = get(gateway.public_url, "/api/v1/credits", tenant.key).json()["data"]
    return sorted(row["remaining_micros"] for row in rows if row["kind"] == "refund" and row["revoked_at"] is None)


def grant(gateway: Gateway, tenant: Tenant, amount: int) -> None:
    gateway.admin.expect("POST", "/admin/v1/credits", {
        "tenant": tenant.id, "currency": "USD", "amount_micros": amount, "effective_at": f"{MONTH:%FT%TZ}", "reason": "Welcome"},
        (201,))  # fmt: skip


def audit(gateway: Gateway, tenant: Tenant) -> list[dict[str, Any]]:
    """The oldest first."""
    return gateway.admin.expect("GET", f"/admin/v1/audit?tenant_id={tenant.id}&limit=100")["data"][::-1]


@pytest.mark.parametrize("form", [None, "credit", "money"])
def test_a_note_on_an_invoice_that_is_not_paid_lowers_what_is_owed_and_gives_nothing(
    gateways: list[Gateway], form: str | None
) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    issued = act(one, draft(one, tenant), "finalize")
    assert issued["owed_micros"] == BASE_FEE and issued["form"] is None
    made = note(two, issued, 1_200_000, form)
    assert (made["form"], made["granted_micros"], made["corrects"]) == ("reduction", 0, issued["id"])
    now = shown(one, issued, tenant)
    assert (now["owed_micros"], now["credited_micros"], now["total_micros"]) == (1_800_000, 1_200_000, BASE_FEE)
    assert refunds(one, tenant) == []
    page = get(two.public_url, f"/api/v1/invoices/{issued['id']}.html", tenant.key).body.decode()
    assert "Left to pay" in page and ">1.80<" in page
    page = get(two.public_url, f"/api/v1/invoices/{made['id']}.html", tenant.key).body.decode()
    assert "Taken off the invoice" in page and "Given as a credit" not in page
    # What is left is paid; the rest can be given back then, as asked for.
    assert act(one, issued, "pay")["owed_micros"] == 0
    back = note(one, issued, 1_800_000, form)
    assert back["form"] == (form or "credit")
    assert refunds(two, tenant) == ([] if form == "money" else [1_800_000])
    answer = one.admin.call("POST", f"/admin/v1/invoices/{issued['id']}/credit", {"amount_micros": 1, "reason": "More"})
    assert_problem(answer, 422, "validation_failed")


def test_what_credits_paid_is_given_back_as_a_credit(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    grant(one, tenant, 1_000_000)
    issued = act(one, draft(one, tenant), "finalize")
    assert issued["total_micros"] == 2_000_000
    made = note(two, issued, 2_500_000)
    assert (made["form"], made["granted_micros"]) == ("reduction", 500_000)
    assert shown(one, issued, tenant)["owed_micros"] == 0 and refunds(one, tenant) == [500_000]
    assert note(one, issued, 500_000, "money")["granted_micros"] == 500_000
    assert refunds(two, tenant) == [500_000, 500_000]
    # Of a paid one, no more money comes back than was paid.
    tenant = make_priced_tenant(one.installation)
    grant(one, tenant, 1_000_000)
    issued = act(one, draft(one, tenant), "finalize")
    act(two, issued, "pay")
    made = note(one, issued, BASE_FEE, "money")
    assert (made["form"], made["granted_micros"]) == ("money", 1_000_000) and refunds(two, tenant) == [1_000_000]
    page = get(two.public_url, f"/api/v1/invoices/{made['id']}.html", tenant.key).body.decode()
    assert "Given back as money" in page and "Given as a credit" in page


def test_an_invoice_that_asks_for_nothing_is_paid_and_can_be_noted_or_voided(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    grant(one, tenant, 10 * BASE_FEE)
    first = act(one, draft(one, tenant), "finalize")
    assert (first["state"], first["total_micros"], first["paid_at"]) == ("paid", 0, first["paid_at"]) and first["paid_at"]
    gone = two.admin.expect("POST", f"/admin/v1/invoices/{first['id']}/void", {"reason": "Wrong address"})
    assert gone["state"] == "void" and gone["paid_at"] is None
    second = act(two, draft(one, tenant), "finalize")
    made = note(one, second, 1_000_000, "money")
    assert (made["form"], made["granted_micros"]) == ("money", 1_000_000) and refunds(two, tenant) == [1_000_000]
    answer = one.admin.call("POST", f"/admin/v1/invoices/{second['id']}/credit", {"amount_micros": 2_000_001, "reason": "More"})
    assert_problem(answer, 422, "validation_failed")


def test_the_audit_log_tells_of_grants_their_end_and_drafts_that_are_gone(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    issued = act(one, draft(one, tenant), "finalize")
    finalised = [row for row in audit(one, tenant) if row["action"] == "invoice.finalise"]
    assert [row["before"]["state"] for row in finalised] == ["draft"]
    act(two, issued, "pay")
    made = note(two, issued, 1_000_000, "credit")
    rows = audit(two, tenant)
    credited = next(row for row in rows if row["action"] == "invoice.credit")
    assert credited["after"]["form"] == "credit" and credited["after"]["granted_micros"] == 1_000_000
    assert credited["after"]["corrects"] == issued["id"]
    granted = next(row for row in rows if row["action"] == "credit.grant")
    assert granted["after"]["source_invoice_id"] == made["id"].removeprefix("inv_")
    assert granted["after"]["amount_micros"] == 1_000_000
    # A period below zero gives back; its voiding takes that away.
    other = make_priced_tenant(one.installation)
    used = use(one.installation, other, MONTH + (MONTH_END - MONTH) / 2, 1)
    with one.installation.database() as database:
        database.execute(
            """INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT gen_random_uuid(), request_id, tenant_id, key_id, 'correction', model, tier_version_id, -400, 0, 0, 0, token_source, occurred_at
            FROM ledger WHERE entry_id = %s""", (used[0].removeprefix("req_"),))  # fmt: skip
    below = act(one, draft(two, other), "finalize")
    assert below["state"] == "paid" and refunds(one, other) == [4_000_000 - BASE_FEE - cost(1)]
    two.admin.expect("POST", f"/admin/v1/invoices/{below['id']}/void", {"reason": "No", "reissue": False})
    rows = audit(one, other)
    assert [row["action"] for row in rows if row["subject_type"] == "credit_grant"] == ["credit.grant", "credit.revoke"]
    revoked = next(row for row in rows if row["action"] == "credit.revoke")
    assert revoked["before"]["revoked_at"] is None and revoked["after"]["revoked_at"]
    voided = next(row for row in rows if row["action"] == "invoice.void")
    assert voided["after"]["void_reason"] == "No" and voided["after"]["reissue"] is False


def test_a_customer_reads_nothing_of_drafts(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    made = draft(one, tenant)
    # A stay that begins after the month leaves nothing to invoice: the draft goes away.
    with one.installation.database() as database:
        database.execute("UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (MONTH_END, tenant.id))
    assert_problem(two.admin.call("POST", "/admin/v1/invoices", {"tenant": tenant.id, "month": f"{MONTH:%Y-%m}"}), 409, "conflict")
    actions = [row["action"] for row in audit(two, tenant) if row["subject_id"] == made["id"]]
    assert actions == ["invoice.draft", "invoice.remove_draft"]
    key = make_key(one.admin, tenant.id, scopes=["admin"]).key
    wait_until(lambda: get(two.public_url, "/api/v1/audit", key).status == 200 or None, "the key is known", 5)
    rows = get(two.public_url, "/api/v1/audit?limit=100", key).json()["data"]
    assert rows and not [row for row in rows if row["action"].startswith("invoice.")]


def test_the_program_that_makes_pdfs_gets_no_open_file_of_ours(gateways: list[Gateway], tmp_path: Path) -> None:
    one, _ = gateways
    tenant = make_priced_tenant(one.installation)
    issued = act(one, draft(one, tenant), "finalize")
    program = tmp_path / "printer"
    program.write_text("#!/bin/sh\nfor last; do :; done\n{ echo '%PDF-'; for f in /proc/$$/fd/*; do readlink \"$f\"; done; } > \"$last\"\nexit 0\n")
    os.chmod(program, 0o755)
    printing = one.installation.gateway("printing", {"WEIR_PDF_COMMAND": str(program)}).start()
    try:
        pdf = get(printing.public_url, f"/api/v1/invoices/{issued['id']}.pdf", tenant.key, timeout=60)
    finally:
        printing.stop()
    assert pdf.status == 200
    assert "socket:" not in pdf.body.decode() and "pipe:" not in pdf.body.decode(), pdf.body
