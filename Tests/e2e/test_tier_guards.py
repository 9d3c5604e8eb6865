"""What guards prices: against a slip of the pen, against other tenants, and against a past that changes."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from api import get, predict
from bills import last_month, use
from installation import Installation
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(180)
MONTH, _ = last_month()


@pytest.fixture(scope="module")
def own() -> Iterator[Installation]:
    with Installation() as running:
        yield running


def version(**more: Any) -> dict[str, Any]:
    prices = [{"meter": meter, "model": "*", "unit_price": "0.000001"} for meter in ("request", "input_token")]
    return {"currency": "EUR", "prices": prices, "quotas": [], **more}


def make(own: Installation, offer: dict[str, Any] | None = None, **more: Any) -> str:
    code = unique("tier")
    own.admin.expect("POST", "/admin/v1/tiers", {"code": code, "name": code, "version": offer or version(), **more}, (201,))
    return code


def draft(own: Installation, code: str, offer: dict[str, Any]) -> str:
    made = own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions", offer, (201,))
    return f"/admin/v1/tiers/{code}/versions/{made['number']}"


def since_before(own: Installation, tenant: Tenant, at: datetime = MONTH - timedelta(days=40)) -> Tenant:
    with own.database() as database:
        database.execute("UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (at, tenant.id))
    return tenant


def locations(answer: Any) -> list[str]:
    assert (answer.status, answer.json()["code"]) == (409, "price_change_too_large"), answer.body
    return [error["location"] for error in answer.json()["errors"]]


def test_a_customer_on_a_tier_of_its_own_sees_its_costs(own: Installation) -> None:
    tenant = make_tenant(own, make(own))
    code = make(own, version(base_fee_micros=7_000_000), tenant_id=tenant.id)
    own.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"tier": code}, (200,))
    assert predict(own.public_url, tenant.key).status == 200
    answer = get(own.public_url, "/api/v1/usage/summary", tenant.key)
    assert answer.status == 200, answer.body
    # Who has just come has next to nothing of the fee, and one request.
    for path in ("/api/v1/usage", "/api/v1/tiers/analysis", "/api/v1/quota", "/api/v1/subscription"):
        assert get(own.public_url, path, tenant.key).status == 200, path


BANDS = [{"up_to": 100, "unit_price": "0.002"}, {"up_to": 1_000, "unit_price": "0.001"}, {"up_to": None, "unit_price": "0.0009"}]
GRADUATED = {"meter": "input_token", "model": "*", "price_model": "graduated", "bands": BANDS}
FREE_FIRST = {**GRADUATED, "bands": [{"up_to": 100, "unit_price": "0"}, *BANDS[1:]]}
PACKAGE = {"meter": "request", "model": "*", "price_model": "package", "unit_price": "1", "package_size": 1_000}


@pytest.mark.parametrize(
    ("old", "new", "location"),
    [
        ({"prices": [GRADUATED]}, {"prices": [{**GRADUATED, "bands": [BANDS[0], {"up_to": 1_000, "unit_price": "1"}, BANDS[2]]}]},
         "price of input_token for *, unit 101"),
        ({"prices": [FREE_FIRST]}, {"prices": [{**FREE_FIRST, "bands": [FREE_FIRST["bands"][0], BANDS[1], {"up_to": None, "unit_price": "9"}]}]},
         "price of input_token for *, unit 1001"),
        ({"prices": [FREE_FIRST]}, {"prices": [{**FREE_FIRST, "bands": [{**FREE_FIRST["bands"][0], "up_to": 10}, *BANDS[1:]]}]},
         "price of input_token for *, unit 11"),
        ({"prices": [{**GRADUATED, "price_model": "volume"}]}, {"prices": [GRADUATED]}, "price model of input_token for *"),
        ({"prices": [PACKAGE]}, {"prices": [{**PACKAGE, "unit_price": "10", "package_size": 10_000}]}, "package size of request for *"),
        ({"prices": [PACKAGE]}, {"prices": [{"meter": "request", "model": "*", "unit_price": "0.001"}]}, "package size of request for *"),
        ({"prices": [FREE_FIRST]},
         {"prices": [FREE_FIRST], "multipliers": [{"meter": "input_token", "model": "opus", "multiplier": "4"}]},
         "price of input_token for opus, unit 26"),
        ({"prices": []}, {"prices": [], "multipliers": [{"meter": "input_token", "model": "opus", "multiplier": "4"}]},
         "multiplier of input_token for opus"),
        ({"cache_hit_token_percent": 0}, {"cache_hit_token_percent": 100}, "cache_hit_token_percent"),
        ({"stream_leave": "cancel"}, {"stream_leave": "drain"}, "stream_leave"),
        ({}, {"cache_hit_request": "free"}, "cache_hit_request"),
        ({"failed_request": "charged"}, {}, "failed_request"),
        ({"minimum_commitment_micros": 0}, {"minimum_commitment_micros": 1}, "minimum_commitment_micros"),
    ],
)  # fmt: skip
def test_whatever_moves_far_asks_for_a_replay(own: Installation, old: dict, new: dict, location: str) -> None:
    code = make(own, version(**old))
    path = draft(own, code, version(**new))
    assert locations(own.admin.call("POST", f"{path}/publish", {}))[0].startswith(location)
    same = draft(own, code, version(**old))
    own.admin.expect("POST", f"{same}/publish", {}, (200,))


def test_a_move_that_the_factor_allows_needs_nothing(own: Installation) -> None:
    code = make(own, version(prices=[GRADUATED, PACKAGE], cache_hit_token_percent=50))
    bands = [{"up_to": 200, "unit_price": "0.003"}, {"up_to": 900, "unit_price": "0.0015"}, {"up_to": None, "unit_price": "0.0027"}]
    path = draft(own, code, version(
        prices=[{**GRADUATED, "bands": bands}, {**PACKAGE, "unit_price": "3", "package_size": 2_000}], cache_hit_token_percent=100))  # fmt: skip
    own.admin.expect("POST", f"{path}/publish", {}, (200,))


def test_the_guard_is_not_walked_around(own: Installation) -> None:
    code = make(own)
    tenant = since_before(own, make_tenant(own, code))
    use(own, tenant, MONTH + timedelta(days=2), 3, tokens=(1_000, 0))
    far = version(prices=[{"meter": "input_token", "model": "*", "unit_price": "0.001"}])
    # What is retired is what customers know.
    own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions/1/retire", None, (200,))
    path = draft(own, code, far)
    assert len(locations(own.admin.call("POST", f"{path}/publish", {}))) == 2
    # A replay of months without a bill, or of the wrong ones, shows nothing.
    for body in ({"until": "1970-01"}, {"until": f"{MONTH:%Y-%m}"}):
        empty = own.admin.expect("POST", f"{path}/replay", body, (200,))
        assert empty["confirms"] is False
        assert locations(own.admin.call("POST", f"{path}/publish", {"confirm": empty["digest"]}))
    whole = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    assert (whole["confirms"], whole["bills"], whole["losers"]["count"]) == (True, 1, 1)
    # The answer can be had again.
    past = own.admin.expect("GET", f"{path}/replays", None, (200,))["data"]
    assert [(one["digest"], one["confirms"]) for one in past][0] == (whole["digest"], True) and len(past) == 3
    assert past[0]["result"] == {**whole, "digest": None}
    # Nor does one of a month ago, when another month has ended since.
    with own.database() as database:
        database.execute("SET session_replication_role = replica")
        database.execute("UPDATE tier_replays SET created_at = created_at - interval '1 month' WHERE digest = %s", (whole["digest"],))
        database.commit()
    assert locations(own.admin.call("POST", f"{path}/publish", {"confirm": whole["digest"]}))
    again = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    own.admin.expect("POST", f"{path}/publish", {"confirm": again["digest"]}, (200,))


def test_bills_of_another_currency_are_counted_and_not_added(own: Installation) -> None:
    euro, dollar = make(own), make(own, version(currency="USD"))
    for code in (euro, dollar):
        tenant = since_before(own, make_tenant(own, code))
        use(own, tenant, MONTH + timedelta(days=2), 1, tokens=(1_000_000, 0))
    path = draft(own, euro, version(prices=[]))
    before = own.admin.expect("POST", f"{path}/replay", {"scope": "all"}, (200,))
    tenant = since_before(own, make_tenant(own, dollar))
    use(own, tenant, MONTH + timedelta(days=2), 1, tokens=(1_000_000, 0))
    after = own.admin.expect("POST", f"{path}/replay", {"scope": "all"}, (200,))
    assert after["skipped"] == before["skipped"] + 1 >= 2
    assert (after["bills"], after["before_micros"]) == (before["bills"], before["before_micros"])
    assert after["bills"] >= 1


def test_terms_that_nothing_was_charged_by_leave_nothing_open(own: Installation) -> None:
    code = make(own, version(cache_hit_token_percent=10))
    tenant = since_before(own, make_tenant(own, code))
    use(own, tenant, MONTH + timedelta(days=2), 1)
    path = draft(own, code, version(cache_hit_token_percent=100, stream_leave="drain", failed_request="charged", cache_hit_request="free"))
    replay = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    assert (replay["bills"], replay["approximate"], replay["not_seen"]) == (1, 1, ["failed_request"])
    same = own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions/1/replay", {}, (200,))
    assert (same["approximate"], same["not_seen"]) == (0, [])
    other = make(own, version(cache_hit_token_percent=100), tenant_id=tenant.id)
    options = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()["options"]
    seen = {option["tier"]: option["not_seen"] for option in options}
    assert seen[code] == [] and seen[other] == []


def quota(**more: Any) -> dict[str, Any]:
    return {"unit": "tokens", "frequency": "month", "amount": 5_000, "mode": "pay_as_you_go", **more}


def test_pay_as_you_go_promises_what_the_month_includes(own: Installation) -> None:
    made = make(own, version(quotas=[quota()]))
    assert own.admin.expect("GET", f"/admin/v1/tiers/{made}")["version"]["included_tokens"] == 5_000
    path = draft(own, made, version(quotas=[quota(), quota(unit="requests", amount=7)], included_tokens=5_000))
    assert own.admin.expect("GET", path)["included_requests"] == 7
    for offer in (
        version(quotas=[quota()], included_tokens=4_999), version(quotas=[quota(frequency="day")]),
        version(quotas=[quota(unit="requests")], included_requests=0),
    ):  # fmt: skip
        answer = own.admin.call("POST", f"/admin/v1/tiers/{made}/versions", offer)
        assert answer.status == 422 and [error["location"] for error in answer.json()["errors"]] == ["/quotas"], answer.body
    answer = own.admin.call("PATCH", path, {"included_tokens": 1})
    assert answer.status == 422
    # A draft of before the rule is not published either.
    with own.database() as database:
        database.execute("UPDATE tier_versions SET included_tokens = 1 WHERE tier_code = %s AND version = 2", (made,))
    answer = own.admin.call("POST", f"{path}/publish", {})
    assert (answer.status, answer.json()["errors"][0]["location"]) == (422, "/quotas")


def test_the_current_tier_is_that_of_now(own: Installation) -> None:
    old, new = make(own), make(own, version(rate_limits=[{"scope": "tenant", "unit": "requests", "amount": 19}]))
    tenant = since_before(own, make_tenant(own, old))
    use(own, tenant, MONTH + timedelta(days=2), 20, tokens=(1_000, 0))
    own.admin.expect("POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": new, "when": "now"}, (200,))
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()
    assert analysis["current"] == {"tier": new, "version": 1}
    proven = {option["tier"]: option["limits_proven"] for option in analysis["options"]}
    assert (proven[old], proven[new]) == (True, False)
    # Who has only just come has a currency, and something to compare.
    fresh = make_tenant(own, old)
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", fresh.key).json()
    assert (analysis["currency"], analysis["current"]) == ("EUR", {"tier": old, "version": 1})
    assert analysis["options"] and analysis["recommended"]


PARTS = ("tier_versions", "tier_prices", "tier_price_bands", "tier_multipliers", "tier_quotas", "tier_rate_limits")


def test_agreed_prices_are_one_tenants_in_the_database_too(own: Installation) -> None:
    mine, other = (make_tenant(own, make(own)) for _ in range(2))
    offer = version(
        prices=[GRADUATED], multipliers=[{"meter": "input_token", "model": "opus", "multiplier": "2.5"}],
        quotas=[quota(mode="hard")], rate_limits=[{"scope": "tenant", "unit": "requests", "amount": 60}],
    )  # fmt: skip
    private, public = make(own, offer, tenant_id=mine.id), make(own, offer)
    with own.database() as database:
        ids = {code: database.execute("SELECT tier_version_id FROM tier_versions WHERE tier_code = %s", (code,)).fetchone()
               for code in (private, public)}  # fmt: skip
        database.execute("SET ROLE weir_reader")
        for tenant, sees in ((mine, {private, public}), (other, {public}), (None, {public})):
            database.execute("SELECT set_config('weir.tenant_id', %s, false)", (tenant.id if tenant else "",))
            for table in PARTS:
                found = {
                    code for code, id in ids.items()
                    if database.execute(f"SELECT 1 FROM {table} WHERE tier_version_id = %s LIMIT 1", id).fetchone()
                }  # fmt: skip
                assert found == sees, (table, tenant)


def test_a_stay_that_was_is_not_moved(own: Installation) -> None:
    tenant = make_tenant(own, make(own))
    own.admin.expect("POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": make(own), "when": "now"}, (200,))
    with own.database() as database:
        database.autocommit = True
        database.execute("CREATE ROLE stay_mender NOINHERIT")
        database.execute("GRANT ALL ON subscriptions TO stay_mender")
        database.execute("CREATE POLICY stay_mender ON subscriptions TO stay_mender USING (true)")
        for role, refusal in (("weir_admin", psycopg.errors.InsufficientPrivilege), ("stay_mender", psycopg.errors.CheckViolation)):
            database.execute(f"SET ROLE {role}")
            for change in ("UPDATE subscriptions SET starts_at = starts_at - interval '1 day'",
                           "UPDATE subscriptions SET tier_version_id = gen_random_uuid()", "DELETE FROM subscriptions"):  # fmt: skip
                with pytest.raises(refusal):
                    database.execute(f"{change} WHERE tenant_id = %s", (tenant.id,))
            for change in ("SET ends_at = now() + interval '1 day' WHERE ends_at IS NOT NULL",
                           "SET ends_at = NULL WHERE ends_at IS NOT NULL",
                           "SET trial_ends_at = usage_bucket(now()) WHERE ends_at IS NOT NULL"):  # fmt: skip
                with pytest.raises(psycopg.errors.CheckViolation):
                    database.execute(f"UPDATE subscriptions {change} AND tenant_id = %s", (tenant.id,))
            database.execute("RESET ROLE")
        database.execute("DROP POLICY stay_mender ON subscriptions")
        database.execute("DROP OWNED BY stay_mender")
        database.execute("DROP ROLE stay_mender")
    # What the product does goes on.
    own.admin.expect("POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": make(own), "when": "now"}, (200,))
