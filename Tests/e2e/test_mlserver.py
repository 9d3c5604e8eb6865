"""A worker that somebody else made: MLServer with a scikit-learn model, through the native route and the Open Inference Protocol."""

import json
from collections.abc import Iterator

import numpy
import pytest
import tritonclient.http as triton

from api import assert_served, bearer, get, predict, predict_body, predict_headers
from books import usage_entries
from deadline import wait_until
from installation import Gateway, Installation
from mlserver import IrisServer, iris_server
from tenancy import Tenant, make_model, make_tenant, unique
from wire import Wire, send_once

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(installation: Installation, second_gateway: Gateway) -> Iterator[IrisServer]:
    """The worker, with a route on every gateway. Each number counts as a token, and so does each answered row."""
    with iris_server(installation, unique("iris-sk")) as running:
        make_model(installation, running.model, token_counting="counted", version="v1")
        installation.admin.expect(
            "PUT",
            f"/admin/v1/routes/{running.model}",
            {"replicas": [{"address": running.address, "protocol": "oip", "version": "v1"}]},
            (200,),
        )
        probe = make_tenant(installation)
        for gateway in (installation.public_url, second_gateway.public_url):
            wait_until(lambda gateway=gateway: predict(gateway, probe.key, running.model).status == 200, "the route", 20)
        yield running


def assert_charged(installation: Installation, tenant: Tenant, server: IrisServer, requests: int, rows: int) -> None:
    with installation.database() as database:
        entries = usage_entries(database, tenant.id)
    assert len(entries) == requests
    assert {entry.model for entry in entries} == {server.model}
    assert sum(entry.requests for entry in entries) == requests
    assert sum(entry.input_tokens for entry in entries) == 4 * rows
    assert sum(entry.output_tokens for entry in entries) == rows
    assert {entry.token_source for entry in entries} == {"counted"}


def test_native_predictions_are_scikit_learns_own(
    installation: Installation, second_gateway: Gateway, server: IrisServer
) -> None:
    tenant = make_tenant(installation)
    with Wire(installation.public_url) as first, Wire(second_gateway.public_url) as second:
        for number, row in enumerate(server.rows):
            wire = second if number % 2 else first
            answer = wire.request(
                "POST", "/predict/", predict_headers(tenant.key), predict_body(server.model, row)
            )
            body = assert_served(answer)
            assert body["prediction"] == server.classes[number]
            assert body["version"] == "v1"
            assert body["usage"]["input_tokens"] == 4
        answer = first.request(
            "POST",
            "/predict/",
            predict_headers(tenant.key),
            json.dumps({"model": server.model, "inputs": server.rows}).encode(),
        )
        assert numpy.ravel(assert_served(answer)["prediction"]).tolist() == server.classes
    assert_charged(installation, tenant, server, len(server.rows) + 1, 2 * len(server.rows))


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_tensors_are_answered_as_scikit_learn_does(
    installation: Installation, second_gateway: Gateway, server: IrisServer, is_binary: bool
) -> None:
    """MLServer reads and writes JSON alone; the client speaks either form, and the floats are the same to the last bit."""
    tenant = make_tenant(installation)
    headers = bearer(tenant.key)
    clients = [
        triton.InferenceServerClient(gateway.public_url.removeprefix("http://"))
        for gateway in (installation, second_gateway)
    ]
    outputs = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("predict", "predict_proba")]
    count = 0
    for start in range(0, len(server.rows), 7):
        rows = numpy.array(server.rows[start : start + 7], dtype=numpy.float64)
        given = triton.InferInput("rows", list(rows.shape), "FP64")
        given.set_data_from_numpy(rows, binary_data=is_binary)
        client = clients[count % 2]
        count += 1
        result = client.infer(
            server.model, [given], model_version="v1", outputs=outputs, request_id=f"r{start}", headers=headers
        )
        response = result.get_response()
        assert response["model_name"] == server.model
        assert response["model_version"] == "v1"
        assert response["id"] == f"r{start}"
        assert result.as_numpy("predict").ravel().tolist() == server.classes[start : start + 7]
        assert result.as_numpy("predict_proba").tolist() == server.probabilities[start : start + 7]
    for client in clients:
        client.close()
    assert_charged(installation, tenant, server, count, len(server.rows))


@pytest.mark.parametrize("path", ["/predict/async", "/v2"])
def test_answers_that_are_fetched_later_are_the_same(
    installation: Installation, second_gateway: Gateway, server: IrisServer, path: str
) -> None:
    tenant = make_tenant(installation)
    if path == "/v2":
        path = f"/v2/models/{server.model}/infer"
        rows = [value for row in server.rows for value in row]
        tensor = {"name": "rows", "shape": [len(server.rows), 4], "datatype": "FP64", "data": rows}
        body = {"inputs": [tensor], "outputs": [{"name": "predict"}]}
    else:
        body = {"model": server.model, "inputs": server.rows}
    headers = {**predict_headers(tenant.key), "Prefer": "respond-async"}
    queued = send_once(installation.public_url, "POST", path, headers, json.dumps(body).encode())
    assert queued.status == 202, queued.body
    job = wait_until(
        lambda: next(
            (found for found in [get(second_gateway.public_url, queued.header("Location"), tenant.key).json()]
             if found["status"] == "completed"),
            None,
        ),
        "the job has run", 20)
    result = job["result"]
    found = result["prediction"] if "prediction" in result else result["outputs"][0]["data"]
    assert numpy.ravel(found).tolist() == server.classes
    assert_charged(installation, tenant, server, 1, len(server.rows))


def test_what_mlserver_refuses_is_the_callers_and_free(installation: Installation, server: IrisServer) -> None:
    tenant = make_tenant(installation)
    body = {
        "inputs": [{"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "no-such-output"}],
    }
    answer = send_once(
        installation.public_url,
        "POST",
        f"/v2/models/{server.model}/infer",
        predict_headers(tenant.key),
        json.dumps(body).encode(),
    )
    assert 400 <= answer.status < 500, answer.body
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)
    with installation.database() as database:
        assert usage_entries(database, tenant.id) == []
