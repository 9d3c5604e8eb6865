"""Quota read past the product while it is being used: every 100 ms, in one statement, so that the numbers belong
together.
"""

import threading
import time
from dataclasses import dataclass

import psycopg

from installation import Installation

# What the product calls settled and held counts what open leases have spent as settled, as GET /api/v1/quota does.
_STATEMENT = """
    SELECT q.unit, q.frequency, q.amount, coalesce(p.settled, 0), coalesce(p.held, 0), open.granted, open.spent,
        open.above,
        (SELECT coalesce(sum(CASE q.unit WHEN 'requests' THEN l.requests ELSE l.input_tokens + l.output_tokens END),
            0)::bigint FROM ledger l WHERE l.tenant_id = q.tenant_id AND (q.key_id IS NULL OR l.key_id = q.key_id))
    FROM quotas q LEFT JOIN quota_periods p USING (quota_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(o.granted), 0)::bigint AS granted, coalesce(sum(o.spent), 0)::bigint AS spent,
            count(*) FILTER (WHERE o.spent > o.granted) AS above
        FROM (
            SELECT s.granted, (SELECT coalesce(sum(CASE q.unit WHEN 'requests' THEN e.requests
                ELSE e.input_tokens + e.output_tokens END), 0)::bigint
                FROM ledger e WHERE e.lease_id = s.lease_id) AS spent
            FROM quota_lease_slices s JOIN quota_leases l USING (lease_id)
            WHERE l.state = 'open' AND s.quota_id = q.quota_id AND s.period_start = p.period_start
        ) o
    ) open
    WHERE q.tenant_id = %s AND q.mode = 'hard' AND q.retired_at IS NULL AND q.frequency <> 'minute'
"""


@dataclass(frozen=True)
class QuotaSample:
    """One quota at one instant."""

    unit: str
    frequency: str
    limit: int
    booked: int
    granted: int
    granted_by_leases: int
    spent_on_leases: int
    leases_above: int
    in_ledger: int

    @property
    def settled(self) -> int:
        return self.booked + self.spent_on_leases

    @property
    def held(self) -> int:
        return self.granted - self.spent_on_leases

    @property
    def available(self) -> int:
        return self.limit - self.booked - self.granted

    def faults(self) -> list[str]:
        """Every way in which the numbers do not belong together."""
        found = []
        if self.available + self.held + self.settled != self.limit:
            found.append("available + held + settled is not the limit")
        if self.available < 0:
            found.append("more is promised than there is")
        if self.granted != self.granted_by_leases:
            found.append("held is not what open leases have")
        if self.settled != self.in_ledger:
            found.append("settled is not what the ledger says")
        if self.leases_above:
            found.append("more was spent on a lease than it has")
        return found


def quota_samples(database: psycopg.Connection, tenant_id: str) -> list[QuotaSample]:
    return [QuotaSample(*row) for row in database.execute(_STATEMENT, [tenant_id]).fetchall()]


class QuotaWatch:
    """Samples the hard quotas of tenants until it is stopped. Use as a context manager."""

    def __init__(self, installation: Installation, *tenant_ids: str) -> None:
        self._database = installation.database()
        self._tenant_ids = tenant_ids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quota-watch")
        self.count = 0
        self.faults: list[tuple[str, QuotaSample]] = []
        self.failure: Exception | None = None

    def __enter__(self) -> "QuotaWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._database.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                start = time.monotonic()
                for tenant_id in self._tenant_ids:
                    for sample in quota_samples(self._database, tenant_id):
                        self.count += 1
                        self.faults += [(fault, sample) for fault in sample.faults()]
                self._stopping.wait(max(0.0, 0.1 - (time.monotonic() - start)))
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.failure = error

    def assert_sound(self, least: int) -> None:
        assert self.failure is None, self.failure
        assert self.faults == [], self.faults[:5]
        assert self.count >= least, f"only {self.count} samples"
