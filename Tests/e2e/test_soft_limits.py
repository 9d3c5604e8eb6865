"""Thresholds, soft limits and pay-as-you-go on two gateways, and explanations of what was refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from api import assert_problem, assert_served, get, predict, predict_body, predict_headers
from books import bare, usage_entries
from deadline import wait_until
from installation import Gateway, Installation
from quota_traffic import QuotaTraffic
from tenancy import Tenant, make_tenant, make_tier, unique
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(180)

LIMIT = 240
# The watch looks every second, and a gateway hears of others' use when it renews its lease.
NOTICE_SECONDS = 10


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Installation, list[Gateway]]]:
    with Installation() as installation:
        environment = {"WEIR_LEASE_SECONDS": "3"}
        yield installation, [installation.gateway(f"soft-{name}", environment).start() for name in "ab"]


def limited(installation: Installation, mode: str, amount: int = LIMIT, **more: Any) -> Tenant:
    """A tenant with one quota of requests."""
    tier = unique(mode.replace("_", "-"))
    make_tier(installation, tier, [{"unit": "requests", "frequency": "month", "amount": amount, "mode": mode, **more}])
    return make_tenant(installation, tier)


def events(installation: Installation, tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's events in the order in which they were raised."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = installation.admin.expect("GET", f"/admin/v1/quotas/events?tenant={tenant.id}&limit=2{after}")
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]
        after = f"&after={page['last_id']}"


def percents(installation: Installation, tenant: Tenant) -> list[int]:
    return sorted(event["threshold_percent"] for event in events(installation, tenant))


def shown(gateway: Gateway, tenant: Tenant) -> dict[str, Any]:
    (line,) = get(gateway.public_url, "/api/v1/quota", tenant.key).json()["data"]
    return line


def told_to_be_exceeded(gateway: Gateway, tenant: Tenant) -> Answer | None:
    answer = predict(gateway.public_url, tenant.key)
    assert_served(answer)
    return answer if answer.header("x-weir-quota-exceeded") else None


def test_every_threshold_is_told_once_and_only_a_hard_limit_refuses(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    installation, gateways = stage
    hard, soft, paid = (limited(installation, mode) for mode in ("hard", "soft", "pay_as_you_go"))
    ports = [gateway.port for gateway in gateways]
    with QuotaTraffic(ports, [hard.key, soft.key, paid.key], clients=24) as traffic, installation.database() as database:
        wait_until(
            lambda: all(len(usage_entries(database, tenant.id)) >= LIMIT + 60 for tenant in (soft, paid)),
            "use goes on beyond the limits that do not refuse",
            60,
        )
        wait_until(lambda: traffic.count(429) >= 100, "the hard limit refuses", 30)
        wait_until(
            lambda: all(percents(installation, tenant) == [50, 80, 100] for tenant in (hard, soft, paid)),
            "all thresholds are told while the load goes on",
            NOTICE_SECONDS,
        )
    assert set().union(*traffic.statuses) == {200, 429}, traffic.statuses
    with installation.database() as database:
        used = {tenant.id: len(usage_entries(database, tenant.id)) for tenant in (hard, soft, paid)}
    assert used[hard.id] == LIMIT
    for tenant, mode in ((hard, "hard"), (soft, "soft"), (paid, "pay_as_you_go")):
        told = events(installation, tenant)
        assert sorted(event["threshold_percent"] for event in told) == [50, 80, 100]
        for event in told:
            assert event["mode"] == mode and event["policy"] == "requests-month"
            assert event["limit"] == event["amount"] == LIMIT
            assert event["used"] * 100 >= event["threshold_percent"] * LIMIT
            assert event["used"] <= used[tenant.id]
        line = shown(gateways[0], tenant)
        assert line["mode"] == mode and line["settled"] == used[tenant.id]
        assert [entry["percent"] for entry in line["thresholds"]] == [50, 80, 100]
        times = {event["threshold_percent"]: event["crossed_at"] for event in told}
        assert {entry["percent"]: entry["crossed_at"] for entry in line["thresholds"]} == times
        beyond = {name: line[name] for name in ("included", "overage", "over") if name in line}
        over = used[tenant.id] - LIMIT
        assert beyond == {
            "hard": {},
            "soft": {"over": over},
            "pay_as_you_go": {"included": LIMIT, "overage": over},
        }[mode]
    for gateway in gateways:
        assert_problem(predict(gateway.public_url, hard.key), 429, "quota_exceeded")
        for tenant in (soft, paid):
            answer = wait_until(
                lambda gateway=gateway, tenant=tenant: told_to_be_exceeded(gateway, tenant),
                "the gateway has heard of the other's use",
                NOTICE_SECONDS,
            )
            assert answer.header("x-weir-quota-exceeded") == "requests-month"
            assert answer.header("x-ratelimit-remaining-requests") == "0"
            assert '"requests-month";r=0;' in (answer.header("ratelimit") or "")
    last = assert_served(predict(gateways[1].public_url, paid.key))["request_id"]
    explained = get(gateways[0].public_url, f"/api/v1/requests/{last}/explain", paid.key).json()
    (policy,) = explained["admission"]["policies"]
    assert (policy["mode"], policy["part"]) == ("pay_as_you_go", "overage")
    quote = send_once(
        gateways[0].public_url, "POST", "/api/v1/quote", predict_headers(paid.key), predict_body(), timeout=20.0
    ).json()
    assert quote["admission"] == "free" and quote["policies"][0]["overage"] == 1
    # A process that starts anew finds that all has been told.
    gateways[0].stop()
    gateways[0].start()
    assert_served(predict(gateways[0].public_url, soft.key))
    with installation.database() as database:
        looks = "SELECT swept_at FROM quota_watch"
        before = database.execute(looks).fetchone()
        database.execute("UPDATE quota_watch SET swept_at = '-infinity'")
        wait_until(lambda: database.execute(looks).fetchone() > before, "all is compared anew")
    for tenant in (hard, soft, paid):
        assert percents(installation, tenant) == [50, 80, 100]


def test_nothing_is_told_before_the_limit(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, "pay_as_you_go", 10, thresholds_percent=[90])
    for number in range(8):
        answer = predict(gateways[number % 2].public_url, tenant.key)
        body = assert_served(answer)
        assert answer.header("x-weir-quota-exceeded") is None
    explained = get(gateways[0].public_url, f"/api/v1/requests/{body['request_id']}/explain", tenant.key).json()
    assert explained["admission"]["lease_kept"] is True
    line = shown(gateways[1], tenant)
    assert (line["included"], line["overage"], line["settled"]) == (10, 0, 8)
    assert line["thresholds"] == [{"percent": 90}]
    # A limit that is lowered below what was used crosses thresholds without a request.
    installation.admin.expect(
        "PUT",
        f"/admin/v1/tenants/{tenant.id}/quotas",
        {"unit": "requests", "frequency": "month", "amount": 6, "mode": "soft", "thresholds_percent": [100, 130, 200]},
        (200,),
    )
    wait_until(lambda: percents(installation, tenant) == [100, 130], "the lowered limit is told", NOTICE_SECONDS)
    # And one that is raised takes nothing back.
    installation.admin.expect(
        "PUT",
        f"/admin/v1/tenants/{tenant.id}/quotas",
        {"unit": "requests", "frequency": "month", "amount": 600, "mode": "soft", "thresholds_percent": [1]},
        (200,),
    )
    wait_until(lambda: 1 in percents(installation, tenant), "the new threshold is told", NOTICE_SECONDS)
    assert percents(installation, tenant) == [1, 100, 130]
    assert shown(gateways[0], tenant)["over"] == 0
    # Whichever process looked has counted it.
    urls = [installation.admin_url, *(gateway.admin_url for gateway in gateways)]
    metrics = [get(url, "/metrics", installation.admin_key).body.decode() for url in urls]
    lines = [line for text in metrics for line in text.splitlines() if line.startswith("weir_quota_events_total{")]
    assert any('mode="soft"' in line and 'threshold="above_100"' in line for line in lines), lines


def test_the_next_period_tells_its_thresholds_anew(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, "soft", 10, frequency="minute", thresholds_percent=[50])
    # Its minutes begin so that the running one ends soon.
    with installation.database() as database:
        # Not at the full minute, where it began before.
        database.execute(
            "UPDATE quotas SET anchor = clock_timestamp() - make_interval(secs => CASE"
            " WHEN extract(second FROM clock_timestamp()) BETWEEN 49 AND 52 THEN 45 ELSE 50 END) WHERE tenant_id = %s",
            [tenant.id],
        )
        wait_until(lambda: not shown(gateways[0], tenant)["period_start"].endswith(":00Z"), "the gateways know", 5)
    first = shown(gateways[0], tenant)["period_start"]
    for number in range(6):
        assert_served(predict(gateways[number % 2].public_url, tenant.key))
    wait_until(lambda: len(events(installation, tenant)) == 1, "the first period is told", 9)
    wait_until(lambda: all(shown(gateway, tenant)["period_start"] != first for gateway in gateways), "the next period", 15)
    assert shown(gateways[0], tenant)["thresholds"] == [{"percent": 50}]
    for number in range(6):
        assert_served(predict(gateways[number % 2].public_url, tenant.key))
    wait_until(lambda: len(events(installation, tenant)) == 2, "the second period is told", NOTICE_SECONDS)
    told = events(installation, tenant)
    assert [event["threshold_percent"] for event in told] == [50, 50]
    assert told[0]["period_start"] == first and told[1]["period_start"] == told[0]["period_end"]


def test_a_refused_request_is_explained_on_any_gateway_and_to_its_tenant_alone(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    installation, gateways = stage
    tenant, stranger = limited(installation, "hard", 1), limited(installation, "hard", 1_000)
    assert_served(predict(gateways[0].public_url, tenant.key))
    refused = predict(gateways[1].public_url, tenant.key)
    numbers = assert_problem(refused, 429, "quota_exceeded")["quota"]
    target = f"/api/v1/requests/{refused.request_id}/explain"
    told = wait_until(
        lambda: (answer := get(gateways[0].public_url, target, tenant.key)).status == 200 and answer.json(),
        "the other gateway explains it",
        5,
    )
    assert told["status"] == "refused" and told["charge"] is None and told["admission"] is None
    assert told["failure"] == {"code": "quota_exceeded", "message": told["failure"]["message"], "charged": False}
    refusal = told["refusal"]
    for name in ("policy", "unit", "limit", "settled", "held", "requested"):
        assert refusal[name] == numbers[name], name
    assert_problem(get(gateways[0].public_url, target, stranger.key), 404, "not_found")
    # What refuses quickly is kept as well, within a bound.
    limits = [{"scope": "tenant", "unit": "requests", "amount": 1, "burst": 1}]
    installation.admin.expect("PATCH", f"/admin/v1/tenants/{stranger.id}", {"rate_limits": limits}, (200,))
    wait_until(lambda: predict(gateways[0].public_url, stranger.key).status == 429, "the rate limit is known", 5)
    answers = [predict(gateways[0].public_url, stranger.key) for _ in range(60)]
    assert {answer.status for answer in answers} == {429}
    with installation.database() as database:
        count = "SELECT count(*) FROM refusals WHERE tenant_id = %s"
        wait_until(lambda: database.execute(count, [stranger.id]).fetchone()[0] >= 10, "refusals are kept", 5)
        spans = database.execute(
            "SELECT count(*) FROM refusals WHERE tenant_id = %s GROUP BY date_trunc('second', refused_at)",
            [stranger.id],
        ).fetchall()
        # A gateway's seconds do not begin with those of the wall clock, so two of them can meet in one.
        assert max(row[0] for row in spans) <= 20
        assert database.execute("SELECT count(*) FROM requests WHERE tenant_id = %s", [stranger.id]).fetchone()[0] < 60
        kept = database.execute("SELECT request_id FROM refusals WHERE tenant_id = %s LIMIT 1", [stranger.id]).fetchone()[0]
    told = get(gateways[1].public_url, f"/api/v1/requests/req_{kept}/explain", stranger.key)
    assert told.json()["refusal"]["policy"] == "rpm"
