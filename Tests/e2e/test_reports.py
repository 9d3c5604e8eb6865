"""Tags, usage by what is asked, summaries, and reports over all tenants: over HTTP, and equal to the ledger, also after kill -9."""

import csv
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest

from api import assert_problem, assert_served, bearer, get, predict_body, predict_headers
from deadline import wait_until
from installation import Gateway, Installation
from tenancy import make_tenant
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def stage() -> Iterator[Installation]:
    with Installation() as installation:
        yield installation


def tagged(url: str, key: str, tags: str | None, target: str = "/predict/", **more: str) -> Answer:
    headers = predict_headers(key) | more
    if tags is not None:
        headers["x-weir-tags"] = tags
    return send_once(url, "POST", target, headers, predict_body(), timeout=20.0)


def by_tag(url: str, key: str) -> dict[str, int]:
    answer = get(url, "/api/v1/usage?group_by=tag", key)
    assert answer.status == 200, answer.body
    assert "total" not in answer.json()
    return {row["tag"]: row["requests"] for row in answer.json()["data"]}


def admin_get(installation: Installation, path: str, **headers: str) -> Answer:
    fields = bearer(installation.admin_key) | headers
    return send_once(installation.admin_url, "GET", path, fields, timeout=20.0)


def test_a_request_counts_in_each_of_its_tags_at_once(stage: Installation) -> None:
    tenant = make_tenant(stage)
    url = stage.public_url
    assert_served(tagged(url, tenant.key, "team=search, env=prod"))
    assert_served(tagged(url, tenant.key, "env=test,team=search"))
    assert_served(tagged(url, tenant.key, None))
    # A form that the fast reader does not take is read the same way.
    assert_served(tagged(url, tenant.key, "team=search", **{"X-Other": "1"}))
    expected = {"env=prod": 1, "env=test": 1, "team=search": 3}
    assert by_tag(url, tenant.key) == expected
    time.sleep(2)
    assert by_tag(url, tenant.key) == expected, "rolled up, it is the same"
    assert get(url, "/api/v1/usage", tenant.key).json()["total"]["requests"] == 4


@pytest.mark.parametrize("tags", ["", "a", "a=1,a=2", "A=1", "a=b c", ",".join(f"k{n}=1" for n in range(17))])
def test_tags_that_cannot_be_used_are_refused_and_cost_nothing(stage: Installation, tags: str) -> None:
    tenant = make_tenant(stage)
    problem = assert_problem(tagged(stage.public_url, tenant.key, tags), 400, "invalid_tags")
    assert problem["errors"][0]["location"] == "x-weir-tags"
    assert get(stage.public_url, "/api/v1/usage", tenant.key).json()["total"]["requests"] == 0


def test_a_job_keeps_the_tags_of_its_submission(stage: Installation) -> None:
    tenant = make_tenant(stage)
    answer = tagged(stage.public_url, tenant.key, "kind=job", "/predict/async")
    assert answer.status == 202, answer.body
    wait_until(lambda: by_tag(stage.public_url, tenant.key) == {"kind=job": 1}, "the job is charged with its tag", 30)
    assert_problem(tagged(stage.public_url, tenant.key, "kind", "/predict/async"), 400, "invalid_tags")


def test_usage_by_hour_month_user_and_tier(stage: Installation) -> None:
    tenant = make_tenant(stage)
    for _ in range(3):
        assert_served(tagged(stage.public_url, tenant.key, None))
    for group, field in [("hour", "hour"), ("month", "month"), ("tier", "tier")]:
        rows = get(stage.public_url, f"/api/v1/usage?group_by={group}", tenant.key).json()["data"]
        assert sum(row["requests"] for row in rows) == 3
        assert all(field in row for row in rows), rows
    rows = get(stage.public_url, "/api/v1/usage?group_by=user,key", tenant.key).json()["data"]
    assert [row["key_id"] for row in rows] == [tenant.key_id]


def test_the_summary_is_what_was_used_and_what_it_will_come_to(stage: Installation) -> None:
    tenant = make_tenant(stage)
    for _ in range(2):
        assert_served(tagged(stage.public_url, tenant.key, None))
    answer = get(stage.public_url, "/api/v1/usage/summary", tenant.key)
    assert answer.status == 200, answer.body
    summary = answer.json()
    usage = get(stage.public_url, "/api/v1/usage", tenant.key).json()
    assert summary["so_far"]["requests"] == usage["total"]["requests"] == 2
    assert summary["currency"] == usage["currency"]
    assert summary["forecast"]["at_end"]["requests"] >= 2
    assert summary["forecast"]["request_error_basis_points"] is None


def test_usage_in_the_shape_of_openai(stage: Installation) -> None:
    tenant = make_tenant(stage)
    assert_served(tagged(stage.public_url, tenant.key, None))
    now = int(time.time())
    target = f"/v1/organization/usage/completions?start_time={now - 3 * 86_400}"
    page = get(stage.public_url, target + "&group_by=model&limit=2", tenant.key).json()
    found: list[dict[str, Any]] = []
    while True:
        found += [result for bucket in page["data"] for result in bucket["results"]]
        if not page["has_more"]:
            break
        page = get(stage.public_url, target + f"&group_by=model&limit=2&page={page['next_page']}", tenant.key).json()
    assert [(result["model"], result["num_model_requests"]) for result in found] == [("iris", 1)]
    costs = get(stage.public_url, f"/v1/organization/costs?start_time={now - 86_400}", tenant.key).json()
    assert [r["amount"]["currency"] for bucket in costs["data"] for r in bucket["results"]] == ["usd"]
    refused = get(stage.public_url, target + "&bucket_width=1m", tenant.key)
    assert refused.status == 400 and "quarters of an hour" in refused.json()["error"]["message"]


def test_a_page_of_another_tenant_is_none(stage: Installation) -> None:
    one, two = make_tenant(stage), make_tenant(stage)
    target = f"/v1/organization/usage/completions?start_time={int(time.time()) - 9 * 86_400}&limit=1"
    page = get(stage.public_url, target, one.key).json()["next_page"]
    assert get(stage.public_url, target + f"&page={page}", one.key).status == 200
    assert get(stage.public_url, target + f"&page={page}", two.key).status == 400


def test_reports_over_all_tenants_as_json_and_csv(stage: Installation) -> None:
    tenant = make_tenant(stage)
    for _ in range(5):
        assert_served(tagged(stage.public_url, tenant.key, "team=reports"))
    for report in ["usage?group_by=tenant,tag", "top-customers?order_by=requests", "revenue-by-tier", "latency", "errors", "forecast"]:
        answer = admin_get(stage, f"/admin/v1/reports/{report}")
        assert answer.status == 200, (report, answer.body)
        rows = answer.json()["data"]
        assert rows, report
        sheet = admin_get(stage, f"/admin/v1/reports/{report}", Accept="text/csv")
        assert sheet.status == 200 and (sheet.header("content-type") or "").startswith("text/csv"), report
        read = list(csv.DictReader(io.StringIO(sheet.body.decode())))
        assert len(read) == len(rows) and set(read[0]) == set(rows[0]), report
    mine = [row for row in admin_get(stage, "/admin/v1/reports/usage?group_by=tenant,tag").json()["data"]
            if row["tenant_id"] == tenant.id]
    assert [(row["tag"], row["requests"]) for row in mine] == [("team=reports", 5)]
    latency = admin_get(stage, "/admin/v1/reports/latency").json()
    assert latency["error_basis_points"] == 1250
    row = next(row for row in latency["data"] if row["model"] == "iris")
    assert 0 < row["p50_us"] <= row["p95_us"] <= row["p99_us"]


@pytest.mark.parametrize("target", [
    "usage?start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z", "usage?start=2020-03-02T00:00:00Z&end=2026-03-01T00:00:00Z",
    "usage?time_zone=Mars/Olympus", "usage?page=page_1_1", "latency?start=2025-01-01T00:00:00Z&end=2025-12-01T00:00:00Z",
])
def test_a_report_that_cannot_be_made_is_refused(stage: Installation, target: str) -> None:
    assert_problem(admin_get(stage, f"/admin/v1/reports/{target}"), 422, "validation_failed")


def test_the_roll_ups_are_the_ledger_after_kills(stage: Installation) -> None:
    """A gateway is killed again and again while it settles and rolls up; nothing is lost and nothing is counted twice, and a rebuild agrees."""
    tenant = make_tenant(stage)
    for number in range(4):
        gateway: Gateway = stage.gateway(f"reports-{number}").start()
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            tagged(gateway.public_url, tenant.key, f"round=r{number},team=kill")
        gateway.process.kill()
    with stage.database() as database:
        def rows(question: str) -> list[Any]:
            found = database.execute(question, {"tenant": tenant.id}).fetchall()
            database.rollback()
            return found

        by_ledger = """SELECT usage_bucket(l.occurred_at), t.tag, sum(l.requests)::bigint, sum(l.input_tokens)::bigint
            FROM ledger l, unnest(l.tags) AS t (tag) WHERE l.tenant_id = %(tenant)s GROUP BY 1, 2 ORDER BY 1, 2"""
        by_roll_up = """SELECT bucket_start, tag, sum(requests_count)::bigint, sum(input_tokens)::bigint
            FROM tag_usage WHERE tenant_id = %(tenant)s GROUP BY 1, 2 ORDER BY 1, 2"""
        latencies = """SELECT time_window, latency_class::int, requests_count FROM model_latencies WHERE model_name = 'iris' ORDER BY 1, 2"""
        counted = """SELECT usage_bucket(coalesce(started_at, created_at)), latency_class(processing_us)::int, count(*) FROM requests
            WHERE model = 'iris' AND status = 'completed' GROUP BY 1, 2 ORDER BY 1, 2"""
        wait_until(lambda: rows(by_roll_up) == rows(by_ledger), "usage by tag is the ledger", 30)
        wait_until(lambda: rows(latencies) == rows(counted), "times are the requests'", 30)
        assert sum(row[2] for row in rows(by_ledger) if row[1] == "team=kill") > 20
        before = rows(by_roll_up), rows(latencies)
        database.execute("SELECT rebuild_usage('-infinity', 'infinity')")
        database.commit()
        assert (rows(by_roll_up), rows(latencies)) == before
