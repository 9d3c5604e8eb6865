"""Prepaid balances, and corrections of what was charged."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from api import assert_problem, assert_served, get, predict
from bills import BASE_FEE, act, draft, last_month, make_priced_tenant, unbilled, use
from installation import Gateway, Installation
from tenancy import Tenant
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


def top_up(gateway: Gateway, tenant: Tenant, amount: int) -> None:
    gateway.admin.expect(
        "POST", "/admin/v1/credits",
        {"tenant": tenant.id, "kind": "prepaid", "currency": "USD", "amount_micros": amount, "reason": "Top-up"}, (201,),
    )  # fmt: skip


def test_a_balance_that_is_used_up_refuses_until_a_top_up(gateways: list[Gateway]) -> None:
    one, two = gateways
    # From this month on: its base fee is the first that the balance pays.
    tenant = make_priced_tenant(one.installation, MONTH_END)
    top_up(one, tenant, BASE_FEE + 50_000)
    one.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/prepaid", {"prepaid": True})
    assert_served(predict(two.public_url, tenant.key))
    # Six requests at a cent are more than is left.
    for _ in range(6):
        answer = predict(one.public_url, tenant.key)
        if answer.status == 402:
            break
    assert_problem(eventually(two, tenant, 402), 402, "balance_exhausted")
    eventually(one, tenant, 402)
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    body = b'{"model": "iris", "messages": []}'
    foreign = send_once(one.public_url, "POST", "/v1/chat/completions", headers, body)
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


def test_a_correction_counts_when_it_is_posted_and_takes_no_more_than_was_charged(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    request = use(one.installation, tenant, MONTH + timedelta(days=3), 1)[0]
    act(one, draft(one, tenant), "finalize")
    body = {"request_id": request, "requests": -1, "input_tokens": -40, "reason": "It was ours"}
    made = two.admin.expect("POST", "/admin/v1/adjustments", body, (201,))
    assert made["tenant_id"] == tenant.id and made["requests"] == -1
    for more in ({"requests": -1}, {"input_tokens": -61}, {"cached_input_tokens": 61}, {"output_tokens": -11}, {}):
        answer = one.admin.call("POST", "/admin/v1/adjustments", {"request_id": request, "reason": "More", **more})
        assert_problem(answer, 422, "validation_failed")
    answer = one.admin.call(
        "POST", "/admin/v1/adjustments", {"request_id": f"req_{tenant.id}", "requests": -1, "reason": "Whose?"}
    )
    assert_problem(answer, 404, "not_found")
    # The month of the request stays as it was invoiced; the running one has the correction.
    assert unbilled(one.installation, tenant, MONTH) == []
    current = draft(two, tenant, datetime.now(timezone.utc))
    lines = {line["meter"]: line["amount_micros"] for line in current["lines"] if line["kind"] == "usage"}
    assert lines == {"request": -10_000, "input_token": -120}
    assert current["subtotal_micros"] == BASE_FEE - 10_120
    with one.installation.database() as database:
        kinds = database.execute("SELECT kind FROM ledger WHERE tenant_id = %s ORDER BY kind", (tenant.id,)).fetchall()
        assert kinds == [("correction",), ("usage",)]
        with pytest.raises(Exception, match="append-only"):
            database.execute("UPDATE adjustments SET reason = 'x' WHERE tenant_id = %s", (tenant.id,))
