"""Usage of models: exact on two gateways of which one is killed in the middle, and the same after it was rebuilt."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from deadline import wait_until
from installation import Installation
from load import Load, Share
from record import ClientRecord
from tenancy import make_model, make_tenant, route

COUNTED = """
    SELECT r.model, usage_bucket(r.created_at), count(l.entry_id), coalesce(sum(l.input_tokens + l.output_tokens), 0),
        count(*) FILTER (WHERE r.status = 'failed'), sum(coalesce(r.processing_us, 0))
    FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id GROUP BY 1, 2 ORDER BY 1, 2
"""
ROLLED_UP = """
    SELECT model_name, time_window, request_count, token_count, error_count, busy_us FROM model_usage_metrics
    WHERE request_count + error_count > 0 ORDER BY 1, 2
"""


def instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_buckets_are_exact_and_rebuilding_changes_nothing(tmp_path: Path) -> None:
    with Installation() as installation, installation.worker("failing", "--allow-faults") as failing:
        make_model(installation, "fault-500", feature_count=None)
        route(installation, "fault-500", failing.address)
        tenant = make_tenant(installation)
        first, second = installation.gateway("first").start(), installation.gateway("second").start()
        mix = (Share("iris", 3), Share("fault-500", 1))
        with (
            Load(first.port, tenant.key, ClientRecord(tmp_path / "first"), 16, mix),
            Load(second.port, tenant.key, ClientRecord(tmp_path / "second"), 16, mix) as survivor,
        ):
            with installation.database() as database:
                wait_until(
                    lambda: database.execute("SELECT count(*) > 300 FROM requests").fetchone() == (True,), "load", 40
                )
                first.process.kill()
                before = database.execute("SELECT count(*) FROM requests").fetchone()[0]
                wait_until(
                    lambda: database.execute("SELECT count(*) FROM requests").fetchone()[0] > before + 200, "more", 40
                )
            survivor.stop()
        with installation.database() as database:
            wait_until(
                lambda: database.execute(ROLLED_UP).fetchall() == database.execute(COUNTED).fetchall(),
                "the buckets are what ledger and requests say",
                40,
            )
            rolled_up = database.execute(ROLLED_UP).fetchall()
            assert sum(row[2] for row in rolled_up) > 200 and sum(row[4] for row in rolled_up) > 50, rolled_up
            usage = database.execute("SELECT * FROM usage ORDER BY 1, 2, 3, 4, 5").fetchall()

            now = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
            span = {"from": instant(now - timedelta(hours=2)), "to": instant(now + timedelta(hours=2))}
            rebuilt = installation.admin.expect("POST", "/admin/v1/usage/rebuild", span)
            assert rebuilt["buckets"] >= len(rolled_up)
            assert database.execute(ROLLED_UP).fetchall() == rolled_up
            assert database.execute("SELECT * FROM usage ORDER BY 1, 2, 3, 4, 5").fetchall() == usage

        answer = installation.admin.expect("GET", f"/admin/v1/models/iris/usage?from={span['from']}&to={span['to']}")
        assert [row["requests"] for row in answer["data"]] == [row[2] for row in rolled_up if row[0] == "iris"]
        assert [row["busy_ms"] for row in answer["data"]] == [row[5] // 1_000 for row in rolled_up if row[0] == "iris"]
        assert answer["desired_replicas"] >= 1
        second.stop()
        with installation.database() as database:
            deepest = database.execute("SELECT max(queue_depth) FROM model_usage_metrics").fetchone()[0]
        assert 1 <= deepest <= 16, "what a gateway saw is noted at its end"
