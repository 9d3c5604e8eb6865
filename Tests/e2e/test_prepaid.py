"""Prepaid balances."""

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from api import assert_problem, assert_served, get, predict
from bills import BASE_FEE, act, cost, draft, last_month, make_priced_tenant, month_before, use
from deadline import wait_until
from installation import Gateway, Installation
from jobs import finished, job, submit
from tenancy import Tenant, make_tenant, unique
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def eventually(gateway: Gateway, tenant: Tenant, status: int) -> Answer:
    deadline = time.monotonic() + 30
    while (answer := predict(gateway.public_url, tenant.key)).status != status:
        assert time.monotonic() < deadline, (answer.status, answer.body)
        time.sleep(0.2)
    return answer


def top_up(gateway: Gateway, tenant: Tenant, amount: int, **more: str) -> None:
    gateway.admin.expect(
        "POST", "/admin/v1/credits",
        {"tenant": tenant.id, "kind": "prepaid", "currency": "USD", "amount_micros": amount, "reason": "Top-up", **more}, (201,),
    )  # fmt: skip


def pay_ahead(gateway: Gateway, tenant: Tenant) -> None:
    gateway.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/prepaid", {"prepaid": True})


def balance(gateway: Gateway, tenant: Tenant) -> dict[str, Any] | None:
    return get(gateway.public_url, "/api/v1/credits", tenant.key).json()["balance"]


def comes_to(gateway: Gateway, tenant: Tenant, amount: int) -> None:
    wait_until(lambda: (balance(gateway, tenant) or {}).get("balance_micros") == amount, f"it comes to {amount}", 15)


def actions(installation: Installation, tenant: Tenant) -> list[str]:
    with installation.database() as database:
        rows = database.execute(
            "SELECT action FROM audit_log WHERE tenant_id = %s AND actor = 'system' ORDER BY audit_id", (tenant.id,)
        )
        return [action for (action,) in rows.fetchall()]


def test_a_balance_that_is_used_up_refuses_until_a_top_up(gateways: list[Gateway]) -> None:
    one, two = gateways
    # From this month on: its base fee is the first that the balance pays.
    tenant = make_priced_tenant(one.installation, MONTH_END)
    top_up(one, tenant, BASE_FEE + 50_000)
    pay_ahead(one, tenant)
    assert_served(predict(two.public_url, tenant.key))
    # Six requests at a cent are more than is left.
    for _ in range(6):
        answer = predict(one.public_url, tenant.key)
        if answer.status == 402:
            break
    refused = eventually(two, tenant, 402)
    problem = assert_problem(refused, 402, "balance_exhausted")
    found = balance(one, tenant)
    assert found is not None and found["balance_micros"] <= 0
    told = re.search(r"it came to (\S+) micros of USD at (\S+Z)\.", problem["detail"])
    assert told and found["balance_micros"] <= int(told[1]) <= 0 and told[2] <= found["looked_at"]
    assert refused.header("x-should-retry") == "false"
    eventually(one, tenant, 402)
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    body = b'{"model": "iris", "messages": []}'
    foreign = send_once(one.public_url, "POST", "/v1/chat/completions", headers, body)
    assert foreign.header("x-should-retry") == "false"
    assert foreign.status == 429 and foreign.json()["error"]["code"] == "billing_hard_limit_reached"
    infer = send_once(one.public_url, "POST", "/v2/models/iris/infer", headers, b'{"inputs": []}')
    assert infer.status == 402 and set(infer.json()) == {"error"}
    # Reads go on.
    assert get(two.public_url, "/api/v1/credits", tenant.key).status == 200
    begin = time.monotonic()
    top_up(two, tenant, 1_000_000)
    assert_served(eventually(one, tenant, 200))
    assert time.monotonic() - begin < 15
    eventually(two, tenant, 200)
    wait_until(
        lambda: actions(one.installation, tenant) == ["tenant.exhaust", "tenant.replenish"], "the audit log has both", 5
    )


def test_a_balance_counts_every_month_without_an_invoice_and_credits_of_the_past(gateways: list[Gateway]) -> None:
    one, two = gateways
    earlier = month_before(MONTH)
    # Three months without an invoice, all paid by one credit.
    long = make_priced_tenant(one.installation, earlier)
    use(one.installation, long, MONTH + timedelta(days=3), 2)
    top_up(one, long, 3 * BASE_FEE + 50_000, effective_at=earlier.isoformat())
    # Last month was paid by a credit that has ended since; what it left is gone.
    ended = make_priced_tenant(one.installation)
    use(one.installation, ended, MONTH + timedelta(days=3), 2)
    top_up(one, ended, 9 * BASE_FEE, effective_at=MONTH.isoformat(), expires_at=MONTH_END.isoformat())
    top_up(one, ended, BASE_FEE + 50_000, effective_at=MONTH_END.isoformat())
    # It paid a part, and nothing paid the rest.
    short = make_priced_tenant(one.installation)
    top_up(one, short, BASE_FEE - 1_000, effective_at=MONTH.isoformat(), expires_at=MONTH_END.isoformat())
    top_up(one, short, BASE_FEE + 50_000, effective_at=MONTH_END.isoformat())
    for tenant in (long, ended, short):
        pay_ahead(one, tenant)
    comes_to(two, long, 50_000 - cost(2))
    comes_to(two, ended, 50_000)
    comes_to(two, short, 49_000)


def test_late_usage_and_corrections_of_invoiced_months_count(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 2)[0]
    act(one, draft(one, tenant, MONTH), "finalize")
    top_up(one, tenant, BASE_FEE + 50_000, effective_at=MONTH_END.isoformat())
    pay_ahead(one, tenant)
    comes_to(two, tenant, 50_000)
    body = {"request_id": request, "requests": -1, "input_tokens": -100, "output_tokens": -10, "reason": "It was ours"}
    two.admin.expect("POST", "/admin/v1/adjustments", body, (201,))
    comes_to(one, tenant, 50_000 + cost(1))
    assert_served(predict(two.public_url, tenant.key))
    # It is not forgotten by the next look.
    wait_until(lambda: (balance(one, tenant) or {})["balance_micros"] != 50_000 + cost(1), "the next look", 15)
    assert (balance(one, tenant) or {})["balance_micros"] > 50_000


def test_a_month_that_is_left_alone_is_not_owed(gateways: list[Gateway]) -> None:
    one, two = gateways
    # What this month costs is owed in any case.
    paid = BASE_FEE + cost(2)
    for reissue, left in ((False, 50_000 + paid), (True, 50_000)):
        tenant = make_priced_tenant(one.installation)
        use(one.installation, tenant, MONTH + timedelta(days=3), 2)
        top_up(one, tenant, paid + BASE_FEE + 50_000, effective_at=MONTH.isoformat())
        invoice = act(one, draft(one, tenant, MONTH), "finalize")
        assert invoice["credits_micros"] == paid
        pay_ahead(one, tenant)
        comes_to(two, tenant, 50_000)
        act(two, invoice, "void", {"reason": "It was ours", "reissue": reissue})
        if reissue:
            # Nothing changes, so wait for a look of after the voiding.
            top_up(one, tenant, 1)
            left += 1
        comes_to(one, tenant, left)


def test_what_lies_before_the_first_invoice_is_not_owed(gateways: list[Gateway]) -> None:
    one, two = gateways
    earlier = month_before(MONTH)
    tenant = make_priced_tenant(one.installation, earlier)
    use(one.installation, tenant, earlier + timedelta(days=3), 2)
    top_up(one, tenant, 3 * BASE_FEE + cost(2) + 50_000, effective_at=earlier.isoformat())
    pay_ahead(one, tenant)
    comes_to(one, tenant, 50_000)
    act(one, draft(one, tenant, MONTH), "finalize")
    comes_to(two, tenant, BASE_FEE + cost(2) + 50_000)


def test_late_usage_on_a_later_invoice_is_not_owed_again(gateways: list[Gateway]) -> None:
    one, two = gateways
    earlier = month_before(MONTH)
    tenant = make_priced_tenant(one.installation, earlier)
    top_up(one, tenant, 3 * BASE_FEE + cost(3) + 50_000, effective_at=earlier.isoformat())
    use(one.installation, tenant, earlier + timedelta(days=3), 2)
    first = act(one, draft(one, tenant, earlier), "finalize")
    use(one.installation, tenant, earlier + timedelta(days=4), 1)
    second = act(one, draft(one, tenant, MONTH), "finalize")
    assert second["subtotal_micros"] == BASE_FEE + cost(1)
    act(one, first, "void", {"reason": "It was ours"})
    pay_ahead(one, tenant)
    comes_to(two, tenant, 50_000)
    # The invoice that comes in its place says the same.
    assert draft(one, tenant, earlier)["subtotal_micros"] == BASE_FEE + cost(2)


def test_one_that_cannot_be_rated_does_not_keep_the_others_from_their_look(gateways: list[Gateway]) -> None:
    one, two = gateways
    code = unique("unratable")
    one.admin.expect(
        "POST", "/admin/v1/tiers",
        {"code": code, "name": code, "version": {
            "currency": "USD", "quotas": [],
            "prices": [{"meter": "input_token", "model": "*", "unit_price": "9000000"}]}}, (201,))  # fmt: skip
    bad = make_tenant(one.installation, code)
    with one.installation.database() as database:
        database.execute("UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (MONTH_END, bad.id))
    good = make_priced_tenant(one.installation, MONTH_END)
    assert bad.id < good.id, "looks are in the order of tenants"
    # The most that one entry can have, at the highest price: micros of that need more than 64 bits.
    use(one.installation, bad, datetime.now(timezone.utc), tokens=(10**12, 0))
    assert_served(predict(one.public_url, bad.key))
    pay_ahead(one, bad)
    pay_ahead(one, good)
    assert_problem(eventually(two, good, 402), 402, "balance_exhausted")
    assert balance(one, bad) is None
    assert_served(predict(one.public_url, bad.key))
    failures = get(one.admin_url, "/metrics", one.installation.admin_key).body.decode()
    assert 'weir_prepaid_look_failures_total{cause="refused"}' in failures
    one.admin.expect("PUT", f"/admin/v1/tenants/{bad.id}/prepaid", {"prepaid": False})


def test_looks_that_change_nothing_wake_no_gateway(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, MONTH_END)
    top_up(one, tenant, 9 * BASE_FEE)
    pay_ahead(one, tenant)
    comes_to(one, tenant, 8 * BASE_FEE)

    def generation() -> int:
        with one.installation.database() as database:
            return database.execute("SELECT value FROM control_generation").fetchone()[0]

    before = generation()
    for number in range(1, 4):
        assert_served(predict(two.public_url, tenant.key))
        tokens = 8 * BASE_FEE - number * 10_000
        wait_until(lambda: (balance(one, tenant) or {})["balance_micros"] <= tokens, "it was looked at", 15)
    assert generation() == before

    # Without use it is not looked at, by none of the processes that look every two seconds.
    def age() -> float:
        looked = datetime.fromisoformat((balance(one, tenant) or {})["looked_at"])
        return (datetime.now(timezone.utc) - looked).total_seconds()

    wait_until(lambda: age() > 5, "the looks pass it over", 30)


def test_jobs_wait_for_a_top_up_and_for_an_account_that_is_suspended(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation, MONTH_END)
    top_up(one, tenant, BASE_FEE + 50_000)
    due = (datetime.now(timezone.utc) + timedelta(seconds=20)).isoformat()
    accepted = submit(one.public_url, tenant.key, headers={"x-weir-run-at": due})
    assert accepted.status == 202, (accepted.status, accepted.body)
    job_id = accepted.json()["request_id"]
    with one.installation.database() as database:
        database.execute("UPDATE credit_grants SET revoked_at = effective_at WHERE tenant_id = %s", (tenant.id,))
        pay_ahead(one, tenant)
        eventually(two, tenant, 402)

        def attempts() -> bool:
            row = database.execute("SELECT state, error_code FROM jobs WHERE job_id = %s", (job_id[4:],)).fetchone()
            return row[1] == "balance_exhausted"

        wait_until(attempts, "the job was tried", 60)
        # It is tried again and again; in between it waits.
        wait_until(lambda: job(one.public_url, tenant.key, job_id).json()["status"] == "queued", "the job waits", 30)
    # More than what was served before all gateways knew.
    top_up(two, tenant, 9 * BASE_FEE)
    assert finished(one.public_url, tenant.key, job_id, 90)["status"] == "completed"
