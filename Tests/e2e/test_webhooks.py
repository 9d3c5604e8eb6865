"""Webhooks: signed as Standard Webhooks says, at least once under one id, to no address that is not the public's, from any process."""

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api import assert_problem, assert_served, predict, predict_body
from deadline import wait_until
from installation import Gateway, Installation
from servers import Servers
from tenancy import Tenant, make_key, make_tenant, make_tier, route, unique
from webhooks import ReceiverProcess, call, deliveries, make_webhook, raise_events
from wire import send_once

pytestmark = pytest.mark.timeout(240)

# As an operator sets them whose receivers are on this machine; pauses of a test, not of a day.
LENIENT = {
    "WEIR_WEBHOOK_ALLOW_HTTP": "true",
    "WEIR_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "WEIR_WEBHOOK_RETRY_MS": "200",
    "WEIR_WEBHOOK_RETRY_SECONDS": "600",
    "WEIR_WEBHOOK_TIMEOUT_MS": "5000",
}


@dataclass
class Stage:
    installation: Installation
    gateway: Gateway
    receiver: ReceiverProcess
    tenants: list[Tenant]
    threshold_tenant: Tenant
    strangers_key: str

    @property
    def url(self) -> str:
        return self.gateway.public_url

    def tenant(self) -> Tenant:
        """One that no other test uses."""
        return self.tenants.pop()


def hook_tenant(installation: Installation, tier: str | None = None) -> Tenant:
    tenant = make_tenant(installation, tier) if tier else make_tenant(installation)
    key = make_key(installation.admin, tenant.id, scopes=["predict", "read", "webhooks"])
    return Tenant(tenant.id, key.key, key.key_id)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """An installation whose only sender, but for those that a test starts, is one gateway that may send to this machine."""
    with Installation() as installation:
        tier = unique("ten")
        make_tier(installation, tier, [{"unit": "requests", "frequency": "month", "amount": 10, "mode": "hard"}])
        tenants = [hook_tenant(installation) for _ in range(16)]
        threshold = hook_tenant(installation, tier)
        key = make_key(installation.admin, tenants[0].id).key
        with ReceiverProcess(installation) as receiver, installation.worker("iris") as worker:
            route(installation, "iris", worker.address)
            Servers(installation)
            gateway = installation.gateway("lenient", LENIENT).start()
            yield Stage(installation, gateway, receiver, tenants, threshold, key)


def bare(tenant: Tenant) -> str:
    return tenant.id.split("_")[-1]


def test_a_threshold_reaches_the_receiver_signed(stage: Stage) -> None:
    tenant = stage.threshold_tenant
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?threshold", events=["quota.threshold"])
    assert hook["secret"].startswith("whsec_") and hook["status"] == "active"
    for _ in range(5):
        assert_served(predict(stage.url, tenant.key))
    got = wait_until(lambda: stage.receiver.received("/ok?threshold"), "the event arrives", 30)[0]
    # Two implementations that are not ours: the library of the specification, and the formula by hand.
    payload = Webhook(hook["secret"]).verify(got.body, got.headers)
    code = hmac.new(
        base64.b64decode(hook["secret"].removeprefix("whsec_")),
        f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body,
        hashlib.sha256,
    ).digest()
    assert got.headers["webhook-signature"] == "v1," + base64.b64encode(code).decode()
    assert payload["type"] == "quota.threshold" and payload["id"] == got.headers["webhook-id"]
    assert payload["data"]["threshold_percent"] == 50 and payload["data"]["limit"] == 10
    assert payload["data"]["used"] == 5 and payload["data"]["unit"] == "requests"
    assert got.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(got.body + b" ", got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(got.body, got.headers)
    shown = wait_until(
        lambda: [d for d in deliveries(stage.url, tenant.key, hook["id"]) if d["state"] == "delivered"], "it is noted", 10
    )
    assert shown[0]["event_id"] == payload["id"] and shown[0]["attempts"] == 1 and shown[0]["last_status"] == 200


def test_a_failing_receiver_gets_the_same_event_again(stage: Stage) -> None:
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/first/2")
    with stage.installation.database() as database:
        events = raise_events(database, bare(tenant), 3)
    verifier = Webhook(hook["secret"])
    wait_until(
        lambda: sum(got.status == 200 for got in stage.receiver.received("/first/2")) == 3, "all three were taken", 40
    )
    received = stage.receiver.received("/first/2")
    assert Counter(got.event for got in received) == {event: 3 for event in events}
    for event in events:
        bodies = {got.body for got in received if got.event == event}
        assert len(bodies) == 1
    for got in received:
        verifier.verify(got.body, got.headers)
    assert [d["attempts"] for d in wait_delivered(stage, tenant, hook["id"], 3)] == [3, 3, 3]


def wait_delivered(stage: Stage, tenant: Tenant, webhook_id: str, count: int, seconds: float = 20) -> list[dict]:
    def done() -> list[dict]:
        found = [d for d in deliveries(stage.url, tenant.key, webhook_id) if d["state"] == "delivered"]
        return found if len(found) == count else []

    return wait_until(done, f"{count} are delivered", seconds)


def test_redirects_and_hanging_receivers_are_failures_and_hold_up_nobody(stage: Stage) -> None:
    tenant = stage.tenant()
    redirecting = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/redirect")
    hanging = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/hang")
    endless = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/big")
    fine = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?beside")
    before = len(stage.receiver.received("/ok"))
    with stage.installation.database() as database:
        raise_events(database, bare(tenant), 40)
    start = time.monotonic()
    wait_delivered(stage, tenant, fine["id"], 40)
    took = time.monotonic() - start
    wait_delivered(stage, tenant, endless["id"], 40, 60)
    assert took < 15, took
    assert len(stage.receiver.received("/ok")) == before
    for hook, error, status in ((redirecting, None, 302), (hanging, "timeout", None)):
        attempted = wait_until(
            lambda: [d for d in deliveries(stage.url, tenant.key, hook["id"]) if d["last_attempt_at"] and d["state"] == "waiting"],
            "an attempt is noted", 20,
        )
        assert {(d["last_error"], d["last_status"]) for d in attempted} == {(error, status)}
        shown = call(stage.url, tenant.key, "GET", f"/api/v1/webhooks/{hook['id']}").json()
        assert shown["failing_since"] is not None
    with stage.installation.database() as database:
        most = database.execute("SELECT count(*) FROM webhook_deliveries WHERE state = 'sending'").fetchone()
        assert most is not None and most[0] <= 8
    for hook in (redirecting, hanging):
        assert call(stage.url, tenant.key, "DELETE", f"/api/v1/webhooks/{hook['id']}").status == 204


def test_gone_disables_and_a_delivery_can_be_asked_for_anew(stage: Stage) -> None:
    tenant = stage.tenant()
    stage.receiver.switch(410)
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/switch")
    with stage.installation.database() as database:
        event = raise_events(database, bare(tenant), 1)[0]
    target = f"/api/v1/webhooks/{hook['id']}"
    shown = wait_until(
        lambda: (lambda answer: answer if answer["status"] == "disabled" else None)(call(stage.url, tenant.key, "GET", target).json()),
        "it is disabled", 20,
    )
    assert shown["disabled_reason"] == "gone"
    with stage.installation.database() as database:
        raise_events(database, bare(tenant), 1)
    failed = deliveries(stage.url, tenant.key, hook["id"])
    assert [d["state"] for d in failed] == ["failed"], "nothing is kept for a webhook that is disabled"
    retry = f"/api/v1/webhooks/deliveries/{failed[0]['id']}/retry"
    assert_problem(call(stage.url, tenant.key, "POST", retry), 409, "conflict")
    assert call(stage.url, tenant.key, "POST", f"{target}/enable").json()["status"] == "active"
    stage.receiver.switch(200)
    assert call(stage.url, tenant.key, "POST", retry).status == 202
    wait_delivered(stage, tenant, hook["id"], 1)
    assert [got.event for got in stage.receiver.received("/switch")] == [event, event]


def test_a_delivery_is_given_up_and_the_webhook_then_disabled(stage: Stage) -> None:
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/status/503")
    target = f"/api/v1/webhooks/{hook['id']}"
    with stage.installation.database() as database:
        raise_events(database, bare(tenant), 1)
        wait_until(lambda: stage.receiver.received("/status/503"), "it was tried", 20)
        # As if it had been due for the first time a day ago.
        database.execute("UPDATE webhook_deliveries SET tried_from = now() - interval '1 day' WHERE tenant_id = %s", (bare(tenant),))
        wait_until(lambda: call(stage.url, tenant.key, "GET", target).json()["status"] == "failing", "it is shown as failing", 40)
        assert [d["state"] for d in deliveries(stage.url, tenant.key, hook["id"])] == ["failed"]
        # As if nothing had been taken for four days.
        database.execute("UPDATE webhooks SET failing_since = now() - interval '4 days' WHERE tenant_id = %s", (bare(tenant),))
        raise_events(database, bare(tenant), 2)
    shown = wait_until(
        lambda: (lambda answer: answer if answer["status"] == "disabled" else None)(call(stage.url, tenant.key, "GET", target).json()),
        "it is disabled", 40,
    )
    assert shown["disabled_reason"] == "failing"
    wait_until(
        lambda: {d["state"] for d in deliveries(stage.url, tenant.key, hook["id"])} == {"failed"}, "nothing waits for it", 20
    )


def test_both_secrets_sign_while_one_takes_over(stage: Stage) -> None:
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?rotated")
    rotated = call(stage.url, tenant.key, "POST", f"/api/v1/webhooks/{hook['id']}/rotate", {"grace_seconds": 3600}).json()
    assert rotated["secret"] != hook["secret"] and rotated["previous_secret_until"]
    with stage.installation.database() as database:
        raise_events(database, bare(tenant), 1)
        both = wait_until(lambda: stage.receiver.received("/ok?rotated"), "it arrives", 20)[0]
        assert len(both.headers["webhook-signature"].split(" ")) == 2
        for secret in (hook["secret"], rotated["secret"]):
            Webhook(secret).verify(both.body, both.headers)
        database.execute("UPDATE webhooks SET previous_until = now() WHERE tenant_id = %s", (bare(tenant),))
        raise_events(database, bare(tenant), 1)
        after = wait_until(lambda: stage.receiver.received("/ok?rotated")[1:], "the next arrives", 20)[0]
        Webhook(rotated["secret"]).verify(after.body, after.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(hook["secret"]).verify(after.body, after.headers)
        # Nothing in the database is a secret, nor half of one.
        stored = database.execute("SELECT sealed_secret, previous_secret FROM webhooks WHERE tenant_id = %s", (bare(tenant),)).fetchone()
        assert stored is not None
        for secret in (hook["secret"], rotated["secret"]):
            assert base64.b64decode(secret.removeprefix("whsec_"))[:8] not in bytes(stored[0]) + bytes(stored[1])
    without = call(stage.url, tenant.key, "GET", f"/api/v1/webhooks/{hook['id']}").json()
    assert "secret" not in without


FORBIDDEN = [
    "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://0x7f000001/", "https://2130706433/", "https://127.1/",
    "https://localhost./", "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://127.0.0.1.nip.io/", "https://localhost/",
    "https://user:pass@example.com/", "https://example.com:22/", "file:///etc/passwd", "gopher://example.com/", "http://1.1.1.1/",
]


def test_what_is_not_the_publics_is_refused(stage: Stage) -> None:
    tenant = stage.tenant()
    strict = stage.installation.gateway("strict", {"WEIR_ROLES": "gateway,admin"}).start()
    try:
        for target in FORBIDDEN:
            answer = call(strict.public_url, tenant.key, "POST", "/api/v1/webhooks", {"url": target})
            assert_problem(answer, 422, "forbidden_target")
        for body in ({}, {"url": 1}, {"url": "https://a b/"}, {"url": "https://1.1.1.1/", "events": []},
                     {"url": "https://1.1.1.1/", "events": ["no.such"]}):
            assert_problem(call(strict.public_url, tenant.key, "POST", "/api/v1/webhooks", body), 422, "validation_failed")
        assert_problem(
            call(strict.public_url, tenant.key, "POST", "/api/v1/webhooks", {"url": "https://1.1.1.1/", "secret": "x"}), 400, "unknown_field"
        )
        assert call(strict.public_url, tenant.key, "POST", "/api/v1/webhooks", {"url": "https://1.1.1.1/"}).status == 201
    finally:
        strict.stop()


def test_a_sender_checks_anew_what_another_accepted(stage: Stage) -> None:
    """The rules at the send are those that count: a webhook that was accepted by looser ones is not sent to."""
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?strict")
    stage.gateway.stop()
    try:
        strict = stage.installation.gateway("strict-sender", {"WEIR_WEBHOOK_RETRY_MS": "200"}).start()
        with stage.installation.database() as database:
            raise_events(database, bare(tenant), 1)
        noted = wait_until(
            lambda: [d for d in deliveries(strict.public_url, tenant.key, hook["id"]) if d["last_error"]], "it was refused", 20
        )
        assert noted[0]["last_error"] == "forbidden_target"
        assert stage.receiver.received("/ok?strict") == []
        strict.stop()
    finally:
        stage.gateway.start()
    wait_delivered(stage, tenant, hook["id"], 1)


def test_tenants_have_their_own_and_no_more_than_the_bound(stage: Stage) -> None:
    tenant, stranger = stage.tenant(), stage.tenant()
    hooks = [make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?{n}") for n in range(10)]
    assert_problem(call(stage.url, tenant.key, "POST", "/api/v1/webhooks", {"url": f"{stage.receiver.url}/ok"}), 409, "conflict")
    listed = call(stage.url, tenant.key, "GET", "/api/v1/webhooks").json()
    assert [hook["id"] for hook in listed["data"]] == [hook["id"] for hook in hooks]
    assert call(stage.url, stranger.key, "GET", "/api/v1/webhooks").json()["data"] == []
    assert_problem(call(stage.url, stage.strangers_key, "GET", "/api/v1/webhooks"), 403, "insufficient_scope")
    with stage.installation.database() as database:
        raise_events(database, bare(tenant), 1)
        foreign = database.execute("SELECT delivery_id FROM webhook_deliveries WHERE tenant_id = %s", (bare(tenant),)).fetchone()
        assert foreign is not None
    unknown = "whk_01900000-0000-7000-8000-000000000000"
    for name in (hooks[0]["id"], unknown, "nonsense"):
        for method, target in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/rotate"), ("POST", "/enable")):
            assert_problem(call(stage.url, stranger.key, method, f"/api/v1/webhooks/{name}{target}"), 404, "not_found")
    assert_problem(
        call(stage.url, stranger.key, "POST", f"/api/v1/webhooks/deliveries/dlv_{foreign[0]}/retry"), 404, "not_found"
    )


def test_two_senders_send_once_where_nothing_fails(stage: Stage) -> None:
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?once")
    second = stage.installation.gateway("second-sender", LENIENT).start()
    try:
        with stage.installation.database() as database:
            events = raise_events(database, bare(tenant), 600)
        start = time.monotonic()
        wait_until(lambda: len(stage.receiver.received("/ok?once")) >= 600, "all arrived", 90)
        took = time.monotonic() - start
        wait_delivered(stage, tenant, hook["id"], 600)
    finally:
        second.stop()
    counts = Counter(got.event for got in stage.receiver.received("/ok?once"))
    assert counts == {event: 1 for event in events}
    print(f"600 deliveries by two senders in {took:.2f} s")


def test_a_killed_sender_loses_no_event(stage: Stage) -> None:
    """Three times `kill -9` in the middle of a few hundred deliveries, each of which takes a moment; another sender goes on."""
    tenant = stage.tenant()
    hook = make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/slow/50")
    with stage.installation.database() as database:
        events = set(raise_events(database, bare(tenant), 300))
        for _ in range(3):
            target = len(stage.receiver.received("/slow/50")) + 40
            wait_until(lambda: len(stage.receiver.received("/slow/50")) >= target, "some are sent", 40)
            assert stage.gateway.process is not None
            stage.gateway.process.kill()
            interrupted = database.execute("SELECT count(*) FROM webhook_deliveries WHERE state = 'sending' AND tenant_id = %s", (bare(tenant),)).fetchone()
            assert interrupted is not None and interrupted[0] > 0, "the kill interrupted nothing"
            stage.gateway.start()
    wait_delivered(stage, tenant, hook["id"], 300, 120)
    received = stage.receiver.received("/slow/50")
    assert {got.event for got in received} == events
    verifier = Webhook(hook["secret"])
    for got in received:
        verifier.verify(got.body, got.headers)
    again = len(received) - len(events)
    print(f"300 events, {len(received)} requests: {again} were sent again after three kills")


def test_the_end_of_a_job_is_told(stage: Stage) -> None:
    tenant = stage.tenant()
    make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?job", events=["job.completed", "job.failed"])
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    queued = send_once(stage.url, "POST", "/predict/async", headers, predict_body())
    assert queued.status == 202, queued.body
    told = wait_until(lambda: stage.receiver.received("/ok?job"), "the end of the job is told", 30)
    event = json.loads(told[0].body)
    assert event["type"] == "job.completed" and event["data"]["request_id"] == queued.json()["request_id"]
    assert event["data"]["status"] == "completed" and event["data"]["model"] == "iris"


def test_an_event_that_is_rolled_back_is_not_told(stage: Stage) -> None:
    tenant = stage.tenant()
    make_webhook(stage.url, tenant.key, f"{stage.receiver.url}/ok?rolled")
    with stage.installation.database() as database:
        with database.transaction(force_rollback=True):
            raise_events(database, bare(tenant), 5)
        kept = raise_events(database, bare(tenant), 1)
    wait_until(lambda: stage.receiver.received("/ok?rolled"), "what was committed arrives", 20)
    assert [got.event for got in stage.receiver.received("/ok?rolled")] == kept
    assert json.loads(stage.receiver.received("/ok?rolled")[0].body)["data"] == {"number": 1}
