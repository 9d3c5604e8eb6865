"""Hard quotas over three gateways: never exceeded, all of it usable, and nothing held for the dead."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from api import assert_problem, get, predict
from books import bare, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation
from quota_traffic import QuotaTraffic
from quota_watch import QuotaWatch, quota_samples
from tenancy import Tenant, make_key, make_tenant, make_tier, unique

pytestmark = pytest.mark.timeout(240)

LEASE_SECONDS = 3
RETURN_SECONDS = LEASE_SECONDS + 5


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Installation, list[Gateway]]]:
    with Installation() as installation:
        environment = {"WEIR_LEASE_SECONDS": str(LEASE_SECONDS)}
        yield installation, [installation.gateway(f"quota-{name}", environment).start() for name in "abc"]


def limited(installation: Installation, *quotas: tuple[str, str, int], **more: Any) -> Tenant:
    """A tenant with these hard quotas, and one of a minute that is never reached, so that periods end meanwhile."""
    tier = unique("limited")
    rules = [{"unit": unit, "frequency": frequency, "amount": amount} for unit, frequency, amount in quotas]
    rules.append({"unit": "requests", "frequency": "minute", "amount": 1_000_000_000})
    make_tier(installation, tier, [{"mode": "hard", **rule, **more} for rule in rules])
    return make_tenant(installation, tier)


def used_up_but_for(installation: Installation, tenant: Tenant, tokens: int) -> bool:
    """Whether so few of the tenant's tokens are left that the rest can be taken request by request.

    That clients are refused does not say so: what is held for a request is many times what it uses, and 64 of them hold
    much of a limit."""
    with installation.database() as database:
        return all(
            sample.limit - sample.settled < tokens
            for sample in quota_samples(database, tenant.id)
            if sample.unit == "tokens"
        )


def nothing_held(database: psycopg.Connection, tenant: Tenant) -> bool:
    """No lease of the tenant is open."""
    return all(sample.granted == 0 for sample in quota_samples(database, tenant.id))


def assert_books_agree(installation: Installation, tenant: Tenant, traffic: QuotaTraffic) -> None:
    """What clients were answered is in the ledger, and each request in one period of each quota."""
    with installation.database() as database:
        entries = {entry.request_id: entry for entry in usage_entries(database, tenant.id)}
        acknowledged = {bare(served.request_id): served.tokens for served in traffic.served}
        assert acknowledged.keys() <= entries.keys()
        for request_id, tokens in acknowledged.items():
            assert entries[request_id].input_tokens + entries[request_id].output_tokens == tokens
        settled = database.execute(
            "SELECT q.unit, sum(p.settled)::bigint, sum(p.held)::bigint"
            " FROM quotas q JOIN quota_periods p USING (quota_id) WHERE q.tenant_id = %s GROUP BY q.quota_id, q.unit",
            [tenant.id],
        ).fetchall()
    requests = len(entries)
    tokens = sum(entry.input_tokens + entry.output_tokens for entry in entries.values())
    assert settled
    for unit, units, held in settled:
        assert (units, held) == (requests if unit == "requests" else tokens, 0), (unit, units, held)


def assert_used_up(gateways: list[Gateway], tenant: Tenant, unit: str) -> None:
    """Takes what is left, request by request from gateway after gateway, until each refuses; what is left then is less
    than a request needs."""
    refusals: dict[str, dict[str, Any]] = {}
    for _ in range(200):
        for gateway in gateways:
            answer = predict(gateway.public_url, tenant.key)
            if answer.status == 200:
                refusals.clear()
            else:
                refusals[gateway.name] = assert_problem(answer, 429, "quota_exceeded")["quota"]
        if len(refusals) == len(gateways):
            break
    assert len(refusals) == len(gateways), "the limit is never reached"
    for numbers in refusals.values():
        assert numbers["unit"] == unit
        assert numbers["settled"] + numbers["held"] <= numbers["limit"]
        assert numbers["requested"] > numbers["limit"] - numbers["settled"] - numbers["held"], numbers


def test_64_clients_on_three_gateways_use_a_limit_up_and_never_exceed_it(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    installation, gateways = stage
    limit = 40_000
    tenant = limited(installation, ("tokens", "month", limit), ("requests", "year", 1_000_000))
    with QuotaWatch(installation, tenant.id) as watch:
        with QuotaTraffic([gateway.port for gateway in gateways], [tenant.key]) as traffic:
            wait_until(lambda: traffic.count(429) >= 300, "the limit runs out", 90)
            wait_until(lambda: used_up_but_for(installation, tenant, 1_000), "little is left", 60, every=0.5)
        with installation.database() as database:
            wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
            assert_used_up(gateways, tenant, "tokens")
            wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
            (tokens,) = [sample for sample in quota_samples(database, tenant.id) if sample.unit == "tokens"]
    watch.assert_sound(least=20)
    assert all(counter[200] > 50 for counter in traffic.statuses), traffic.statuses
    assert set().union(*traffic.statuses) == {200, 429}, traffic.statuses
    assert traffic.tokens <= tokens.in_ledger <= limit
    # Less is left than the smallest request is held for: the bytes of its body and 64 tokens of output.
    assert tokens.available < 200, tokens
    assert_books_agree(installation, tenant, traffic)


def test_every_single_request_of_a_limit_can_be_had_while_all_gateways_are_busy(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    installation, gateways = stage
    limit = 777
    tenant = limited(installation, ("requests", "month", limit), ("requests", "week", 100_000))
    with QuotaWatch(installation, tenant.id) as watch:
        with QuotaTraffic([gateway.port for gateway in gateways], [tenant.key]) as traffic:
            wait_until(lambda: traffic.count(200) >= limit, "all of the limit is served", 60)
            wait_until(lambda: traffic.count(429) >= 100, "the rest is refused", 30)
    watch.assert_sound(least=10)
    assert traffic.count(200) == limit
    with installation.database() as database:
        wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
        assert len(usage_entries(database, tenant.id)) == limit
    shown = get(gateways[1].public_url, "/api/v1/quota", tenant.key).json()["data"]
    (month,) = [quota for quota in shown if quota["frequency"] == "month"]
    assert (month["limit"], month["settled"], month["held"], month["available"]) == (limit, limit, 0, 0), month


def gateway_ids(installation: Installation, gateways: list[Gateway], tenant: Tenant) -> list[str]:
    """The id that each gateway's run has in the database."""
    found = []
    with installation.database() as database:
        for gateway in gateways:
            answer = predict(gateway.public_url, tenant.key)
            assert answer.status == 200, answer.body
            row = database.execute(
                "SELECT gateway_id::text FROM requests WHERE request_id = %s", [bare(answer.request_id)]
            ).fetchone()
            assert row is not None
            found.append(row[0])
    assert len(set(found)) == len(gateways)
    return found


def open_leases(database: psycopg.Connection, gateway_id: str) -> int:
    row = database.execute(
        "SELECT count(*) FROM quota_leases WHERE state = 'open' AND gateway_id = %s", [gateway_id]
    ).fetchone()
    assert row is not None
    return row[0]


def test_a_killed_and_a_paused_gateway_neither_exceed_a_limit_nor_keep_any_of_it(
    stage: tuple[Installation, list[Gateway]],
) -> None:
    installation, gateways = stage
    limit = 90_000
    tenant = limited(installation, ("tokens", "month", limit), ("requests", "year", 1_000_000))
    ids = gateway_ids(installation, gateways, tenant)
    dead, paused, _ = gateways
    assert dead.process is not None and paused.process is not None
    with QuotaWatch(installation, tenant.id) as watch, installation.database() as database:
        with QuotaTraffic([gateway.port for gateway in gateways], [tenant.key]) as traffic:
            wait_until(lambda: all(counter[200] > 30 for counter in traffic.statuses), "all gateways serve", 30)
            assert open_leases(database, ids[0]) > 0 and open_leases(database, ids[1]) > 0
            dead.process.kill()
            paused.process.send(signal.SIGSTOP)
            start = time.monotonic()
            try:
                wait_until(
                    lambda: open_leases(database, ids[0]) == 0 and open_leases(database, ids[1]) == 0,
                    "nothing is held for the dead and the paused",
                    RETURN_SECONDS,
                )
                assert time.monotonic() - start > 1, "the leases were lost before their time"
                before = traffic.statuses[1][200]
            finally:
                paused.process.send(signal.SIGCONT)
            dead.start()
            wait_until(lambda: traffic.statuses[1][200] > before, "the gateway that was paused serves again", 30)
            wait_until(lambda: traffic.count(429) >= 300, "the limit runs out", 90)
            wait_until(lambda: used_up_but_for(installation, tenant, 1_000), "little is left", 60, every=0.5)
        wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
        assert_used_up(gateways, tenant, "tokens")
        wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
        (tokens,) = [sample for sample in quota_samples(database, tenant.id) if sample.unit == "tokens"]
        failed = [row for row in request_rows(database, tenant.id) if row.status == "failed"]
    watch.assert_sound(least=50)
    assert traffic.tokens <= tokens.in_ledger <= limit
    assert tokens.available < 200, tokens
    assert {row.http_status for row in failed} <= {429, 502, 503, 504}, failed
    assert_books_agree(installation, tenant, traffic)


def test_a_changed_limit_reaches_running_leases_within_a_second(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, ("requests", "month", 1_000_000))
    narrow, wide = unique("narrow"), unique("wide")
    make_tier(installation, narrow, [{"unit": "requests", "frequency": "month", "amount": 10, "mode": "hard"}])
    make_tier(installation, wide, [{"unit": "requests", "frequency": "month", "amount": 2_000_000, "mode": "hard"}])
    with QuotaTraffic([gateway.port for gateway in gateways], [tenant.key]) as traffic:
        wait_until(lambda: all(counter[200] > 30 for counter in traffic.statuses), "all gateways serve", 30)
        installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"tier": narrow}, (200,))
        lowered = time.monotonic()
        refused = traffic.count(429)
        wait_until(lambda: traffic.count(429) >= refused + 300, "all are refused", 20)
        time.sleep(max(0.0, lowered + 1.5 - time.monotonic()))
        assert max(traffic.last_sent.values()) <= lowered + 1, "admitted a second after the limit was lowered"
        served = traffic.count(200)
        installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"tier": wide}, (200,))
        wait_until(lambda: traffic.count(200) > served, "requests are admitted again", 1.5)
        wait_until(lambda: all(counter[200] > 30 for counter in traffic.statuses), "all gateways serve again", 30)


def test_a_key_has_a_limit_of_its_own_beside_its_tenants(stage: tuple[Installation, list[Gateway]]) -> None:
    installation, gateways = stage
    tenant = limited(installation, ("requests", "month", 1_000_000), ("tokens", "day", 100_000_000))
    bounded = make_key(installation.admin, tenant.id)
    limit = 123
    made = installation.admin.expect(
        "PUT",
        f"/admin/v1/tenants/{tenant.id}/quotas",
        {"key_id": bounded.key_id, "unit": "requests", "frequency": "month", "amount": limit},
        (200,),
    )
    with QuotaWatch(installation, tenant.id) as watch:
        with QuotaTraffic([gateway.port for gateway in gateways], [tenant.key, bounded.key]) as traffic:
            wait_until(lambda: traffic.count(429) >= 100, "the key's limit runs out", 60)
            served = traffic.count(200)
            wait_until(lambda: traffic.count(200) > served + 50, "the other key is served on", 30)
        with installation.database() as database:
            wait_until(lambda: nothing_held(database, tenant), "idle gateways give everything back", RETURN_SECONDS)
            keys = [entry.key_id for entry in usage_entries(database, tenant.id)]
    watch.assert_sound(least=10)
    assert keys.count(bounded.key_id) == limit
    assert keys.count(tenant.key_id) == len(keys) - limit
    problem = assert_problem(predict(gateways[0].public_url, bounded.key), 429, "quota_exceeded")
    assert problem["violated-policies"] == ["key-requests-month"]
    assert predict(gateways[0].public_url, tenant.key).status == 200
    installation.admin.expect("POST", f"/admin/v1/quotas/{made['id']}/raise", {"amount": 10}, (200,))
    # No gateway has a lease of the key's quota: each asks the database, which knows of the raise at once.
    statuses = [predict(gateways[number % 3].public_url, bounded.key).status for number in range(16)]
    assert statuses == [200] * 10 + [429] * 6, statuses
    shown = get(gateways[2].public_url, "/api/v1/quota", bounded.key).json()["data"]
    (own,) = [quota for quota in shown if quota["level"] == "key"]
    assert (own["limit"], own["settled"], own["held"], own["available"]) == (limit + 10, limit + 10, 0, 0), own
