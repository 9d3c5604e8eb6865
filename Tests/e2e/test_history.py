"""The request history: filters, cursors that stay where they are, and pages whose cost is bounded."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest

from api import assert_problem, assert_served, get, predict
from installation import Gateway, Installation
from tenancy import Tenant, make_tenant

MANY = 200_000


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Installation() as installation:
        yield [installation.gateway(name).start() for name in ("one", "two")]


def page(gateway: Gateway, tenant: Tenant, **query: Any) -> dict[str, Any]:
    answer = get(gateway.public_url, f"/api/v1/requests?{urlencode(query)}", tenant.key)
    assert answer.status == 200, answer.body
    return answer.json()


def all_pages(gateways: list[Gateway], tenant: Tenant, **query: Any) -> list[str]:
    """Every page from the newest on, each from the other gateway."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    for number in range(1000):
        answer = page(gateways[number % 2], tenant, **query, **cursor)
        found += [row["id"] for row in answer["data"]]
        if not answer["has_more"]:
            return found
        assert answer["next_cursor"]
        cursor = {"after": answer["next_cursor"]}
    raise AssertionError("the list does not end")


def test_pages_stay_where_they_are_while_requests_come(gateways: list[Gateway]) -> None:
    tenant = make_tenant(gateways[0].installation)
    made = [assert_served(predict(gateways[n % 2].public_url, tenant.key))["request_id"] for n in range(7)]
    first = page(gateways[0], tenant, limit=3)
    assert_served(predict(gateways[0].public_url, tenant.key))
    second = page(gateways[1], tenant, limit=3, after=first["next_cursor"])
    third = page(gateways[0], tenant, limit=3, starting_after=second["last_id"])
    assert [row["id"] for part in (first, second, third) for row in part["data"]] == sorted(made, reverse=True)
    assert third["has_more"] is False and third["next_cursor"] is None
    back = page(gateways[1], tenant, limit=3, before=second["previous_cursor"])
    assert [row["id"] for row in back["data"]] == [row["id"] for row in first["data"]]
    assert back["has_more"] is True, "one came meanwhile"


def test_what_is_no_query_is_refused(gateways: list[Gateway]) -> None:
    tenant = make_tenant(gateways[0].installation)
    for query in (
        "after=x", "after=cur_zzz", "before=cur_" + "z" * 26, "limit=0", "limit=101", "status=done", "cached=maybe", "key_id=1",
        "error_code=A", "operation=a-b", "start=yesterday", "color=red", "version=", "user_id=",
        "start=2026-01-02T00:00:00Z&end=2026-01-02T00:00:00Z", f"after={quote('req_' + str(uuid.uuid4()))}&before=x",
    ):  # fmt: skip
        assert_problem(get(gateways[0].public_url, f"/api/v1/requests?{query}", tenant.key), 422, "validation_failed")


@pytest.fixture(scope="module")
def many(gateways: list[Gateway]) -> Tenant:
    """A tenant with many requests, of which few are of any one kind."""
    tenant = make_tenant(gateways[0].installation)
    with psycopg.connect(gateways[0].installation.database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO requests (request_id, tenant_id, key_id, model, model_version, status, http_status, error_code,
                created_at, completed_at, processing_us, cached, operation)
            SELECT (left(uuid_lower_bound(t)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3)
                    || '-' || substr(md5(n::text), 7, 12))::uuid,
                %(tenant)s, %(key)s, CASE WHEN n %% 50000 = 7 THEN 'rare' ELSE 'common' END, (n %% 3)::text,
                CASE WHEN n %% 40000 = 11 THEN 'failed' ELSE 'completed' END, CASE WHEN n %% 40000 = 11 THEN 504 ELSE 200 END,
                CASE WHEN n %% 40000 = 11 THEN 'upstream_timeout' END, t, t, 1000, n %% 2 = 0,
                CASE WHEN n %% 4 = 0 THEN 'embeddings' ELSE 'predict' END
            FROM (SELECT n, now() - interval '1 hour' + n * interval '10 milliseconds' AS t
                FROM generate_series(1, %(many)s) n) s
            """,
            {"tenant": tenant.id, "key": tenant.key_id, "many": MANY},
        )
        connection.execute("ANALYZE requests")
    return tenant


def test_filters_find_all_and_nothing_else(gateways: list[Gateway], many: Tenant) -> None:
    assert len(all_pages(gateways, many, model="rare", limit=100)) == 4
    assert len(all_pages(gateways, many, status="failed")) == 5
    assert len(all_pages(gateways, many, error_code="upstream_timeout", limit=2)) == 5
    assert all_pages(gateways, many, error_code="overloaded") == []
    assert len(all_pages(gateways, many, model="rare", cached="true")) == 0
    assert len(all_pages(gateways, many, model="rare", cached="false")) == 4
    assert len(all_pages(gateways, many, key_id=str(uuid.uuid4()))) == 0
    assert len(all_pages(gateways, many, user_id=str(uuid.uuid4()))) == 0
    assert len(all_pages(gateways, many, status="queued")) == 0


def test_a_range_of_time_is_half_open(gateways: list[Gateway], many: Tenant) -> None:
    with psycopg.connect(gateways[0].installation.database_url, autocommit=True) as connection:
        first, last = connection.execute(
            "SELECT min(created_at), max(created_at) FROM (SELECT created_at FROM requests WHERE tenant_id = %s "
            "ORDER BY created_at OFFSET 1000 LIMIT 150) s",
            (many.id,),
        ).fetchone()

    def text(instant: datetime) -> str:
        return instant.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")

    after = last + timedelta(microseconds=1)
    assert len(all_pages(gateways, many, start=text(first), end=text(after), limit=100)) == 150
    assert len(all_pages(gateways, many, start=text(first), end=text(last), limit=100)) == 149
    found = all_pages(gateways, many, start=text(first), end=text(after), operation="embeddings", version="1", limit=7)
    assert 10 <= len(found) <= 15 and len(set(found)) == len(found)
