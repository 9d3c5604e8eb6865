"""What replay and tier analysis see of the past: hits of the cache, streams whose caller left, and rates."""

import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from api import get
from bills import entry_id, last_month
from deadline import wait_until
from installation import Installation, binary
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(180)
MONTH, _ = last_month()
DAY = MONTH + timedelta(days=2)


@pytest.fixture(scope="module")
def own() -> Iterator[Installation]:
    with Installation() as running:
        yield running


def version(**more: Any) -> dict[str, Any]:
    prices = [{"meter": meter, "model": "*", "unit_price": "0.000001"} for meter in ("input_token", "output_token")]
    return {"currency": "EUR", "prices": prices, "quotas": [], **more}


def make(own: Installation, offer: dict[str, Any] | None = None, **more: Any) -> str:
    code = unique("tier")
    own.admin.expect("POST", "/admin/v1/tiers", {"code": code, "name": code, "version": offer or version(), **more}, (201,))
    return code


def draft(own: Installation, code: str, offer: dict[str, Any]) -> str:
    made = own.admin.expect("POST", f"/admin/v1/tiers/{code}/versions", offer, (201,))
    return f"/admin/v1/tiers/{code}/versions/{made['number']}"


def subscriber(own: Installation, code: str) -> Tenant:
    tenant = make_tenant(own, code)
    with own.database() as database:
        database.execute("UPDATE subscriptions SET starts_at = %s WHERE tenant_id = %s", (MONTH - timedelta(days=40), tenant.id))
    return tenant


def settle(own: Installation, tenant: Tenant, *requests: dict[str, Any]) -> None:
    """Requests and entries as settlement would have written them then; `at` is behind DAY."""
    usual = {"at": timedelta(), "input": 10, "cached": 0, "output": 5, "held": 100, "source": "worker", "served": (0, 0),
             "stream": (None, None, None), "took": timedelta(milliseconds=5), "counted": 1}  # fmt: skip
    with own.database() as database, database.cursor() as cursor:
        rows = [{**usual, **each} for each in requests]
        cursor.executemany(
            """WITH subject AS (SELECT tier_version_id FROM subscriptions WHERE tenant_id = %(tenant)s AND ends_at IS NULL), recorded AS (
                INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, created_at, completed_at, processing_us,
                    estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, stream_end, delivered_tokens, generated_tokens,
                    charged_requests)
                SELECT %(id)s, %(tenant)s, %(key)s, 'iris', 'completed', 200, %(at)s, %(at)s + %(took)s, extract(epoch FROM %(took)s) * 1000000,
                    %(held)s, %(input)s, %(output)s, tier_version_id, %(source)s = 'cache', %(end)s, %(delivered)s, %(generated)s,
                    nullif(%(counted)s, 1) FROM subject)
            INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at, served_input_tokens, served_output_tokens)
            SELECT %(id)s, %(id)s, %(tenant)s, %(key)s, 'usage', 'iris', tier_version_id, %(counted)s, %(input)s, %(cached)s, %(output)s, %(source)s, %(at)s,
                %(served_in)s, %(served_out)s FROM subject""",
            [{**row, "id": entry_id(DAY + row["at"]), "tenant": tenant.id, "key": tenant.key_id, "at": DAY + row["at"],
              "end": row["stream"][0], "delivered": row["stream"][1], "generated": row["stream"][2], "served_in": row["served"][0],
              "served_out": row["served"][1]} for row in rows])  # fmt: skip


def rolled_up(own: Installation) -> None:
    with own.database() as database:
        database.autocommit = True
        wait_until(
            lambda: not database.execute("SELECT count(*) FROM ledger WHERE tx >= (SELECT position FROM rollup_watermark)").fetchone()[0],
            "all of it is rolled up", 60)


def replay(own: Installation, path: str) -> tuple[int, int, int, list[str]]:
    found = own.admin.expect("POST", f"{path}/replay", {}, (200,))
    return found["before_micros"], found["after_micros"], found["rerated_hits"], found["not_seen"]


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_hits_are_replayed_at_another_percentage(own: Installation, is_rolled_up: bool) -> None:
    code = make(own, version(cache_hit_token_percent=50))
    tenant = subscriber(own, code)
    hits = [{"source": "cache", "input": 7, "output": 3, "served": (15, 7)}, {"source": "cache", "input": 4, "output": 0, "served": (9, 1)}]
    settle(own, tenant, {"input": 1_000, "output": 100}, *hits)
    if is_rolled_up:
        rolled_up(own)
    charged = 1_100 + 14
    for percent, total in ((100, 1_100 + 24 + 8), (0, 1_100), (20, 1_100 + 4 + 1)):
        path = draft(own, code, version(cache_hit_token_percent=percent))
        assert replay(own, path) == (charged, total, 2, []), percent
    assert replay(own, f"/admin/v1/tiers/{code}/versions/1") == (charged, charged, 0, [])
    one = own.admin.expect("POST", f"{path}/replay", {"tenant_id": tenant.id}, (200,))["bills"][0]
    assert (one["rerated_hits"], one["after"]["subtotal_micros"]) == (2, 1_105)
    # So the analysis knows that a tier is cheaper for those who repeat themselves.
    other = make(own, version(cache_hit_token_percent=0), tenant_id=tenant.id)
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()
    options = {option["tier"]: (option["total_micros"], option["rerated_hits"]) for option in analysis["options"]}
    assert options[code] == (1_114, 0) and options[other] == (1_100, 2)


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_hits_count_as_requests_as_the_replayed_version_says(own: Installation, is_rolled_up: bool) -> None:
    prices = {"prices": [{"meter": "request", "model": "*", "unit_price": "0.0001"}]}
    code = make(own, version(cache_hit_request="free", **prices))
    tenant = subscriber(own, code)
    settle(own, tenant, {}, {}, *({"source": "cache", "counted": 0, "served": (10, 5)} for _ in range(3)))
    if is_rolled_up:
        rolled_up(own)
    assert replay(own, draft(own, code, version(**prices))) == (200, 500, 0, [])
    assert replay(own, draft(own, code, version(cache_hit_request="free", failed_request="charged", **prices))) == (200, 200, 0, ["failed_request"])
    other = make(own, version(**prices), tenant_id=tenant.id)
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()
    assert {option["tier"]: option["total_micros"] for option in analysis["options"]}.items() >= {code: 200, other: 500}.items()


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_streams_that_were_left_are_replayed_where_that_can_be_known(own: Installation, is_rolled_up: bool) -> None:
    drains, cancels = make(own, version(stream_leave="drain")), make(own, version(stream_leave="cancel"))
    for code, output in ((drains, 40), (cancels, 12)):
        settle(own, subscriber(own, code), {"output": output, "stream": ("client_left", 12, 40)}, {"stream": ("finished", 5, 5)})
    if is_rolled_up:
        rolled_up(own)
    cancelled = draft(own, drains, version(stream_leave="cancel"))
    assert replay(own, cancelled) == (65, 37, 0, [])
    drained = draft(own, cancels, version(stream_leave="drain"))
    assert replay(own, drained) == (37, 37, 0, ["stream_leave"])
    settle(own, subscriber(own, quiet := make(own, version(stream_leave="cancel"))), {"stream": ("finished", 5, 5)})
    assert replay(own, draft(own, quiet, version(stream_leave="drain"))) == (15, 15, 0, [])
    found = own.admin.expect("POST", f"{drained}/replay", {"scope": "tier"}, (200,))
    assert (found["bills"], found["approximate"]) == (1, 1)


def rate(amount: int, unit: str = "requests", **more: Any) -> dict[str, Any]:
    return {"scope": "tenant", "unit": unit, "amount": amount, **more}


def test_rates_are_held_against_minutes(own: Installation) -> None:
    tenant = subscriber(own, make(own))
    # Thirty in one minute, of which each ran for four seconds, and one an hour later.
    settle(own, tenant, *({"at": timedelta(minutes=5, milliseconds=1_000 + n), "took": timedelta(seconds=4)} for n in range(30)),
           {"at": timedelta(hours=1)})  # fmt: skip
    tiers = {
        name: make(own, version(base_fee_micros=fee, **limits), tenant_id=tenant.id) for name, fee, limits in (
            ("slow", 1, {"rate_limits": [rate(10)]}), ("perhaps", 2, {"rate_limits": [rate(29)]}),
            ("fast", 3, {"rate_limits": [rate(30), rate(3_100, "tokens"), rate(31, "concurrency")]}),
            ("tokens", 4, {"rate_limits": [rate(150, "tokens", burst=200)]}), ("alone", 5, {"rate_limits": [rate(1, "concurrency")]}),
            ("minute", 6, {"quotas": [{"unit": "requests", "frequency": "minute", "amount": 29, "mode": "hard"}]}),
            ("wide", 7, {"quotas": [{"unit": "requests", "frequency": "minute", "amount": 30, "mode": "hard"}]}),
        )}  # fmt: skip
    rolled_up(own)
    analysis = get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()
    options = {option["tier"]: option for option in analysis["options"]}
    verdicts = {name: (options[code]["feasible"], options[code]["limits_proven"]) for name, code in tiers.items()}
    assert verdicts == {
        "slow": (False, True), "perhaps": (True, False), "fast": (True, True), "tokens": (False, True), "alone": (False, True),
        "minute": (False, True), "wide": (True, True)}  # fmt: skip
    minute = f"{DAY + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}.000000Z"
    slow = {"scope": "tenant", "unit": "requests", "amount": 10, "burst": 10, "minute": minute, "used": 30}
    assert [{**each, "minute": datetime.fromisoformat(each["minute"])} for each in options[tiers["slow"]]["rate_overruns"]] == [
        {**slow, "minute": datetime.fromisoformat(minute)}]
    assert [(each["unit"], each["burst"], each["used"]) for each in options[tiers["alone"]]["rate_overruns"]] == [("concurrency", None, 2)]
    assert [(each["frequency"], each["used"]) for each in options[tiers["minute"]]["refused_by"]] == [("minute", 30)]
    # The own tier has no fee; without it, the cheapest that is not refused is taken, though it is not proven.
    assert analysis["recommended"]["tier"] == analysis["current"]["tier"]
    own.admin.expect("POST", "/admin/v1/subscriptions", {"tenant": tenant.id, "tier": tiers["slow"], "when": "now"}, (200,))
    listed = own.admin.expect("GET", "/admin/v1/tiers/analysis?periods=1&limit=100")["data"]
    mine = next(each for each in listed if each["tenant_id"] == tenant.id)
    totals = {option["tier"]: option["total_micros"] for option in mine["options"] if option["feasible"]}
    assert mine["current"]["tier"] == tiers["slow"] not in totals
    assert totals[mine["recommended"]["tier"]] == min(totals.values())
    table = subprocess.run(
        [binary(), "tiers", "analyse", "--periods", "1"], capture_output=True, text=True, timeout=60,
        env={"WEIR_ADMIN_URL": own.admin_url, "WEIR_ADMIN_KEY": own.admin_key, "PATH": "/usr/bin:/bin"}).stdout  # fmt: skip
    line = next(line for line in table.splitlines() if tenant.id in line)
    for refusal in (f"{tiers['slow']} 1 (requests a minute)", f"{tiers['alone']} 1 (at once)", f"{tiers['minute']} 1 (requests of a minute)"):
        assert refusal in line, table
    # What is not there any more is not known.
    with own.database() as database:
        database.execute("DELETE FROM usage_minutes WHERE tenant_id = %s AND requests = 1", (tenant.id,))
    options = {o["tier"]: o for o in get(own.public_url, "/api/v1/tiers/analysis?periods=1", tenant.key).json()["options"]}
    assert (options[tiers["fast"]]["feasible"], options[tiers["fast"]]["limits_proven"]) == (True, False)
    assert not options[tiers["slow"]]["feasible"]
