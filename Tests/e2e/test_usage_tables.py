"""Usage as tables: the same rows as JSON and as CSV, by key and by user, of one tenant and of all, and one answer to a range that is none."""

import csv
import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api import assert_problem, assert_served, bearer, get, predict_body, predict_headers
from installation import Installation
from tenancy import Tenant, make_key, make_tenant
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(240)

SUMS = ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micros"]
# In this order, whatever the order of the question.
GROUPS = {"hour": "hour", "day": "day", "month": "month", "tenant": "tenant_id", "tag": "tag", "tier": "tier", "model": "model",
          "user": "user_id", "key": "key_id"}  # fmt: skip


@dataclass(frozen=True)
class House:
    """A tenant with a key of a user's and a key of nobody's; the first was used three times, the second twice."""

    stage: Installation
    tenant: Tenant
    user: str
    other_key: str

    def get(self, path: str, **headers: str) -> Answer:
        return send_once(self.stage.public_url, "GET", path, bearer(self.tenant.key) | headers, timeout=20.0)

    def report(self, path: str, **headers: str) -> Answer:
        fields = bearer(self.stage.admin_key) | headers
        return send_once(self.stage.admin_url, "GET", f"/admin/v1/reports/{path}", fields, timeout=20.0)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with Installation() as stage:
        tenant, user = make_tenant(stage), str(uuid.uuid4())
        with stage.database() as database:
            database.execute("INSERT INTO users (user_id, tenant_id, name) VALUES (%s, %s, 'Ada')", (user, tenant.id))
            database.execute("UPDATE api_keys SET user_id = %s WHERE key_id = %s", (user, tenant.key_id))
            database.commit()
        other = make_key(stage.admin, tenant.id)
        for key, count in ((tenant.key, 3), (other.key, 2)):
            for _ in range(count):
                headers = predict_headers(key) | {"x-weir-tags": "team=search,env=prod"}
                assert_served(send_once(stage.public_url, "POST", "/predict/", headers, predict_body(), timeout=20.0))
        # Of somebody else, and in no answer to the tenant.
        assert_served(send_once(stage.public_url, "POST", "/predict/", predict_headers(make_tenant(stage).key), predict_body()))
        yield House(stage, tenant, user, other.key_id)


def columns(groups: str) -> list[str]:
    return [column for word, column in GROUPS.items() if word in groups.split(",")]


def table(answer: Answer, name: str = "usage.csv") -> tuple[list[str], list[dict[str, str]]]:
    """The names and the rows of a file."""
    assert answer.status == 200, answer.body
    assert (answer.header("content-type") or "").split(";")[0] == "text/csv", answer.headers
    assert answer.header("content-disposition") == f'attachment; filename="{name}"'
    text = answer.body.decode()
    assert text.endswith("\r\n") and "\n" not in text.replace("\r\n", "")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows


def as_text(row: dict[str, Any], names: list[str]) -> dict[str, str]:
    return {name: "" if row.get(name) is None else str(row[name]) for name in names}


@pytest.mark.parametrize("groups", [
    "", "hour", "day", "month", "model", "key", "user", "tier", "tag", "key,user", "tier,model,tag,month", "key,user,tier,model,day",
])  # fmt: skip
def test_a_tenants_usage_as_csv_is_that_as_json(house: House, groups: str) -> None:
    question = "/api/v1/usage" + (f"?group_by={groups}" if groups else "")
    report = house.get(question).json()
    names, rows = table(house.get(question, Accept="text/csv"))
    assert names == columns(groups) + ["currency"] + SUMS
    assert rows == [as_text(row | {"currency": report["currency"]}, names) for row in report["data"]] and rows
    assert sum(int(row["requests"]) for row in rows) == (10 if "tag" in groups else 5)
    asked = f"{question}{'&' if groups else '?'}format=csv"
    assert house.get(asked).body == house.get(question, Accept="text/csv").body
    # What the parameter says counts, whatever the field says.
    assert house.get(asked.replace("=csv", "=json"), Accept="text/csv").json() == report


def test_usage_of_nothing_is_a_line_of_names(house: House) -> None:
    question = "/api/v1/usage?start=2020-03-01T00:00:00Z&end=2020-04-01T00:00:00Z&group_by=day&format=csv"
    assert house.get(question).body.decode() == "day,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros\r\n"


@pytest.mark.parametrize("accept, media", [
    ("text/csv, application/json;q=0.5", "text/csv"), ("application/json;q=0.2, text/csv;q=0.9", "text/csv"),
    ("application/json, text/csv", "application/json"), ("text/csv;q=0, */*", "application/json"), ("*/*", "application/json"),
])  # fmt: skip
def test_a_file_comes_where_it_is_wanted_most(house: House, accept: str, media: str) -> None:
    for answer in (house.get("/api/v1/usage", Accept=accept), house.report("usage", Accept=accept)):
        assert (answer.header("content-type") or "").split(";")[0] == media


def test_users_and_keys_are_told_apart_over_all_tenants(house: House) -> None:
    report = house.report("usage?group_by=tenant,user,key&limit=1000").json()
    mine = {(row["user_id"], row["key_id"]): row["requests"] for row in report["data"] if row["tenant_id"] == house.tenant.id}
    assert mine == {(house.user, house.tenant.key_id): 3, (None, house.other_key): 2}
    everybody = house.report("usage?group_by=user&limit=1000").json()["data"]
    assert [row["requests"] for row in everybody if row["user_id"] == house.user] == [3]
    assert [row["requests"] for row in everybody if row["user_id"] is None and row["currency"] == "USD"] == [3], "what is nobody's is one row"
    with house.stage.database() as database:
        ledger = database.execute(
            "SELECT l.key_id::text, k.user_id::text, sum(l.requests)::bigint FROM ledger l JOIN api_keys k USING (key_id) GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
    by_key = house.report("usage?group_by=key,user&limit=1000").json()["data"]
    assert sorted((row["key_id"], row["user_id"], row["requests"]) for row in by_key) == ledger
    of_all = get(house.stage.admin_url, "/admin/v1/usage?group_by=tenant,user,key", house.stage.admin_key).json()["data"]
    assert {(row.get("user_id"), row["key_id"]): row["requests"] for row in of_all if row["tenant_id"] == house.tenant.id} == mine


@pytest.mark.parametrize("groups", ["key", "user", "tenant,key,user", "hour,key,model", "day,user,tier", "month,tenant,user,key,tier,model"])
def test_a_report_by_key_and_user_as_csv_page_by_page_is_that_as_json(house: House, groups: str) -> None:
    whole = house.report(f"usage?group_by={groups}&limit=1000").json()["data"]
    rows: list[dict[str, str]] = []
    page = ""
    while True:
        answer = house.report(f"usage?group_by={groups}&limit=1{page}", Accept="text/csv")
        names, more = table(answer)
        assert names == columns(groups) + ["currency"] + SUMS and len(more) == 1
        rows += more
        token = answer.header("x-weir-next-page")
        if token is None:
            break
        page = f"&page={token}"
    assert rows == [as_text(row, names) for row in whole] and len(rows) >= 2
    with house.stage.database() as database:
        assert sum(int(row["requests"]) for row in rows) == database.execute("SELECT count(*) FROM ledger").fetchone()[0]


@pytest.mark.parametrize("groups", ["tag,key", "user,tag", "tag,tenant,key", "day,tag,user,key"])
def test_tags_are_not_kept_by_key(house: House, groups: str) -> None:
    problem = assert_problem(house.report(f"usage?group_by={groups}"), 422, "validation_failed")
    assert problem["errors"][0]["location"] == "group_by" and "tag together with key or user" in problem["detail"]
    if "tenant" not in groups:
        own = assert_problem(house.get(f"/api/v1/usage?group_by={groups}"), 422, "validation_failed")
        assert own["errors"] == problem["errors"]


@pytest.mark.parametrize("question", ["format=xml", "format=", "format=CSV", "format=csv&format=csv", "group_by=tenant&format=csv"])
def test_a_table_that_there_is_not_is_refused(house: House, question: str) -> None:
    problem = assert_problem(house.get(f"/api/v1/usage?{question}"), 422, "validation_failed")
    assert problem["errors"][0]["location"] in question


# Ranges that are none, and which of their ends is to blame.
RANGES = [
    ("start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z", "end"), ("start=2026-03-01T00:00:00Z&end=2026-03-01T00:00:00Z", "end"),
    ("start=yesterday&end=2026-03-01T00:00:00Z", "start"), ("start=2026-03-01T00:00:00Z&end=", "end"),
    ("start=2026-02-30T00:00:00Z&end=2026-03-01T00:00:00Z", "start"), ("start=1969-12-31T00:00:00Z&end=2026-03-01T00:00:00Z", "start"),
    ("start=2026-03-01T00:00:00Z&end=99999-01-01T00:00:00Z", "end"), ("start=2026-03-01T00:07:00Z&end=2026-03-02T00:00:00Z", "start"),
    ("start=1772323200&end=2026-03-02T00:00:00Z", "start"), ("start=2026-03-01T00:00:00Z&end=%00", "end"),
    ("start=2026-03-01T00:00:00Z&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z", "start"),
    ("start=2020-01-01T00:00:00Z&end=2026-03-01T00:00:00Z", "start"),
]  # fmt: skip


@pytest.mark.parametrize("span, location", RANGES)
def test_a_range_that_is_none_has_one_answer_everywhere(house: House, span: str, location: str) -> None:
    stage = house.stage
    questions = [(house.get, "/api/v1/usage?group_by=day&"), (house.get, "/api/v1/usage?group_by=hour&format=csv&")]
    for report in ("usage", "top-customers", "revenue-by-tier", "errors", "latency"):
        questions.append((house.report, f"{report}?"))
    questions.append((lambda path: get(stage.admin_url, path, stage.admin_key), "/admin/v1/models/iris/usage?"))
    # Exports take any instant, and the usage of operators any length.
    if "00:07" not in span:
        questions += [(house.get, "/api/v1/usage/export?"),
                      (lambda path: get(stage.admin_url, path, stage.admin_key), "/admin/v1/usage/export?")]  # fmt: skip
    if "2020" not in span:
        for path in ("/admin/v1/usage?", f"/admin/v1/tenants/{house.tenant.id}/usage?"):
            questions.append((lambda path: get(stage.admin_url, path, stage.admin_key), path))
    for ask, path in questions:
        asked, blamed = span, location
        if "/models/" in path:
            asked, blamed = span.replace("start=", "from=").replace("end=", "to="), {"start": "from", "end": "to"}[location]
        problem = assert_problem(ask(path + asked), 422, "validation_failed")
        assert [error["location"] for error in problem["errors"]] == [blamed], path


@pytest.mark.parametrize("span, location", [
    ("start_time=1772323200&end_time=1772323200", "end_time"), ("start_time=1772409600&end_time=1772323200", "end_time"),
    ("start_time=yesterday", "start_time"), ("", "start_time"), ("start_time=0&end_time=1772323200", "start_time"),
    ("start_time=253402300800", "start_time"), ("start_time=2026-03-01T00:00:00Z", "start_time"),
])  # fmt: skip
def test_in_the_shape_of_openai_it_is_an_invalid_request(house: House, span: str, location: str) -> None:
    for path in ("/v1/organization/usage/completions", "/v1/organization/costs"):
        answer = house.get(f"{path}?{span}")
        assert answer.status == 400 and answer.header("x-weir-error") == "validation_failed", (path, answer.body)
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error" and location in error["message"]
