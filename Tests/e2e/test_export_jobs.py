"""Exports that jobs write: parts that are whole, a manifest that comes last, the same result after a kill, and no entry twice or never."""

import csv
import hashlib
import io
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest

from api import assert_problem, get
from deadline import wait_until
from downloads import download
from installation import Gateway, Installation, binary
from ledger_stage import fill, instant, past_hour
from servers import Servers
from tenancy import Tenant, make_tenant

ROWS = 1_000
SETTINGS = {"WEIR_EXPORT_PART_ROWS": str(ROWS), "WEIR_EXPORT_LEASE_SECONDS": "4", "WEIR_EXPORT_KEEP_HOURS": "1"}


@dataclass
class Stage:
    installation: Installation
    front: Gateway
    writer: Gateway
    tenants: list[Tenant]

    def create(self, **more: object) -> dict:
        return self.front.admin.expect("POST", "/admin/v1/exports", more, (202,))

    def read(self, export_id: str, path: str = "") -> dict:
        return self.front.admin.expect("GET", f"/admin/v1/exports/{export_id}{path}")

    def ended(self, export_id: str, seconds: float = 60) -> dict:
        wait_until(lambda: self.read(export_id)["state"] not in ("queued", "running"), "the export has ended", seconds)
        return self.read(export_id)

    def part(self, export_id: str, number: int) -> bytes:
        found = download(self.front.admin_url, f"/admin/v1/exports/{export_id}/parts/{number}", self.installation.admin_key)
        assert found.status == 200 and found.is_whole
        assert found.headers["etag"].strip('"') == hashlib.sha256(found.body).hexdigest()
        return found.body

    def rows(self, export_id: str) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = []
        for part in self.read(export_id, "/manifest")["parts"]:
            body = self.part(export_id, part["part"])
            assert (len(body), hashlib.sha256(body).hexdigest()) == (part["bytes"], part["sha256"])
            these = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
            assert (len(these), these[0]["entry_id"], these[-1]["entry_id"]) == (
                part["rows"], part["first_entry"], part["last_entry"],
            )
            rows += these
        return rows


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        tenants = [make_tenant(installation) for _ in range(6)]
        Servers(installation)
        front = installation.gateway("front", {**SETTINGS, "WEIR_ROLES": "gateway,admin"}).start()
        writer = installation.gateway("writer", {**SETTINGS, "WEIR_ROLES": "gateway,jobs"}).start()
        yield Stage(installation, front, writer, tenants)


def window(start, hours: int = 1) -> dict[str, str]:
    return {"start": instant(start), "end": instant(start + timedelta(hours=hours))}


def test_parts_and_manifest_hold_the_window_exactly(stage):
    tenant, start = stage.tenants[0], past_hour(5)
    with stage.installation.database() as database:
        fill(database, tenant.id, 2_500, start)
        fill(database, stage.tenants[1].id, 100, start)
        sums = database.execute(
            """SELECT count(*), sum(requests)::bigint, sum(input_tokens)::bigint, sum(cached_input_tokens)::bigint,
                sum(output_tokens)::bigint FROM ledger WHERE tenant_id = %s""",
            [tenant.id],
        ).fetchone()
    made = stage.create(format="csv", tenant=tenant.id, **window(start))
    done = stage.ended(made["id"])
    assert (done["state"], done["parts"], done["rows"]) == ("completed", 3, 2_500), done
    manifest = stage.read(made["id"], "/manifest")
    names = ("rows", "requests", "input_tokens", "cached_input_tokens", "output_tokens")
    assert tuple(manifest[name] for name in names) == sums
    for name in names:
        assert sum(part[name] for part in manifest["parts"]) == manifest[name]
    rows = stage.rows(made["id"])
    assert len({row["entry_id"] for row in rows}) == 2_500 and {row["tenant_id"] for row in rows} == {tenant.id}
    every = stage.create(format="csv", **window(start))
    stage.ended(every["id"])
    assert len(stage.rows(every["id"])) == 2_600


def test_an_empty_window_has_a_manifest(stage):
    made = stage.create(format="jsonl", tenant=stage.tenants[0].id, start="2026-01-01T00:00:00Z", end="2026-01-02T00:00:00Z")
    assert stage.ended(made["id"])["state"] == "completed"
    manifest = stage.read(made["id"], "/manifest")
    assert (manifest["rows"], manifest["bytes"], manifest["parts"], manifest["requests"]) == (0, 0, [], 0)


def test_sums_are_written_too(stage):
    tenant, start = stage.tenants[2], past_hour(9)
    with stage.installation.database() as database:
        fill(database, tenant.id, 300, start, timedelta(hours=3))
    made = stage.create(format="csv", tenant=tenant.id, granularity="hour", **window(start, 3))
    stage.ended(made["id"])
    rows = list(csv.DictReader(io.StringIO(stage.part(made["id"], 1).decode(), newline="")))
    assert [int(row["requests"]) for row in rows] == [100, 100, 100]
    assert stage.read(made["id"], "/manifest")["requests"] == 300


def test_a_killed_export_goes_on_at_its_last_whole_part_and_ends_the_same(stage):
    tenant, start = stage.tenants[3], past_hour(20)
    with stage.installation.database() as database:
        fill(database, tenant.id, 60_000, start)
        undisturbed = stage.create(format="csv", tenant=tenant.id, **window(start))
        stage.ended(undisturbed["id"], 120)
        expected = stage.read(undisturbed["id"], "/manifest")
        made = stage.create(format="csv", tenant=tenant.id, **window(start))
        kills = 0
        while kills < 3 and stage.read(made["id"])["state"] in ("queued", "running"):
            reached = stage.read(made["id"])["parts"]
            wait_until(
                lambda: stage.read(made["id"])["parts"] >= reached + 3 or stage.read(made["id"])["state"] == "completed",
                "it gets on", 60, 0.005,
            )
            stage.writer.process.kill()
            kills += 1
            stage.writer.start()
        assert stage.ended(made["id"], 120)["state"] == "completed"
        attempts = database.execute("SELECT attempt FROM exports WHERE export_id = %s", [made["id"][4:]]).fetchone()[0]
        loose = database.execute(
            """SELECT count(*) FROM export_pieces p WHERE export_id = %s AND NOT EXISTS (SELECT FROM export_parts x
                WHERE x.export_id = p.export_id AND x.part = p.part AND x.attempt = p.attempt)""",
            [made["id"][4:]],
        ).fetchone()[0]
    assert kills >= 1 and attempts >= 2, (kills, attempts)
    assert loose == 0
    again = stage.read(made["id"], "/manifest")
    for changing in ("export_id", "to_position"):
        expected.pop(changing), again.pop(changing)
    assert again == expected
    assert len({row["entry_id"] for row in stage.rows(made["id"])}) == 60_000


def test_what_a_slower_attempt_says_counts_no_more(stage):
    stage.writer.stop()
    try:
        made = stage.create(format="csv", **window(past_hour(5)))
        key = made["id"][4:]
        with stage.installation.database() as database:

            def ask(question: str, *values: object) -> object:
                return database.execute(f"SELECT {question}", values).fetchone()[0]

            first, second = (ask("attempt FROM claim_export(0)") for _ in range(2))
            assert second == first + 1
            for attempt, holds in ((first, False), (second, True)):
                assert ask("append_export_piece(%s, %s, 1, 1, 'x'::bytea, 0)", key, attempt) is holds
                part = "finish_export_part(%s, %s, 1, 1, 1, 1, sha256('x'), NULL, NULL, 1, 1, 0, 1, 0)"
                assert ask(part, key, attempt) is holds
            third = ask("attempt FROM claim_export(0)")
            kept = "SELECT part, attempt, position FROM export_pieces WHERE export_id = %s"
            assert database.execute(kept, [key]).fetchall() == [(1, second, 1)]
            assert ask("complete_export(%s, %s, 1)", key, second) is False
            assert ask("fail_export(%s, %s, 'a test')", key, third) is True
        assert (stage.read(made["id"])["state"], stage.read(made["id"])["error"]) == ("failed", "a test")
    finally:
        stage.writer.start()


def test_two_writers_do_not_write_an_export_twice(stage):
    tenant, start = stage.tenants[3], past_hour(20)
    other = stage.installation.gateway("other", {**SETTINGS, "WEIR_ROLES": "gateway,jobs"}).start()
    made = [stage.create(format="csv", tenant=tenant.id, **window(start))["id"] for _ in range(4)]
    manifests = []
    for one in made:
        assert stage.ended(one, 180)["state"] == "completed"
        manifests.append(stage.read(one, "/manifest"))
    other.stop()
    assert len({json.dumps(manifest["parts"]) for manifest in manifests}) == 1


def test_incremental_exports_hold_each_entry_once_also_one_that_commits_late(stage):
    tenant, start = stage.tenants[4], past_hour(6)
    seen: list[str] = []

    def take() -> None:
        made = stage.create(format="csv", tenant=tenant.id, incremental=True)
        assert stage.ended(made["id"])["state"] == "completed"
        seen.extend(row["entry_id"] for row in stage.rows(made["id"]))

    with stage.installation.database() as database, stage.installation.database() as slow:
        take()
        fill(database, tenant.id, 50, start)
        take()
        with slow.transaction():
            fill(slow, tenant.id, 10, start)  # its transaction is open while the next export is made
            fill(database, tenant.id, 20, start)
            take()
        take()
        wait_until(
            lambda: take() or len(seen) == 80, "all are there (other transactions of the server hold the position back)", 60, 0.5
        )
        entries = {row[0] for row in database.execute(
            "SELECT 'led_' || entry_id FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchall()}
    assert len(seen) == len(set(seen)) == 80 and set(seen) == entries


def test_one_incremental_export_at_a_time(stage):
    stage.writer.stop()
    try:
        made = stage.create(format="jsonl", tenant=stage.tenants[5].id, incremental=True)
        answer = stage.front.admin.call(
            "POST", "/admin/v1/exports", {"format": "jsonl", "tenant": stage.tenants[5].id, "incremental": True})
        assert_problem(answer, 409, "conflict")
        assert stage.read(made["id"])["state"] == "queued"
        assert_problem(get(stage.front.admin_url, f"/admin/v1/exports/{made['id']}/manifest", stage.installation.admin_key), 409, "conflict")
        cancelled = stage.front.admin.expect("POST", f"/admin/v1/exports/{made['id']}/cancel", None)
        assert cancelled["state"] == "cancelled"
        assert_problem(stage.front.admin.call("POST", f"/admin/v1/exports/{made['id']}/cancel"), 409, "conflict")
    finally:
        stage.writer.start()


def test_a_claim_is_kept_while_the_rows_of_a_part_wait_for_longer_than_a_lease(stage):
    other = stage.installation.gateway("another", {**SETTINGS, "WEIR_ROLES": "gateway,jobs"}).start()
    try:
        with stage.installation.database() as database, stage.installation.database() as blocker:
            with blocker.transaction():
                blocker.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
                made = stage.create(format="csv", tenant=stage.tenants[0].id, **window(past_hour(5)))
                wait_until(lambda: stage.read(made["id"])["state"] == "running", "it is taken", 30)
                began = time.monotonic()
                dues = set()
                while time.monotonic() - began < 14:  # three leases and a half
                    attempt, due = database.execute(
                        "SELECT attempt, due_at FROM exports WHERE export_id = %s", [made["id"][4:]]).fetchone()
                    assert attempt == 1
                    dues.add(due)
                    time.sleep(0.1)
            assert stage.ended(made["id"])["state"] == "completed"
            assert len(dues) > 3 and stage.read(made["id"])["rows"] == 2_500
            key = made["id"][4:]
            assert database.execute("SELECT renew_export(%s, 1, 1000)", [key]).fetchone()[0] is False
    finally:
        other.stop()


def test_a_reader_that_keeps_its_position_begins_where_it_says(stage):
    tenant, start = stage.tenants[5], past_hour(7)

    def take(**more: object) -> tuple[str, list[str]]:
        made = stage.create(format="csv", tenant=tenant.id, incremental=True, **more)
        assert stage.ended(made["id"])["state"] == "completed"
        return made["next"], [row["entry_id"] for row in stage.rows(made["id"])]

    with stage.installation.database() as database:
        position, rows = take()
        assert rows == []
        fill(database, tenant.id, 30, start)
        entries = {row[0] for row in database.execute(
            "SELECT 'led_' || entry_id FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchall()}
        taken: list[tuple[str, list[str]]] = []
        wait_until(
            lambda: taken.append(take(after_position=position)) or len(taken[-1][1]) == 30,
            "all are there (other transactions of the server hold the position back)", 60, 0.5)
        behind, rows = taken[-1]
        assert set(rows) == entries and int(behind) > int(position)
        # Whoever has lost them asks again; and those who keep no position have missed nothing.
        assert set(take(after_position=position)[1]) == entries
        assert take(after_position=behind)[1] == []
        assert set(take()[1]) == entries
    for bad in ("99999999999999", "-1", "01", "x", 7, ""):
        body = {"format": "csv", "tenant": tenant.id, "incremental": True, "after_position": bad}
        assert_problem(stage.front.admin.call("POST", "/admin/v1/exports", body), 422, "validation_failed")
    body = {"format": "csv", "tenant": tenant.id, "after_position": "7", **window(start)}
    assert_problem(stage.front.admin.call("POST", "/admin/v1/exports", body), 422, "validation_failed")


def test_a_manifest_says_whether_its_window_is_final(stage):
    now = datetime.now(timezone.utc).replace(microsecond=0)
    for end, final in ((now - timedelta(minutes=61), True), (now - timedelta(minutes=59), False), (now - timedelta(seconds=5), False)):
        made = stage.create(format="csv", tenant=stage.tenants[0].id, start=instant(end - timedelta(minutes=5)), end=instant(end))
        assert stage.ended(made["id"])["state"] == "completed" and made["next"] is None
        assert stage.read(made["id"], "/manifest")["final"] is final


def test_parts_go_and_the_manifest_stays(stage):
    tenant, start = stage.tenants[0], past_hour(5)
    made = stage.create(format="csv", tenant=tenant.id, **window(start))
    stage.ended(made["id"])
    with stage.installation.database() as database:
        database.execute("ALTER TABLE exports DISABLE TRIGGER exports_immutable")
        database.execute("UPDATE exports SET expires_at = now() - interval '1 second' WHERE export_id = %s", [made["id"][4:]])
        database.execute("ALTER TABLE exports ENABLE TRIGGER exports_immutable")
        database.execute("SELECT remove_expired_exports(10)")
    assert stage.read(made["id"], "/manifest")["rows"] == 2_500
    answer = get(stage.front.admin_url, f"/admin/v1/exports/{made['id']}/parts/1", stage.installation.admin_key)
    assert_problem(answer, 410, "result_gone")


@pytest.mark.parametrize("body", [
    {"format": "csv"},
    {"format": "csv", "start": "2026-01-01T00:00:00Z", "end": "2999-01-02T00:00:00Z"},
    {"format": "csv", "incremental": True, "start": "2026-01-01T00:00:00Z"},
    {"format": "focus", "incremental": True},
    {"format": "csv", "start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
])
def test_what_cannot_be_written_is_refused(stage, body):
    assert_problem(stage.front.admin.call("POST", "/admin/v1/exports", body), 422, "validation_failed")


def test_unknown_ones_are_not_found(stage):
    unknown = "exp_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42"
    for path in ("", "/manifest", "/parts/1"):
        assert_problem(get(stage.front.admin_url, f"/admin/v1/exports/{unknown}{path}", stage.installation.admin_key), 404, "not_found")
    tenant = "0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42"
    body = {"format": "csv", "tenant": tenant, "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    assert_problem(stage.front.admin.call("POST", "/admin/v1/exports", body), 404, "not_found")


def test_the_command_line_creates_lists_shows_and_fetches(stage, tmp_path):
    def weir(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary(), *arguments], capture_output=True, text=True, timeout=60,
            env={"WEIR_ADMIN_URL": stage.front.admin_url, "WEIR_ADMIN_KEY": stage.installation.admin_key, "PATH": "/usr/bin:/bin"},
        )

    span = window(past_hour(5))
    made = weir("exports", "create", "--format", "csv", "--start", span["start"], "--end", span["end"], "--json")
    export_id = json.loads(made.stdout)["id"]
    stage.ended(export_id)
    assert export_id in weir("exports", "list").stdout and "completed" in weir("exports", "show", export_id).stdout
    fetched = weir("exports", "download", export_id, "--to", str(tmp_path / "x"))
    assert fetched.returncode == 0, fetched.stderr
    manifest = json.loads((tmp_path / "x/manifest.json").read_text())
    parts = sorted((tmp_path / "x").glob("part-*"))
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in parts] == [part["sha256"] for part in manifest["parts"]]
    file = tmp_path / "usage.csv"
    streamed = weir("usage", "export", "--start", span["start"], "--end", span["end"], "--to", str(file))
    assert streamed.returncode == 0, streamed.stderr
    assert len(list(csv.DictReader(file.open(newline="")))) == manifest["rows"]
