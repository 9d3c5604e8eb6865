"""Usage sent to Stripe: what is accepted is what the ledger holds, whatever fails and whoever is killed."""

import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from api import assert_problem
from deadline import wait_until
from installation import Gateway, Installation, answers_ok
from journal import set_word, whole_lines
from ledger_stage import fill, instant, past_hour
from ports import free_port
from process import ManagedProcess, clean_environment
from servers import Servers
from tenancy import Tenant, make_tenant

KEY = "sk_test_of_a_receiver"


@dataclass
class Stage:
    installation: Installation
    front: Gateway
    senders: list[Gateway]
    tenants: list[Tenant]
    port: int
    journal: Path

    def mode(self, word: str) -> None:
        set_word(Path(f"{self.journal}.mode"), word)

    def events(self, tenant: Tenant) -> list[dict[str, str]]:
        return [event for event in map(json.loads, whole_lines(self.journal)) if event["identifier"].startswith(tenant.id)]

    def accepted(self, tenant: Tenant) -> Counter[tuple[str, str]]:
        """By hour and meter, each identifier once."""
        sums: Counter[tuple[str, str]] = Counter()
        for event in self.events(tenant):
            if event["outcome"] == "accepted":
                _, window, meter, _ = event["identifier"].split(":")
                sums[(window, meter)] += int(event["payload[value]"])
        return Counter({key: value for key, value in sums.items() if value})

    def ledger(self, tenant: Tenant) -> Counter[tuple[str, str]]:
        with self.installation.database() as database:
            rows = database.execute(
                """SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24"Z"'), m.meter, sum(m.value)::bigint
                FROM ledger, LATERAL (VALUES ('request', requests), ('input_token', input_tokens - cached_input_tokens),
                    ('cached_input_token', cached_input_tokens), ('output_token', output_tokens)) AS m (meter, value)
                WHERE tenant_id = %s AND date_trunc('hour', occurred_at, 'UTC') + interval '1 hour' <= now() GROUP BY 1, 2""",
                [tenant.id],
            ).fetchall()
        return Counter({(window, meter): value for window, meter, value in rows if value})

    def connect(self, tenant: Tenant, since: datetime) -> None:
        self.front.admin.expect(
            "PUT", f"/admin/v1/tenants/{tenant.id}/stripe", {"customer_id": "cus_" + tenant.id[-4:], "since": instant(since)})

    def settled(self, tenant: Tenant, seconds: float = 60) -> None:
        wait_until(lambda: self.accepted(tenant) == self.ledger(tenant) and self.open(tenant) == 0,
            "what was accepted is what the ledger holds", seconds, 0.1)

    def open(self, tenant: Tenant) -> int:
        with self.installation.database() as database:
            return database.execute(
                "SELECT count(*) FROM stripe_deliveries WHERE tenant_id = %s AND state <> 'delivered'", [tenant.id]).fetchone()[0]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        tenants = [make_tenant(installation) for _ in range(12)]
        Servers(installation)
        port, journal = free_port(), installation.log_folder / "stripe.journal"
        receiver = ManagedProcess(
            [sys.executable, str(Path(__file__).with_name("stripe_receiver.py")), str(port), str(journal)],
            installation.log_folder, "stripe", clean_environment())
        installation.processes.append(receiver)
        receiver.wait_ready(lambda: answers_ok(f"http://127.0.0.1:{port}", "/"), "the receiver answers", 20)
        settings = {"WEIR_STRIPE_URL": f"http://127.0.0.1:{port}", "WEIR_STRIPE_KEY": KEY, "WEIR_STRIPE_RETRY_MS": "50"}
        front = installation.gateway("front", {"WEIR_ROLES": "gateway,admin"}).start()
        senders = [installation.gateway(f"sender{n}", {**settings, "WEIR_ROLES": "gateway,jobs"}).start() for n in range(2)]
        yield Stage(installation, front, senders, tenants, port, journal)


@pytest.fixture(autouse=True)
def undisturbed(stage: Stage) -> None:
    stage.mode("ok")


def use(stage: Stage, tenant: Tenant, start: datetime, count: int = 60, hours: int = 3) -> None:
    with stage.installation.database() as database:
        fill(database, tenant.id, count, start, timedelta(hours=hours))


def test_half_a_request_is_none(stage):
    """Who is killed while it sends leaves the beginning of a form, which is no event."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=20) as half:
        half.sendall(
            f"POST /v1/billing/meter_events HTTP/1.1\r\nhost: stripe\r\nauthorization: Bearer {KEY}\r\n"
            "content-length: 200\r\n\r\nevent_name=weir_requests&timest".encode())
        half.shutdown(socket.SHUT_WR)
        assert half.recv(1000) == b""
    assert stage.events(stage.tenants[0]) == []


def test_closed_hours_are_sent_once_by_two_processes(stage):
    tenant, start = stage.tenants[0], past_hour(6)
    stage.connect(tenant, start)
    use(stage, tenant, start)
    stage.settled(tenant)
    events = stage.events(tenant)
    assert {event["outcome"] for event in events} == {"accepted"} and len(events) == 12
    assert {event["event_name"] for event in events} == {
        "weir_requests", "weir_input_tokens", "weir_cached_input_tokens", "weir_output_tokens"}
    for event in events:
        hour = datetime.strptime(event["identifier"].split(":")[1] + "+0000", "%Y%m%dT%HZ%z")
        assert hour.timestamp() <= int(event["timestamp"]) < (hour + timedelta(hours=1)).timestamp()


def test_late_usage_and_corrections_are_the_difference(stage):
    tenant, start = stage.tenants[1], past_hour(6)
    stage.connect(tenant, start)
    use(stage, tenant, start)
    stage.settled(tenant)
    use(stage, tenant, start, 7, 1)
    stage.settled(tenant)
    with stage.installation.database() as database:
        database.execute(
            """INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            SELECT new_uuid7(), tenant_id, key_id, request_id, 'correction', model, tier_version_id, -1, -input_tokens,
                -cached_input_tokens, -output_tokens, 'counted', occurred_at FROM ledger WHERE tenant_id = %s
            ORDER BY entry_id LIMIT 3""", [tenant.id])
    stage.settled(tenant)
    revisions = {event["identifier"].rsplit(":", 1)[1] for event in stage.events(tenant)}
    assert revisions == {"1", "2", "3"}
    assert any(int(event["payload[value]"]) < 0 for event in stage.events(tenant))


def test_usage_before_the_tenant_was_a_customer_is_not_sent(stage):
    tenant = stage.tenants[2]
    use(stage, tenant, past_hour(6), 60, 3)
    stage.connect(tenant, past_hour(4))
    wait_until(lambda: len(stage.events(tenant)) >= 4 and stage.open(tenant) == 0, "the last hour", 60)
    windows = {event["identifier"].split(":")[1] for event in stage.events(tenant)}
    assert windows == {past_hour(4).strftime("%Y%m%dT%HZ")}


def test_faults_lose_and_double_nothing(stage):
    tenant, start = stage.tenants[3], past_hour(12)
    stage.mode("mixed")
    stage.connect(tenant, start)
    use(stage, tenant, start, 300, 8)
    wait_until(lambda: stage.open(tenant) > 0, "deliveries are written", 60)
    wait_until(lambda: stage.open(tenant) == 0, "all are delivered", 120, 0.1)
    assert stage.accepted(tenant) == stage.ledger(tenant)
    outcomes = Counter(event["outcome"] for event in stage.events(tenant))
    assert outcomes["duplicate"] > 0 and outcomes["500"] > 0 and outcomes["429"] > 0, outcomes


def test_killed_senders_lose_and_double_nothing(stage):
    tenant, start = stage.tenants[4], past_hour(20)
    stage.mode("500")
    stage.connect(tenant, start)
    use(stage, tenant, start, 600, 16)
    wait_until(lambda: len(stage.events(tenant)) > 10, "attempts were made", 60)
    stage.mode("mixed")
    with stage.installation.database() as database:
        for number in range(6):
            before = len(stage.events(tenant))
            wait_until(lambda: len(stage.events(tenant)) > before or stage.open(tenant) == 0, "one more attempt", 60)
            sender = stage.senders[number % 2]
            sender.process.kill()
            # A process that is gone keeps its attempts for a minute.
            database.execute("UPDATE stripe_deliveries SET next_attempt_at = now() WHERE state = 'pending'")
            sender.start()
    stage.mode("ok")
    wait_until(lambda: stage.open(tenant) == 0, "all are delivered", 120, 0.1)
    assert stage.accepted(tenant) == stage.ledger(tenant)


def test_what_stripe_refuses_waits_for_an_operator(stage):
    tenant, start = stage.tenants[5], past_hour(3)
    stage.mode("400")
    stage.connect(tenant, start)
    use(stage, tenant, start, 10, 1)

    def failed() -> list[dict]:
        page = stage.front.admin.expect("GET", "/admin/v1/stripe/deliveries?state=failed&limit=100")
        return [row for row in page["data"] if row["tenant_id"] == tenant.id]

    wait_until(lambda: len(failed()) == 4, "all are parked", 60)
    assert {(row["last_status"], row["last_error"]) for row in failed()} == {(400, "resource_missing")}
    stage.mode("ok")
    for row in failed():
        stage.front.admin.expect("POST", "/admin/v1/stripe/deliveries/retry", {"identifier": row["identifier"]})
    stage.settled(tenant)
    gone = stage.front.admin.call("POST", "/admin/v1/stripe/deliveries/retry", {"identifier": "nobody"})
    assert_problem(gone, 404, "not_found")


def test_what_is_too_old_is_parked(stage):
    tenant, start = stage.tenants[6], past_hour(3)
    stage.connect(tenant, start)
    with stage.installation.database() as database:
        database.execute(
            """INSERT INTO stripe_deliveries (identifier, tenant_id, window_start, meter, revision, value)
            SELECT %(t)s || ':old', %(t)s::uuid, date_trunc('hour', now() - interval '36 days', 'UTC'), 'request', 1, 5""", {"t": tenant.id})
        database.execute(
            """INSERT INTO stripe_deliveries (identifier, tenant_id, window_start, meter, revision, value, first_attempt_at)
            SELECT %(t)s || ':unknown', %(t)s::uuid, date_trunc('hour', now() - interval '2 days', 'UTC'), 'request', 1, 5,
                now() - interval '23 hours 1 minute'""", {"t": tenant.id})
        wait_until(
            lambda: dict(database.execute(
                "SELECT split_part(identifier, ':', 2), last_error FROM stripe_deliveries WHERE tenant_id = %s", [tenant.id]).fetchall())
            == {"old": "too_old", "unknown": "outcome_unknown"}, "both are parked", 30)
        with pytest.raises(Exception, match="cannot change"):
            database.execute("UPDATE stripe_deliveries SET value = 1 WHERE tenant_id = %s", [tenant.id])
    assert stage.events(tenant) == []


@pytest.mark.parametrize(("number", "status"), [(7, "401"), (8, "403"), (8, "408")])
def test_what_is_wrong_with_the_key_gives_up_no_delivery(stage, number, status):
    tenant, start = stage.tenants[number], past_hour(3)
    stage.mode(status)
    stage.connect(tenant, start)
    use(stage, tenant, start, 10, 1)

    def tries() -> int:
        return sum(event["outcome"] == status for event in stage.events(tenant))

    wait_until(lambda: tries() >= 8, "each was tried again", 60)
    with stage.installation.database() as database:
        states = database.execute(
            "SELECT DISTINCT state FROM stripe_deliveries WHERE tenant_id = %s AND state <> 'delivered'", [tenant.id]).fetchall()
        assert states == [("pending",)]
        # What was refused was not taken, so no day runs in which Stripe has to know the identifier; of a timeout nobody knows.
        unknown = "SELECT count(first_attempt_at) FROM stripe_deliveries WHERE tenant_id = %s AND state = 'pending'"
        wait_until(
            lambda: database.execute(unknown, [tenant.id]).fetchone()[0] == (4 if status == "408" else 0), "attempts have ended", 60)
        if status != "408":
            # One lost answer, and it runs from there, whatever is refused later.
            stage.mode("500")
            # Not only under way: what is under way still meets the refusal.
            lost = lambda: {event["identifier"] for event in stage.events(tenant) if event["outcome"] == "500"}  # noqa: E731
            wait_until(lambda: len(lost()) == 4, "each failed once", 60)
            wait_until(lambda: database.execute(unknown, [tenant.id]).fetchone()[0] == 4, "each may be known there", 60)
            tried = tries()
            stage.mode(status)
            wait_until(lambda: tries() >= tried + 8, "each was refused again", 60)
            assert database.execute(unknown, [tenant.id]).fetchone()[0] == 4
    stage.mode("ok")
    stage.settled(tenant)


def test_stripe_says_when_to_come_again(stage):
    tenant, start = stage.tenants[9], past_hour(3)
    stage.mode("429:3")
    stage.connect(tenant, start)
    use(stage, tenant, start, 10, 1)
    wait_until(lambda: len(stage.events(tenant)) >= 4, "the first attempts", 60)
    stage.mode("ok")
    stage.settled(tenant)
    times: dict[str, list[float]] = {}
    for event in stage.events(tenant):
        times.setdefault(event["identifier"], []).append(event["at"])
    assert len(times) == 4 and all(second - first >= 3 for first, second in times.values()), times


def reconciled(stage: Stage, tenant: Tenant) -> list[str]:
    answer = stage.front.admin.expect("POST", "/admin/v1/reconcile", {"tenant": tenant.id}, (200,))
    return [each["kind"] for each in answer["differences"] if each["kind"].startswith("stripe")]


def test_who_is_disconnected_has_its_last_usage_sent(stage):
    tenant, start = stage.tenants[10], past_hour(6)
    stage.mode("500")
    stage.connect(tenant, start)
    use(stage, tenant, start, 20, 1)
    wait_until(lambda: stage.open(tenant) == 4, "deliveries are written", 60)
    path = f"/admin/v1/tenants/{tenant.id}/stripe"
    gone = stage.front.admin.expect("PUT", path, {"customer_id": None})
    assert gone["customer_id"] is None and gone["since"] == instant(start) and gone["until"] > instant(datetime.now().astimezone())
    use(stage, tenant, start + timedelta(hours=1), 20, 1)  # becomes known only now
    stage.mode("ok")
    stage.settled(tenant)
    assert reconciled(stage, tenant) == []
    # What comes after the end is not sent, in the middle of an hour as well; and a delivery that is wrong is still found.
    with stage.installation.database() as database:
        database.execute("UPDATE stripe_customers SET until = %s WHERE tenant_id = %s", [start + timedelta(hours=2, minutes=30), tenant.id])
        sent = sum(stage.accepted(tenant).values())
        use(stage, tenant, start + timedelta(hours=2), 40, 1)
        half = database.execute(
            """SELECT sum(requests + input_tokens + output_tokens)::bigint FROM ledger
            WHERE tenant_id = %s AND occurred_at >= %s AND occurred_at < %s""",
            [tenant.id, start + timedelta(hours=2), start + timedelta(hours=2, minutes=30)]).fetchone()[0]
        wait_until(lambda: sum(stage.accepted(tenant).values()) == sent + half, "half an hour is sent", 60)
        assert reconciled(stage, tenant) == [] and stage.open(tenant) == 0
        with database.transaction():
            database.execute("SET LOCAL session_replication_role = replica")
            database.execute("DELETE FROM stripe_deliveries WHERE tenant_id = %s AND meter = 'request'", [tenant.id])
    assert reconciled(stage, tenant) == ["stripe_differs_from_ledger"] * 3


def test_who_becomes_another_customer_leaves_the_old_ones_usage_with_it(stage):
    tenant, start = stage.tenants[11], past_hour(6)
    stage.mode("500")
    stage.connect(tenant, start)
    use(stage, tenant, start, 20, 1)
    wait_until(lambda: stage.open(tenant) == 4, "deliveries are written", 60)
    stage.front.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/stripe", {"customer_id": "cus_other"})
    stage.mode("ok")
    stage.settled(tenant)
    assert {event["payload[stripe_customer_id]"] for event in stage.events(tenant)} == {"cus_" + tenant.id[-4:]}
    use(stage, tenant, start + timedelta(hours=1), 20, 1)
    stage.settled(tenant)
    assert "cus_other" in {event["payload[stripe_customer_id]"] for event in stage.events(tenant)}
    # What is used in the running hour waits for its end; a beginning behind it would leave it to nobody.
    now = datetime.now().astimezone()
    use(stage, tenant, now, 1, 1)
    later = {"customer_id": "cus_third", "since": instant(now + timedelta(hours=1))}
    refused = stage.front.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/stripe", later, (409,))
    assert refused["code"] == "conflict"
    stage.front.admin.expect("PUT", f"/admin/v1/tenants/{tenant.id}/stripe", {"customer_id": "cus_third"})


def test_the_key_is_in_no_log(stage):
    logs = [path for path in stage.installation.log_folder.iterdir() if path.is_file() and "stripe" not in path.name]
    assert logs and not [path.name for path in logs if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("body", [{}, {"customer_id": "a b"}, {"customer_id": "cus_1", "since": "2020-01-01T00:00:00Z"}, {"customer_id": "c", "x": 1}])
def test_bad_customers_are_refused(stage, body):
    answer = stage.front.admin.call("PUT", f"/admin/v1/tenants/{stage.tenants[0].id}/stripe", body)
    assert answer.status in (400, 422), answer.body
