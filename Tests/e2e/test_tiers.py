"""Tiers in versions: drafts, publication, customers' own tiers, replay of past usage and the analysis of what tiers would have cost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import get, predict
from installation import Installation
from tenancy import Tenant, make_tenant, unique


@pytest.fixture(scope="module")
def own() -> Iterator[Installation]:
    """One of this file's own: usage of past months is written into its ledger."""
    with Installation() as running:
        yield running


def prices(unit: str) -> list[dict[str, Any]]:
    return [{"meter": meter, "model": "*", "unit_price": unit} for meter in ("request", "input_token", "output_token")]


def version(unit: str = "0.000001", **more: Any) -> dict[str, Any]:
    return {"currency": "EUR", "prices": prices(unit), "quotas": [], **more}


def make(own: Installation, **more: Any) -> str:
    code = unique("tier")
    body = {"code": code, "name": code, "version": version(**more.pop("version", {})), **more}
    own.admin.expect("POST", "/admin/v1/tiers", body, (201,))
    return code


def draft(own: Installation, code: str, body: dict[str, Any]) -> dict[str, Any]:
    return own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions", body, (201,))


def last_month() -> datetime:
    return (datetime.now(UTC).replace(day=1) - timedelta(days=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def backdate(own: Installation, tenant: Tenant, tokens: int, at: datetime) -> None:
    """The tenant has been on its tier since before a month, and used these tokens in it."""
    with own.database() as database:
        database.execute(
            "UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s AND ends_at IS NULL",
            (at - timedelta(days=40), tenant.id),
        )
        database.execute(
            """
            INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT id, id, s.tenant_id, k.key_id, 'usage', 'iris', s.tier_version_id, 1, %s, 0, 0, 'worker', %s
            FROM gen_random_uuid() AS id, subscriptions s JOIN api_keys k USING (tenant_id)
            WHERE s.tenant_id = %s AND s.ends_at IS NULL LIMIT 1
            """,
            (tokens, at + timedelta(days=3), tenant.id),
        )
        database.commit()


def test_a_new_version_is_for_those_who_come_later(own: Installation) -> None:
    code = make(own)
    old = make_tenant(own, code)
    made = draft(own, code, version("0.000002", included_requests=0))
    assert (made["number"], made["state"]) == (2, "draft")
    changed = own.admin.expect("PATCH", f"/admin/v1/tiers/{code}/versions/2", {"trial_days": 7}, (200,))
    assert changed["trial_days"] == 7 and changed["prices"] == made["prices"]
    published = own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions/2/publish", {}, (200,))
    assert published["state"] == "published" and published["published_at"]
    new = make_tenant(own, code)
    for tenant, id in ((old, None), (new, published["id"])):
        seen = own.admin.expect("GET", f"/admin/v1/tenants/{tenant.id}", None, (200,))["price_version"]
        assert (seen == published["id"]) == (id is not None)
    for call in (("PATCH", "", {"trial_days": 1}), ("DELETE", "", None), ("POST", "/publish", {})):
        answer = own.admin.call(call[0], f"/admin/v1/tiers/{code}/versions/2{call[1]}", call[2])
        assert (answer.status, answer.json()["code"]) == (409, "conflict")
    costs = []
    for tenant in (old, new):
        assert predict(own.public_url, tenant.key).status == 200
        costs.append(get(own.public_url, "/api/v1/usage", tenant.key).json()["total"]["cost_micros"])
    assert costs[1] == 2 * costs[0] > 0
    own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions/2/retire", None, (200,))
    assert [v["state"] for v in own.admin.expect("GET", f"/admin/v1/tiers/{code}/versions", None, (200,))["data"]] == [
        "retired",
        "published",
    ]


@pytest.mark.parametrize(
    ("more", "location"),
    [
        ({"currency": "USD"}, "/currency"),
        ({"effective_at": "2020-01-01T00:00:00Z"}, "/effective_at"),
        ({"prices": [{"meter": "request", "model": "*", "unit_price": "-1"}]}, "/prices/0/unit_price"),
    ],
)
def test_a_draft_that_cannot_be_sold_is_refused(own: Installation, more: dict[str, Any], location: str) -> None:
    code = make(own)
    answer = own.admin.call("POST", f"/admin/v1/tiers/{code}/versions", {**version(), **more})
    assert answer.status == 422
    assert [error["location"] for error in answer.json()["errors"]] == [location]
    assert all(error["fix"] for error in answer.json()["errors"])


def test_a_tier_of_one_tenant_is_nobody_elses(own: Installation) -> None:
    open_code = make(own)
    one, other = make_tenant(own, open_code), make_tenant(own, open_code)
    code = make(own, tenant_id=one.id)
    assert code in [tier["code"] for tier in get(own.public_url, "/api/v1/tiers", one.key).json()["data"]]
    assert code not in [tier["code"] for tier in get(own.public_url, "/api/v1/tiers", other.key).json()["data"]]
    answers = [
        own.admin.call("PATCH", f"/admin/v1/tenants/{other.id}", {"tier": tier}) for tier in (code, unique("nothing"))
    ]
    assert [answer.status for answer in answers] == [422, 422]
    own.admin.expect("PATCH", f"/admin/v1/tenants/{one.id}", {"tier": code}, (200,))


def test_a_far_move_needs_the_replay_of_this_very_draft(own: Installation) -> None:
    code = make(own)
    tenant = make_tenant(own, code)
    start = last_month()
    backdate(own, tenant, 1_000_000, start)
    draft(own, code, version("0.00001"))
    path = f"/admin/v1/tiers/{code}/versions/2"
    refused = own.admin.call("POST", f"{path}/publish", {})
    assert (refused.status, refused.json()["code"]) == (409, "price_change_too_large")
    assert len(refused.json()["errors"]) == 3

    same = own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions/1/replay", {}, (200,))
    assert same["bills"] == 1 and same["before_micros"] == same["after_micros"] == 1_000_001
    replay = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    assert (replay["before_micros"], replay["after_micros"]) == (1_000_001, 10_000_010)
    assert replay["losers"]["count"] == replay["bill_shock"]["count"] == 1 and replay["winners"]["count"] == 0
    assert replay["bill_shock"]["bills"][0]["tenant_id"] == tenant.id
    lines = own.admin.expect("POST", f"{path}/replay", {"tenant_id": tenant.id}, (200,))["bills"][0]
    assert sum(line["amount_micros"] for line in lines["after"]["lines"]) == lines["after"]["subtotal_micros"] == 10_000_010

    own.admin.expect("PATCH", path, {"trial_days": 3}, (200,))
    stale = own.admin.call("POST", f"{path}/publish", {"confirm": replay["digest"]})
    assert (stale.status, stale.json()["code"]) == (409, "price_change_too_large")
    again = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    assert again["digest"] != replay["digest"]
    own.admin.expect("POST", f"{path}/publish", {"confirm": again["digest"]}, (200,))


def test_the_analysis_recommends_the_cheapest_tier_that_would_have_done(own: Installation) -> None:
    dear = make(own, version={"unit": "0.000002"})
    tenant = make_tenant(own, dear)
    cheap = make(own, tenant_id=tenant.id, version={"base_fee_micros": 10_000})
    tight = make(
        own,
        tenant_id=tenant.id,
        version={"quotas": [{"unit": "tokens", "frequency": "day", "amount": 499_999, "mode": "hard"}]},
    )
    backdate(own, tenant, 500_000, last_month())
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()
    options = {option["tier"]: option for option in analysis["options"]}
    assert analysis["actual_total_micros"] == options[dear]["total_micros"] == 1_000_002
    assert options[cheap]["total_micros"] == 510_001 and options[tight]["total_micros"] == 500_001
    assert options[tight]["refused_by"] == [
        {"unit": "tokens", "frequency": "day", "amount": 499_999, "used": 500_000}
    ]
    feasible = [option for option in analysis["options"] if option["feasible"]]
    best = min(feasible, key=lambda option: option["total_micros"])
    assert analysis["recommended"] == {"tier": best["tier"], "version": best["version"]}
    assert analysis["saving_micros"] == 1_000_002 - best["total_micros"]
    assert (analysis["highest_monthly_tokens"], analysis["simple_rule"]) == (500_000, "standard")
    seen: list[dict[str, Any]] = []
    query = "periods=1&limit=2"
    while True:
        page = own.admin.expect("GET", f"/admin/v1/tiers/analysis?{query}", None, (200,))
        seen += page["data"]
        if not page["has_more"]:
            break
        query = f"periods=1&limit=2&after={page['last_id']}"
    assert len({one["tenant_id"] for one in seen}) == len(seen)
    assert next(one for one in seen if one["tenant_id"] == tenant.id) == analysis
