"""Why a request was admitted and charged as it was, and what one would cost: against the ledger and the answers."""

from decimal import Decimal

from api import assert_problem, assert_served, get, predict, predict_body, predict_headers
from deadline import wait_until
from installation import Installation
from tenancy import make_model, make_tenant, route, unique
from wire import send_once


def test_the_explanation_adds_up_to_what_the_answer_said(installation: Installation) -> None:
    tenant = make_tenant(installation)
    answer = predict(installation.public_url, tenant.key)
    body = assert_served(answer)
    told = get(installation.public_url, f"/api/v1/requests/{body['request_id']}/explain", tenant.key)
    assert told.status == 200, told.body
    explanation = told.json()
    assert explanation["request_id"] == body["request_id"] and explanation["failure"] is None
    charge = explanation["charge"]
    cost = (answer.header("x-weir-cost-micros") or "").split(";")[0]
    assert str(charge["cost_micros"]) == cost
    assert charge["price_version"] == answer.header("x-weir-price-version")
    assert sum(Decimal(line["amount"]) for line in charge["lines"]) == Decimal(charge["exact_amount"])
    for line in charge["lines"]:
        assert line["quantity"] * Decimal(line["unit_price"]) == Decimal(line["amount"])
    admission = explanation["admission"]
    assert admission["lease_id"] and admission["held_tokens"] >= body["usage"]["input_tokens"]
    policies = {policy["policy"]: policy for policy in admission["policies"]}
    shown = get(installation.public_url, "/api/v1/quota", tenant.key).json()["data"]
    assert {line["policy"] for line in shown} == set(policies)
    for line in shown:
        assert policies[line["policy"]]["limit"] == line["limit"]
        assert policies[line["policy"]]["period_start"] == line["period_start"]
        assert policies[line["policy"]]["granted"] >= 1


def test_a_request_that_was_never_taken_has_no_explanation(installation: Installation) -> None:
    tenant = make_tenant(installation)
    answer = predict(installation.public_url, tenant.key, model="no-such-model")
    assert_problem(answer, 404, "model_not_found")
    told = get(installation.public_url, f"/api/v1/requests/{answer.request_id}/explain", tenant.key)
    assert_problem(told, 404, "not_found")


def test_a_failed_request_is_explained_and_not_charged(installation: Installation) -> None:
    tenant = make_tenant(installation)
    model = unique("down-")
    make_model(installation, model)
    route(installation, model, "127.0.0.1:1")
    wait_until(lambda: predict(installation.public_url, tenant.key, model=model).status != 404, "the model is known", 15)
    answer = predict(installation.public_url, tenant.key, model=model)
    assert_problem(answer, 503, "no_healthy_worker")
    explanation = get(
        installation.public_url, f"/api/v1/requests/{answer.request_id}/explain", tenant.key
    ).json()
    assert explanation["status"] == "failed" and explanation["charge"] is None
    assert explanation["failure"]["code"] == "no_healthy_worker" and explanation["failure"]["charged"] is False


def test_another_tenants_request_cannot_be_explained(installation: Installation) -> None:
    owner, stranger = make_tenant(installation), make_tenant(installation)
    request_id = assert_served(predict(installation.public_url, owner.key))["request_id"]
    assert_problem(
        get(installation.public_url, f"/api/v1/requests/{request_id}/explain", stranger.key), 404, "not_found"
    )


def test_a_quote_bounds_the_cost_and_changes_nothing(installation: Installation) -> None:
    tenant = make_tenant(installation)
    quoted = send_once(
        installation.public_url, "POST", "/api/v1/quote", predict_headers(tenant.key), predict_body(), timeout=20.0
    )
    assert quoted.status == 200, quoted.body
    quote = quoted.json()
    assert quote["admission"] == "free" and quote["rows"] == 1
    assert get(installation.public_url, "/api/v1/requests", tenant.key).json()["data"] == []
    assert all(line["settled"] == 0 for line in get(installation.public_url, "/api/v1/quota", tenant.key).json()["data"])
    answer = predict(installation.public_url, tenant.key)
    body = assert_served(answer)
    cost = int((answer.header("x-weir-cost-micros") or "").split(";")[0])
    assert cost <= quote["cost_micros_at_most"]
    assert body["usage"]["input_tokens"] + body["usage"]["output_tokens"] <= quote["tokens_at_most"]
    assert quote["price_version"] == answer.header("x-weir-price-version")
