"""Tenants cannot see each other, and a revoked key stops everywhere at once: with two gateways on one database."""

import time

import pytest

from api import assert_problem, assert_served, get, predict, problem_without_ids
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import Tenant, make_key, make_tenant, make_tier, unique

UNKNOWN = "req_01930000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("target", ["/api/v1/requests/{}", "/status/{}"])
def test_a_foreign_request_and_an_unknown_one_are_the_same(installation: Installation, target: str) -> None:
    owner, stranger = make_tenant(installation), make_tenant(installation)
    request_id = assert_served(predict(installation.public_url, owner.key))["request_id"]
    assert get(installation.public_url, target.format(request_id), owner.key).status == 200
    foreign = get(installation.public_url, target.format(request_id), stranger.key)
    unknown = get(installation.public_url, target.format(UNKNOWN), stranger.key)
    assert_problem(foreign, 404, "not_found")
    assert_problem(unknown, 404, "not_found")
    assert_same_but_for_ids(foreign, request_id, unknown, UNKNOWN)


def assert_same_but_for_ids(one, one_id: str, other, other_id: str) -> None:
    assert repr(problem_without_ids(one)).replace(one_id, "ID") == repr(problem_without_ids(other)).replace(
        other_id, "ID"
    )
    assert [name.lower() for name, _ in one.headers] == [name.lower() for name, _ in other.headers]
    assert len(one.body) == len(other.body)


@pytest.mark.parametrize(
    "id", ["x", "req_", "req_x", "..", "req_01930000-0000-7000-8000-00000000000", "1", "%27%20OR%201=1", "null"]
)
@pytest.mark.parametrize("target", ["/api/v1/requests/{}", "/status/{}"])
def test_a_malformed_id_is_an_unknown_one(installation: Installation, key: str, target: str, id: str) -> None:
    assert_problem(get(installation.public_url, target.format(id), key), 404, "not_found")


def test_a_list_holds_only_ones_own(installation: Installation) -> None:
    one, other = make_tenant(installation), make_tenant(installation)
    mine = {predict(installation.public_url, one.key).request_id for _ in range(3)}
    theirs = {predict(installation.public_url, other.key).request_id for _ in range(2)}
    assert {row["id"] for row in get(installation.public_url, "/api/v1/requests", one.key).json()["data"]} == mine
    assert {row["id"] for row in get(installation.public_url, "/api/v1/requests", other.key).json()["data"]} == theirs


def test_another_tenants_page_mark_shows_nothing(installation: Installation) -> None:
    one, other = make_tenant(installation), make_tenant(installation)
    for _ in range(3):
        predict(installation.public_url, one.key)
    mark = get(installation.public_url, "/api/v1/requests?limit=1", one.key).json()["last_id"]
    answer = get(installation.public_url, f"/api/v1/requests?after={mark}", other.key)
    assert answer.status in (200, 400, 422), answer
    if answer.status == 200:
        assert answer.json()["data"] == []


def test_usage_and_quota_are_ones_own(installation: Installation) -> None:
    one, other = make_tenant(installation), make_tenant(installation)
    for _ in range(4):
        assert_served(predict(installation.public_url, one.key))
    assert_served(predict(installation.public_url, other.key))
    wait_until(lambda: requests_used(installation, one) == 4, "the usage of one", 10)
    wait_until(lambda: requests_used(installation, other) == 1, "the usage of the other", 10)
    by_key = get(installation.public_url, "/api/v1/usage?group_by=key", one.key).json()["data"]
    assert [row["key_id"] for row in by_key] == [one.key_id]


def requests_used(installation: Installation, tenant: Tenant) -> int:
    return get(installation.public_url, "/api/v1/usage", tenant.key).json()["total"]["requests"]


def test_the_database_itself_keeps_tenants_apart(installation: Installation) -> None:
    """As the role that customers' reads run under: nothing without a tenant, and only its own with one."""
    one, other = make_tenant(installation), make_tenant(installation)
    for tenant in (one, other):
        assert_served(predict(installation.public_url, tenant.key))
    with installation.database() as database:
        for setting, expected in ((None, 0), ("", 0), (one.id, 1), (other.id, 1)):
            with database.transaction():
                database.execute("SET LOCAL ROLE weir_reader")
                if setting is not None:
                    database.execute("SELECT set_config('weir.tenant_id', %s, true)", [setting])
                for table in ("requests", "ledger"):
                    row = database.execute(
                        f"SELECT count(*), count(*) FILTER (WHERE tenant_id = %s) FROM {table}", [setting or None]
                    )
                    assert row.fetchone() == (expected, expected), (table, setting)


def test_a_revoked_key_stops_on_both_gateways_within_a_second(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    urls = [installation.public_url, second_gateway.public_url]
    revoked = make_key(installation.admin, tenant.id)
    for url in urls:
        wait_until(lambda url=url: predict(url, revoked.key).status == 200, "the key works", 5)
    installation.admin.expect("DELETE", f"/admin/v1/keys/{revoked.key_id}", statuses=(200,))
    answered = time.monotonic()
    for url in urls:
        wait_until(lambda url=url: predict(url, revoked.key).status == 401, "the key is refused", 5)
    took = time.monotonic() - answered
    assert took <= 1.0, f"{took:.2f} s"
    # And it stays so: no cache brings it back.
    for _ in range(5):
        for url in urls:
            assert_problem(predict(url, revoked.key), 401, "invalid_api_key")
    assert_served(predict(installation.public_url, tenant.key))
    assert_served(predict(second_gateway.public_url, tenant.key))


def test_a_new_key_works_on_the_other_gateway_at_once(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    """Also when that gateway has been asked for it before it existed anywhere."""
    fresh = make_key(installation.admin, tenant.id)
    assert_served(predict(second_gateway.public_url, fresh.key))


def test_a_hard_quota_holds_over_two_gateways(installation: Installation, second_gateway: Gateway) -> None:
    """Seven requests are allowed; of twenty over both gateways no more are served, and the rest say why."""
    code = unique("seven")
    make_tier(installation, code, [{"unit": "requests", "frequency": "month", "amount": 7, "mode": "hard"}])
    tenant = make_tenant(installation, code)
    answers = [predict([installation, second_gateway][number % 2].public_url, tenant.key) for number in range(20)]
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert 4 <= len(served) <= 7
    for answer in refused:
        problem = assert_problem(answer, 429, "quota_exceeded")
        assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert problem["quota"]["limit"] == 7 and problem["violated-policies"] == ["requests-month"]
        assert int(answer.header("retry-after") or 0) >= 1
        assert answer.header("x-should-retry") == "false"
    with installation.database() as database:
        row = database.execute("SELECT count(*) FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchone()
    assert row == (len(served),)


def test_a_quota_of_nothing(installation: Installation) -> None:
    code = unique("nothing")
    make_tier(installation, code, [{"unit": "tokens", "frequency": "month", "amount": 0, "mode": "hard"}])
    tenant = make_tenant(installation, code)
    problem = assert_problem(predict(installation.public_url, tenant.key), 429, "quota_exceeded")
    assert problem["quota"]["limit"] == 0
    assert get(installation.public_url, "/api/v1/quota", tenant.key).json()["data"][0]["available"] == 0
