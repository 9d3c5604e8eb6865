"""Who may not come in: every wrong credential gets its status, its code and an unbroken connection."""

import pytest

import keys
from api import assert_problem, assert_served, bearer, get, predict, predict_body, predict_headers, problem_without_ids
from deadline import wait_until
from installation import Installation
from tenancy import Tenant, make_key, make_tenant, make_model, unique
from wire import Wire, send_once

PREDICT = ("POST", "/predict/")
JSON = {"Content-Type": "application/json"}


def test_the_keys_of_these_tests_match_the_written_ones() -> None:
    for made, written in keys.written_down().items():
        assert made == written


def refused(url: str, headers: list[tuple[str, str]], status: int = 401, code: str = "invalid_api_key") -> dict:
    """Sends a prediction with these credentials; checks the refusal and that the connection can be used again."""
    with Wire(url) as wire:
        answer = wire.request(*PREDICT, headers + [("Content-Type", "application/json")], predict_body())
        problem = assert_problem(answer, status, code)
        if status == 401:
            assert answer.header("www-authenticate") == "Bearer", answer.headers
        assert wire.still_serves()
        return problem


@pytest.mark.parametrize(
    "target",
    [
        "/predict/",
        "/predict",
        "/api/v1/usage",
        "/api/v1/quota",
        "/api/v1/requests",
        "/api/v1/requests/req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42",
        "/status/req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42",
    ],
)
def test_without_a_key(installation: Installation, target: str) -> None:
    method = "POST" if target.startswith("/predict") else "GET"
    with Wire(installation.public_url) as wire:
        answer = wire.request(
            method, target, JSON if method == "POST" else None, predict_body() if method == "POST" else None
        )
        assert_problem(answer, 401, "missing_key")
        assert answer.header("www-authenticate") == "Bearer"
        assert wire.still_serves()


@pytest.mark.parametrize(
    "credential",
    [
        "Basic dXNlcjpwYXNzd29yZA==",
        "Bearer",
        "Bearer ",
        "bearer",
        "Token abc",
        'Digest username="x"',
        "Bearer a b",
        "Bearer " + "x" * 10_000,
        "Bearer sk-1234",
        "Bearer ' OR '1'='1",
        "Bearer weir_live_0123456789AB_'; DROP TABLE api_keys; --",
        "Bearer " + keys.with_wrong_checksum(keys.well_formed()),
        "Bearer " + keys.well_formed()[:-1],
        "Bearer " + keys.well_formed() + "0",
        "Bearer " + keys.well_formed("prod"),
        "Bearer " + keys.well_formed().replace("weir", "wier", 1),
        "Bearer " + keys.well_formed().upper(),
        "Bearer " + keys.well_formed(public_id="0123456789A-"),
        "Bearer " + keys.well_formed(secret="0" * 31 + "\xe9"),
        "Bearer " + keys.well_formed(),
        "Bearer " + keys.well_formed("test", "AbCdEfGhIjKl", "abcdefghijklmnopqrstuvwxyzABCDEF"),
    ],
    ids=[
        "basic",
        "no-token",
        "empty-token",
        "lower-case-scheme-alone",
        "other-scheme",
        "digest",
        "two-tokens",
        "ten-kilobytes",
        "foreign-format",
        "quotes",
        "sql",
        "wrong-checksum",
        "too-short",
        "too-long",
        "unknown-environment",
        "wrong-prefix",
        "upper-case",
        "wrong-alphabet",
        "not-ascii",
        "unknown-live",
        "unknown-test",
    ],
)
def test_a_wrong_credential(installation: Installation, credential: str) -> None:
    refused(installation.public_url, [("Authorization", credential)])


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_other_headers_carry_a_key_too(installation: Installation, key: str, name: str) -> None:
    answer = send_once(installation.public_url, *PREDICT, {name: key, **JSON}, predict_body())
    assert_served(answer)
    refused(installation.public_url, [(name, keys.well_formed())])


def test_two_authorization_headers(installation: Installation, key: str) -> None:
    answer = send_once(
        installation.public_url,
        *PREDICT,
        [
            ("Authorization", f"Bearer {key}"),
            ("Authorization", f"Bearer {keys.well_formed()}"),
            ("Content-Type", "application/json"),
        ],
        predict_body(),
    )
    assert_problem(answer, 401, "invalid_api_key")


def test_two_different_credentials(installation: Installation, key: str) -> None:
    answer = send_once(
        installation.public_url, *PREDICT, {**bearer(key), "x-api-key": keys.well_formed(), **JSON}, predict_body()
    )
    assert_problem(answer, 400, "bad_request")


@pytest.mark.parametrize("target", ["/predict/?api_key={}", "/predict/?key={}", "/predict/?access_token={}"])
def test_a_key_in_the_query_is_no_key_and_is_not_logged(installation: Installation, key: str, target: str) -> None:
    answer = send_once(installation.public_url, "POST", target.format(key), JSON, predict_body())
    assert_problem(answer, 401, "missing_key")
    assert_secret_is_not_logged(installation, key)


def test_a_key_in_the_body_is_no_key_and_is_not_logged(installation: Installation, key: str) -> None:
    answer = send_once(installation.public_url, *PREDICT, JSON, predict_body(api_key=key))
    assert_problem(answer, 401, "missing_key")
    assert_secret_is_not_logged(installation, key)


def assert_secret_is_not_logged(installation: Installation, key: str) -> None:
    secret = key.split("_")[3]
    for path in installation.log_folder.glob("*.err"):
        assert secret not in path.read_text(errors="replace"), path


def test_a_revoked_and_an_unknown_key_get_the_same_answer(installation: Installation, tenant: Tenant) -> None:
    spare = make_key(installation.admin, tenant.id)
    assert_served(predict(installation.public_url, spare.key))
    installation.admin.expect("DELETE", f"/admin/v1/keys/{spare.key_id}")
    wait_until(lambda: predict(installation.public_url, spare.key).status == 401, "the revoked key is refused", 5)
    revoked = predict(installation.public_url, spare.key)
    unknown = predict(installation.public_url, keys.well_formed())
    assert_problem(revoked, 401, "invalid_api_key")
    assert problem_without_ids(revoked) == problem_without_ids(unknown)
    assert {name.lower() for name, _ in revoked.headers} == {name.lower() for name, _ in unknown.headers}
    assert_served(predict(installation.public_url, tenant.key))


def test_an_expired_key(installation: Installation, tenant: Tenant) -> None:
    expired = make_key(installation.admin, tenant.id)
    assert_served(predict(installation.public_url, expired.key))
    with installation.database() as database:
        database.execute(
            "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE public_id = %s",
            [expired.key.split("_")[2]],
        )
    wait_until(lambda: predict(installation.public_url, expired.key).status == 401, "the expired key is refused", 5)
    refused(installation.public_url, [("Authorization", f"Bearer {expired.key}")])


def test_a_key_that_expires_while_it_is_known(installation: Installation, tenant: Tenant) -> None:
    with installation.database() as database:
        soon = database.execute(
            "SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 seconds', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        )
        expires_at = soon.fetchone()[0]
    brief = make_key(installation.admin, tenant.id, expires_at=expires_at)
    assert_served(predict(installation.public_url, brief.key))
    wait_until(lambda: predict(installation.public_url, brief.key).status == 401, "the key has expired", 6)
    refused(installation.public_url, [("Authorization", f"Bearer {brief.key}")])


def test_a_suspended_tenant(installation: Installation) -> None:
    suspended = make_tenant(installation)
    assert_served(predict(installation.public_url, suspended.key))
    installation.admin.expect("PATCH", f"/admin/v1/tenants/{suspended.id}", {"state": "suspended"}, (200,))
    wait_until(lambda: predict(installation.public_url, suspended.key).status == 403, "the tenant is suspended", 5)
    refused(installation.public_url, [("Authorization", f"Bearer {suspended.key}")], 403, "tenant_suspended")


def test_a_key_that_may_not_call_the_model(installation: Installation, tenant: Tenant) -> None:
    other = unique("other-model")
    make_model(installation, other)
    limited = make_key(installation.admin, tenant.id, allowed_models=[other])
    refused(installation.public_url, [("Authorization", f"Bearer {limited.key}")], 403, "model_not_allowed")


@pytest.mark.parametrize(
    ("scopes", "target"),
    [
        (["predict"], "/api/v1/usage"),
        (["predict"], "/api/v1/requests"),
        (["billing"], "/api/v1/requests"),
        (["read"], "/api/v1/usage"),
    ],
)
def test_a_key_without_the_scope(installation: Installation, tenant: Tenant, scopes: list[str], target: str) -> None:
    limited = make_key(installation.admin, tenant.id, scopes=scopes)
    assert_problem(get(installation.public_url, target, limited.key), 403, "insufficient_scope")


def test_a_key_without_the_scope_to_predict_is_not_metered(installation: Installation, tenant: Tenant) -> None:
    reading = make_key(installation.admin, tenant.id, scopes=["read", "billing"])
    refused(installation.public_url, [("Authorization", f"Bearer {reading.key}")], 403, "insufficient_scope")
    assert get(installation.public_url, "/api/v1/usage", reading.key).json()["total"]["requests"] == 0


@pytest.mark.parametrize(
    "path", ["/metrics", "/admin/v1/tenants", "/admin/v1/tiers", "/admin/v1/models", "/admin/v1/routes"]
)
def test_a_customers_key_on_the_admin_listener(installation: Installation, key: str, path: str) -> None:
    assert_problem(get(installation.admin_url, path, key), 403, "wrong_plane")
    assert_problem(get(installation.admin_url, path), 401, "missing_key")
    assert_problem(get(installation.admin_url, path, keys.well_formed("admn")), 401, "invalid_api_key")


@pytest.mark.parametrize("target", ["/predict/", "/api/v1/usage", "/api/v1/requests"])
def test_an_admin_key_on_the_public_listener(installation: Installation, target: str) -> None:
    method = "POST" if target.startswith("/predict") else "GET"
    answer = send_once(
        installation.public_url,
        method,
        target,
        predict_headers(installation.admin_key),
        predict_body() if method == "POST" else None,
    )
    assert_problem(answer, 403, "wrong_plane")


@pytest.mark.parametrize("field", ["tenant_id", "role", "credit", "is_admin", "price"])
def test_a_field_that_is_not_for_the_caller_to_set(installation: Installation, field: str) -> None:
    answer = installation.admin.call(
        "POST", "/admin/v1/tenants", {"name": unique("tenant"), "tier": "basic", field: "x"}
    )
    problem = assert_problem(answer, 400, "unknown_field")
    assert field in problem["errors"][0]["location"], problem
