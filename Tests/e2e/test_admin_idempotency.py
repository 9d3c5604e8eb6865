"""Changes of money that are sent again are made once."""

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from api import assert_problem, bearer
from bills import act, draft, last_month, make_priced_tenant, use
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def send(gateway: Gateway, path: str, body: Any, key: str) -> Answer:
    headers = {**bearer(gateway.installation.admin_key), "Idempotency-Key": key}
    payload = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        payload = json.dumps(body).encode()
    return send_once(gateway.admin_url, "POST", path, headers, payload, timeout=30.0)


def twice(gateways: list[Gateway], path: str, body: Any) -> dict[str, Any]:
    """Sent to both gateways under one key: made by the first, told again by the second."""
    key = str(uuid.uuid4())
    first, again = send(gateways[0], path, body, key), send(gateways[1], path, body, f'"{key}"')
    assert first.status in (200, 201), (first.status, first.body)
    assert (again.status, again.body) == (first.status, first.body)
    assert first.header("idempotent-replayed") is None and again.header("idempotent-replayed") == "true"
    other = send(gateways[1], path, {"reason": "Something else"}, key)
    assert_problem(other, 422, "idempotency_mismatch")
    return first.json()


def credit(tenant: Tenant, amount: int = 1_000_000) -> dict[str, Any]:
    return {"tenant": tenant.id, "kind": "prepaid", "currency": "USD", "amount_micros": amount, "reason": "Top-up"}


def count(installation: Installation, table: str, tenant: Tenant) -> int:
    with installation.database() as database:
        return database.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", (tenant.id,)).fetchone()[0]


def test_each_change_of_money_is_made_once(gateways: list[Gateway]) -> None:
    one, _ = gateways
    installation = one.installation
    tenant = make_priced_tenant(installation)
    request = use(installation, tenant, MONTH + timedelta(days=3), 3)[0]
    grant = twice(gateways, "/admin/v1/credits", credit(tenant))
    assert count(installation, "credit_grants", tenant) == 1
    twice(gateways, f"/admin/v1/credits/{grant['id']}/revoke", None)
    twice(gateways, "/admin/v1/adjustments", {"request_id": request, "output_tokens": -1, "reason": "Ours"})
    assert count(installation, "adjustments", tenant) == 1
    invoice = act(one, draft(one, tenant, MONTH), "finalize")
    path = f"/admin/v1/invoices/{invoice['id']}"
    assert twice(gateways, f"{path}/pay", None)["state"] == "paid"
    note = {"amount_micros": 1_000, "reason": "Sorry"}
    twice(gateways, f"{path}/credit", note)
    # The same again under another key is another credit note.
    assert send(one, f"{path}/credit", note, str(uuid.uuid4())).status in (200, 201)
    assert count(installation, "invoices", tenant) == 3
    other = make_priced_tenant(installation)
    second = act(one, draft(one, other, MONTH), "finalize")
    assert twice(gateways, f"/admin/v1/invoices/{second['id']}/void", {"reason": "Ours"})["state"] == "void"
    change = {"tenant": tenant.id, "tier": "free", "when": "period_end"}
    with installation.database() as database:
        change["tier"] = database.execute(
            """SELECT v.tier_code FROM subscriptions s JOIN tier_versions v USING (tier_version_id) WHERE tenant_id = %s""",
            (other.id,)).fetchone()[0]  # fmt: skip
    assert twice(gateways, "/admin/v1/subscriptions", change)["scheduled"] is not None
    assert count(installation, "subscription_changes", tenant) == 1
    twice(gateways, "/admin/v1/subscriptions/cancel", {"tenant": tenant.id})


def test_many_at_the_same_moment_make_one(gateways: list[Gateway]) -> None:
    one, _ = gateways
    tenant = make_priced_tenant(one.installation)
    key, answers = str(uuid.uuid4()), []
    barrier = threading.Barrier(12)

    def ask(number: int) -> None:
        barrier.wait()
        answers.append(send(gateways[number % 2], "/admin/v1/credits", credit(tenant), key))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(one.installation, "credit_grants", tenant) == 1
    made = {answer.body for answer in answers if answer.status == 201}
    assert len(answers) == 12 and len(made) == 1
    for answer in answers:
        if answer.status != 201:
            assert_problem(answer, 409, "idempotency_in_progress")
            assert answer.header("retry-after") == "1"
    assert sum(answer.header("idempotent-replayed") is None for answer in answers if answer.status == 201) == 1
    assert send(one, "/admin/v1/credits", credit(tenant), key).body in made


def test_what_was_refused_is_not_kept_and_a_lost_answer_is_told(gateways: list[Gateway]) -> None:
    one, two = gateways
    tenant = make_priced_tenant(one.installation)
    invoice, key = draft(one, tenant, MONTH), str(uuid.uuid4())
    path = f"/admin/v1/invoices/{invoice['id']}/pay"
    assert_problem(send(one, path, None, key), 409, "conflict")
    act(one, invoice, "finalize")
    assert send(two, path, None, key).json()["state"] == "paid"
    for bad in ("", "with blank", "x" * 256):
        assert_problem(send(one, "/admin/v1/credits", credit(tenant), bad), 400, "bad_request")
    assert count(one.installation, "credit_grants", tenant) == 0
    key = str(uuid.uuid4())
    grant = send(one, "/admin/v1/credits", credit(tenant), key).json()
    with one.installation.database() as database:
        lose = "UPDATE admin_idempotency_keys SET status = NULL, answer = NULL, created_at = now() - %s * interval '1 s' WHERE idempotency_key = %s"
        database.execute(lose, (0, key))
        assert_problem(send(two, "/admin/v1/credits", credit(tenant), key), 409, "idempotency_in_progress")
        database.execute(lose, (120, key))
        problem = assert_problem(send(two, "/admin/v1/credits", credit(tenant), key), 409, "conflict")
        assert grant["id"] in problem["detail"]
        # Removed behind 48 hours, with those of customers.
        database.execute(lose, (48 * 3_600 + 1, key))
        here = "SELECT count(*) FROM admin_idempotency_keys WHERE idempotency_key = %s"
        assert database.execute("SELECT remove_expired_idempotency_keys(1000)").fetchone()[0] >= 0
        wait_until(lambda: database.execute(here, (key,)).fetchone() == (0,), "the key is removed", 90)
    assert count(one.installation, "credit_grants", tenant) == 1
