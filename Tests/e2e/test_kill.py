"""`kill -9` under load: billed if and only if committed, answered only if committed. And the proof that these tests can
fail.
"""

from collections.abc import Iterator

import pytest

from api import get
from books import quota_balances
from crash_trial import CRASH_POINTS, CrashTrial
from deadline import wait_until
from installation import Installation, Worker
from postgres_relay import Cut
from reconciliation import Fault
from tenancy import Tenant, make_model, make_tenant, route

pytestmark = pytest.mark.timeout(300)

RANDOM_KILLS = 12


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Installation, list[Worker]]]:
    """An installation whose models are served by workers with journals. The failing model has a worker of its own, so
    that
    what its failures do to a replica does not reach the other."""
    with Installation() as installation:
        with installation.worker("honest") as honest, installation.worker("failing", "--allow-faults") as failing:
            route(installation, "iris", honest.address)
            make_model(installation, "fault-500", feature_count=None)
            route(installation, "fault-500", failing.address)
            yield installation, [honest, failing]


def test_no_kill_loses_or_doubles_a_charge(stage: tuple[Installation, list[Worker]]) -> None:
    installation, workers = stage
    tenant = make_tenant(installation)
    with CrashTrial(installation, tenant, workers, "trial") as trial:
        for point in CRASH_POINTS:
            trial.crash_at(point)
            trial.kill_at_random()
        for _ in range(RANDOM_KILLS - len(CRASH_POINTS)):
            trial.kill_at_random()
        trial.lose_connections(Cut.AFTER_COMMIT, 5)
        trial.lose_connections(Cut.BEFORE_COMMIT, 5)
        trial.end_backends(5)
        assert trial.kill_before_commit() == 0, "answered while no commit could take place"
        trial.serve_some()
        result = trial.finish()
    print(f"{trial.kills} kills: {result}")
    assert result.violations == [], str(result)
    assert trial.kills >= 20
    # The trial hurt: answers were lost, some of them after their commit, and work was lost before it.
    assert result.acknowledged > 1000, str(result)
    assert result.unknown > 0, str(result)
    assert result.refused > 0, str(result)
    assert result.entries > result.acknowledged, str(result)
    assert result.orphan_calls > 0, str(result)
    assert_leases_are_returned(installation, tenant)
    assert_usage_follows(installation, tenant, result.entries)


def assert_leases_are_returned(installation: Installation, tenant: Tenant) -> None:
    """What the dead gateways held is free again, and what is settled is what the ledger says."""
    with installation.database() as database:
        wait_until(
            lambda: all(balance.held == 0 for balance in quota_balances(database, tenant.id)), "no quota is held", 40
        )
        balances = quota_balances(database, tenant.id)
    assert {balance.unit for balance in balances} == {"requests", "tokens"}
    for balance in balances:
        assert balance.settled == balance.in_ledger, balance


def assert_usage_follows(installation: Installation, tenant: Tenant, entries: int) -> None:
    """The customer's usage report comes to the ledger's number, and stays there."""
    wait_until(
        lambda: get(installation.public_url, "/api/v1/usage", tenant.key).json()["total"]["requests"] == entries,
        "the usage report shows every entry once",
        20,
    )


def test_a_gateway_that_answers_before_the_commit_is_caught(stage: tuple[Installation, list[Worker]]) -> None:
    installation, workers = stage
    with CrashTrial(installation, make_tenant(installation), workers, "early", mutant="answer-before-commit") as trial:
        assert trial.kill_before_commit() > 0
        result = trial.finish()
    assert Fault.LOST in result.faults(), str(result)


def test_a_gateway_that_writes_without_on_conflict_is_caught(stage: tuple[Installation, list[Worker]]) -> None:
    installation, workers = stage
    with CrashTrial(installation, make_tenant(installation), workers, "conflict", mutant="no-on-conflict") as trial:
        trial.lose_connections(Cut.AFTER_COMMIT, 5)
        result = trial.finish()
    assert result.faults() & {Fault.REFUSED_BUT_BILLED, Fault.DOUBLE, Fault.UNEXPLAINED}, str(result)


def test_a_gateway_that_bills_failures_is_caught(stage: tuple[Installation, list[Worker]]) -> None:
    installation, workers = stage
    with CrashTrial(installation, make_tenant(installation), workers, "failures", mutant="bill-failed") as trial:
        trial.serve_some()
        result = trial.finish()
    assert Fault.REFUSED_BUT_BILLED in result.faults(), str(result)


def test_a_gateway_that_takes_a_lost_commit_for_a_commit_is_caught(stage: tuple[Installation, list[Worker]]) -> None:
    installation, workers = stage
    with CrashTrial(installation, make_tenant(installation), workers, "loss", mutant="ignore-commit-loss") as trial:
        trial.lose_connections(Cut.BEFORE_COMMIT, 5)
        result = trial.finish()
    assert Fault.LOST in result.faults(), str(result)
