"""Clocks that are wrong and periods that end, under load on gateways that share one database: nothing is granted twice, and every
request is in exactly one period, that of the database's clock."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from api import get
from books import usage_entries
from deadline import wait_until
from installation import Gateway, Installation
from quota_traffic import QuotaTraffic
from quota_watch import QuotaWatch, quota_samples
from tenancy import Tenant, make_tenant, make_tier, unique
from wall_clock import WallClock

pytestmark = pytest.mark.timeout(180)

LEASE_SECONDS = 2
RETURN_SECONDS = LEASE_SECONDS + 5
WRONG = "the clock of this machine is not the database's"
RIGHT = "the clock of this machine is the database's again"


@dataclass
class Stage:
    installation: Installation
    gateways: list[Gateway]
    clock: WallClock

    @property
    def jumper(self) -> Gateway:
        """The gateway that reads the clock."""
        return self.gateways[-1]

    @property
    def ports(self) -> list[int]:
        return [gateway.port for gateway in self.gateways]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        clock = WallClock(installation.log_folder)
        environment = {"WEIR_LEASE_SECONDS": str(LEASE_SECONDS)}
        gateways = [installation.gateway("steady", environment).start()]
        gateways.append(installation.gateway("jumper", {**environment, **clock.environment}).start())
        yield Stage(installation, gateways, clock)


def limited(stage: Stage, *quotas: tuple[str, str, int]) -> Tenant:
    tier = unique("timed")
    rules = [{"unit": unit, "frequency": often, "amount": amount, "mode": "hard"} for unit, often, amount in quotas]
    make_tier(stage.installation, tier, rules)
    return make_tenant(stage.installation, tier)


def let_minute_end(stage: Stage, tenants: list[Tenant], after_seconds: float) -> datetime:
    """Moves the edges of the tenants' minutes, so that one comes soon; returns it once every gateway knows."""
    with stage.installation.database() as database:
        now = database_time(database)
        edge = (now + timedelta(seconds=after_seconds)).replace(microsecond=0)
        for tenant in tenants:
            database.execute(
                "UPDATE quotas SET anchor = %s WHERE tenant_id = %s AND frequency = 'minute'",
                [edge - timedelta(hours=1), tenant.id],
            )
    for gateway in stage.gateways:
        for tenant in tenants:
            wait_until(lambda g=gateway, t=tenant: minute(g, t)["period_end"] == text(edge), "the edge is known", 5)
    return edge


def minute(gateway: Gateway, tenant: Tenant) -> dict[str, Any]:
    shown = get(gateway.public_url, "/api/v1/quota", tenant.key).json()["data"]
    return next(quota for quota in shown if quota["frequency"] == "minute")


def text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def database_time(database: psycopg.Connection) -> datetime:
    row = database.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'").fetchone()
    assert row is not None
    return row[0].replace(tzinfo=None)


@dataclass(frozen=True)
class PeriodRow:
    """A period of a quota, and the entries that were charged to leases of it."""

    frequency: str
    start: datetime
    settled: int
    held: int
    charged: int
    first_posted: datetime | None
    last_occurred: datetime | None


def period_rows(database: psycopg.Connection, tenant: Tenant) -> list[PeriodRow]:
    rows = database.execute(
        "SELECT q.frequency, p.period_start AT TIME ZONE 'UTC', p.settled, p.held, count(e.entry_id),"
        " min(e.posted_at) AT TIME ZONE 'UTC', max(e.occurred_at) AT TIME ZONE 'UTC'"
        " FROM quotas q JOIN quota_periods p USING (quota_id)"
        " LEFT JOIN quota_lease_slices s ON s.quota_id = p.quota_id AND s.period_start = p.period_start"
        " LEFT JOIN ledger e ON e.lease_id = s.lease_id"
        " WHERE q.tenant_id = %s AND q.unit = 'requests' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2",
        [tenant.id],
    ).fetchall()
    return [PeriodRow(*row) for row in rows]


def nothing_held(database: psycopg.Connection, *tenants: Tenant) -> bool:
    row = database.execute(
        "SELECT count(*) FROM quota_leases WHERE state = 'open' AND tenant_id = ANY (%s::uuid[])",
        [[tenant.id for tenant in tenants]],
    ).fetchone()
    return row == (0,)


def assert_each_request_in_one_period(stage: Stage, tenant: Tenant, acknowledged: int) -> list[PeriodRow]:
    """The periods of each quota, the ledger and the answers come to the same."""
    with stage.installation.database() as database:
        entries = len(usage_entries(database, tenant.id))
        rows = period_rows(database, tenant)
        durations = database.execute(
            "SELECT count(*) FILTER (WHERE processing_us < 0 OR completed_at < created_at), count(*) FROM requests"
            " WHERE tenant_id = %s",
            [tenant.id],
        ).fetchone()
    assert durations is not None and durations[0] == 0 and durations[1] >= entries
    for row in rows:
        assert (row.settled, row.held) == (row.charged, 0), row
    for frequency in {row.frequency for row in rows}:
        assert sum(row.settled for row in rows if row.frequency == frequency) == entries, rows
    assert acknowledged <= entries, "an answer is not in the ledger"
    return rows


def test_load_over_the_end_of_a_period_is_in_one_period_each(stage: Stage) -> None:
    limit = 250
    narrow = limited(stage, ("requests", "minute", limit), ("requests", "year", 1_000_000_000))
    wide = limited(stage, ("requests", "minute", 1_000_000), ("requests", "month", 1_000_000_000))
    edge = let_minute_end(stage, [narrow, wide], 25)
    with stage.installation.database() as database:
        with QuotaTraffic(stage.ports, [narrow.key, wide.key], clients=16) as traffic:
            # Refused before the edge, served again after it, refused once more.
            wait_until(lambda: traffic.count(429) >= 40, "the first period is used up", 30)
            assert database_time(database) < edge, "this machine is too slow for this test"
            wait_until(lambda: database_time(database) > edge, "the period ends", 30)
            refused = traffic.count(429)
            wait_until(lambda: traffic.count(429) > refused + 60, "the second period is used up", 30)
        wait_until(lambda: nothing_held(database, narrow, wide), "idle gateways give everything back", RETURN_SECONDS)
        served = {tenant.id: len(usage_entries(database, tenant.id)) for tenant in (narrow, wide)}
    assert set().union(*traffic.statuses) == {200, 429}, traffic.statuses
    assert traffic.count(200) == sum(served.values())
    for tenant in (narrow, wide):
        rows = assert_each_request_in_one_period(stage, tenant, served[tenant.id])
        first, second = [row for row in rows if row.frequency == "minute"]
        assert second.start == edge
        assert first.charged > 0 and second.charged > 0
        assert first.last_occurred is not None and second.first_posted is not None
        assert first.last_occurred < edge, "a request of the second period was charged to the first"
        assert second.first_posted > edge - timedelta(milliseconds=100), "charged before the period began"
        if tenant is narrow:
            assert (first.settled, second.settled) == (limit, limit)


def log_of(gateway: Gateway) -> str:
    assert gateway.process is not None
    return gateway.process.stderr_path.read_text(errors="replace")


def clock_metric(gateway: Gateway) -> float:
    found = re.search(r"^weir_clock_wrong (\S+)$", gateway.admin.call("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def test_a_gateway_whose_clock_jumps_charges_by_the_databases_clock(stage: Stage) -> None:
    limit = 400
    wide = limited(stage, ("requests", "minute", 1_000_000), ("requests", "month", 1_000_000_000))
    narrow = limited(stage, ("requests", "month", limit), ("requests", "minute", 1_000_000))
    edge = let_minute_end(stage, [wide, narrow], 8)
    with stage.installation.database() as database:
        began = database_time(database)
        with (
            QuotaWatch(stage.installation, wide.id, narrow.id) as watch,
            QuotaTraffic(stage.ports, [wide.key, narrow.key], clients=12) as traffic,
        ):
            wait_until(lambda: all(counter[200] > 20 for counter in traffic.statuses), "both gateways serve", 30)
            assert clock_metric(stage.jumper) == 0 and WRONG not in log_of(stage.jumper)
            hour, day = 3_600, 86_400
            for seconds in (hour, -hour, -day, 40 * day, -hour):
                stage.clock.shift(seconds)
                before = traffic.statuses[1][200]
                wait_until(lambda: clock_metric(stage.jumper) == 1, f"it says that it is off by {seconds} s", 10)
                wait_until(lambda: traffic.statuses[1][200] > before + 20, f"it serves, off by {seconds} s", 10)
            assert WRONG in log_of(stage.jumper)
            # Still an hour behind when the period ends.
            wait_until(lambda: database_time(database) > edge + timedelta(seconds=1), "the period ends", 60)
            stage.clock.shift(0)
            wait_until(lambda: RIGHT in log_of(stage.jumper), "it says that its clock is right again", 10)
            assert clock_metric(stage.jumper) == 0
            wait_until(lambda: traffic.count(429) >= 20, "the limit of a month runs out", 60)
        wait_until(lambda: nothing_held(database, wide, narrow), "idle gateways give everything back", RETURN_SECONDS)
        ended = database_time(database)
        (month,) = [sample for sample in quota_samples(database, narrow.id) if sample.frequency == "month"]
        outside = database.execute(
            "SELECT count(*) FROM ledger WHERE tenant_id = ANY (%s::uuid[])"
            " AND NOT occurred_at AT TIME ZONE 'UTC' BETWEEN %s AND %s",
            [[wide.id, narrow.id], began - timedelta(seconds=2), ended],
        ).fetchone()
        entries = {tenant.id: len(usage_entries(database, tenant.id)) for tenant in (wide, narrow)}
    watch.assert_sound(least=20)
    assert set().union(*traffic.statuses) <= {200, 429, 503}, traffic.statuses
    assert outside == (0,), "a wrong clock dated usage"
    assert traffic.count(200) <= sum(entries.values())
    assert (month.in_ledger, month.available) == (limit, 0)
    for tenant in (wide, narrow):
        rows = assert_each_request_in_one_period(stage, tenant, entries[tenant.id])
        minutes = [row for row in rows if row.frequency == "minute"]
        assert [row.start for row in minutes] == [edge - timedelta(minutes=1), edge][: len(minutes)]
    first, second = [row for row in period_rows_of(stage, wide) if row.frequency == "minute"]
    assert first.charged > 0 and second.charged > 0
    assert second.first_posted is not None and second.first_posted > edge - timedelta(milliseconds=100)


def period_rows_of(stage: Stage, tenant: Tenant) -> list[PeriodRow]:
    with stage.installation.database() as database:
        return period_rows(database, tenant)


def test_durations_are_those_of_a_clock_that_never_jumps(stage: Stage) -> None:
    """A rate limit and a lease last as long as they last, whatever the wall clock says meanwhile."""
    tenant = limited(stage, ("requests", "month", 1_000_000))
    limits = [{"scope": "tenant", "unit": "requests", "amount": 60, "burst": 3}]
    stage.installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", {"rate_limits": limits}, (200,))
    with QuotaTraffic([stage.jumper.port], [tenant.key], clients=4) as traffic:
        start = time.monotonic()
        for seconds in (3_600, -3_600, -86_400, 0):
            stage.clock.shift(seconds)
            wait_until(lambda: time.monotonic() > start + 1, "a second passes", 3)
            start = time.monotonic()
    # Four seconds at one a second, and the burst; a clock that counted would have earned an hour's worth.
    assert 4 <= traffic.count(200) <= 3 + 4 + 3, traffic.statuses
    assert set().union(*traffic.statuses) == {200, 429}
