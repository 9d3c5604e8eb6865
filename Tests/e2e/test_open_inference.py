"""The Open Inference Protocol v2 over two real gateways, as tritonclient speaks it and as bytes on the wire."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from api import IRIS_ROW, REQUEST_ID, bearer, predict
from books import bare, entries_of, journal_calls, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, Worker, model_file
from tenancy import Tenant, make_key, make_model, make_tenant, route, unique
from wire import Answer, send_once

pytestmark = pytest.mark.timeout(90)

NUMPY_TYPES = {
    "BOOL": numpy.bool_,
    "UINT8": numpy.uint8,
    "UINT16": numpy.uint16,
    "UINT32": numpy.uint32,
    "UINT64": numpy.uint64,
    "INT8": numpy.int8,
    "INT16": numpy.int16,
    "INT32": numpy.int32,
    "INT64": numpy.int64,
    "FP16": numpy.float16,
    "FP32": numpy.float32,
    "FP64": numpy.float64,
}


@pytest.fixture(scope="module")
def model(installation: Installation, second_gateway: Gateway) -> Iterator[str]:
    """The iris model of a reference worker that is spoken to by the protocol, known to both gateways."""
    yield from served(installation, second_gateway, "oip")


@pytest.fixture(scope="module")
def plain_model(installation: Installation, second_gateway: Gateway) -> Iterator[str]:
    """The same by plain predict."""
    yield from served(installation, second_gateway, "predict")


def served(installation: Installation, second_gateway: Gateway, protocol: str, **more: Any) -> Iterator[str]:
    name = unique(f"tensors-{protocol}")
    with installation.worker(name, "--model", str(model_file(installation, name))) as worker:
        publish(installation, second_gateway, name, worker, protocol, **more)
        yield name


def publish(
    installation: Installation, second_gateway: Gateway, name: str, worker: Worker, protocol: str, **more: Any
) -> None:
    make_model(installation, name, **more)
    route(installation, name, worker.address, protocol=protocol)
    probe = make_tenant(installation)
    for url in (installation.public_url, second_gateway.public_url):
        wait_until(lambda url=url: predict(url, probe.key, name).status == 200, f"{name} is routed", 20)


@pytest.fixture
def client(installation: Installation) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(installation.public_url.removeprefix("http://"))
    yield made
    made.close()


def rows_input(rows: Any, datatype: str = "FP64", *, is_binary: bool = True) -> triton.InferInput:
    values = numpy.array(rows, dtype=NUMPY_TYPES[datatype])
    given = triton.InferInput("input0", list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=is_binary)
    return given


def infer(
    url: str, key: str, model: str, body: Any, headers: dict[str, str] | None = None, verb: str = "infer"
) -> Answer:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {**bearer(key), "Content-Type": "application/json", **(headers or {})}
    return send_once(url, "POST", f"/v2/models/{model}/{verb}", all_headers, payload)


def question(data: Any = None, shape: list[int] | None = None, datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    data = IRIS_ROW if data is None else data
    return {"inputs": [{"name": "input0", "shape": shape or [1, 4], "datatype": datatype, "data": data}], **more}


def assert_error(answer: Answer, status: int) -> str:
    assert answer.status == status, (answer.status, answer.body[:300])
    assert (answer.header("content-type") or "").split(";")[0] == "application/json"
    assert REQUEST_ID.match(answer.request_id or ""), answer.headers
    body = answer.json()
    assert list(body) == ["error"] and isinstance(body["error"], str) and body["error"], body
    return body["error"]


# The server and its models


def test_the_server_describes_itself(client: triton.InferenceServerClient, installation: Installation) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "weir"
    for extension in metadata["extensions"]:
        assert extension in {"binary_tensor_data", "generate", "statistics"}
    ready = send_once(installation.public_url, "GET", "/v2/health/ready", None)
    assert ready.json() == {"live": True, "ready": True}
    assert send_once(installation.public_url, "HEAD", "/v2/health/live", None).status == 200


def test_models_are_described_to_whom_they_are_for(
    client: triton.InferenceServerClient, installation: Installation, model: str, tenant: Tenant
) -> None:
    headers = bearer(tenant.key)
    assert client.is_model_ready(model, headers=headers)
    assert client.is_model_ready(model, "1", headers=headers)
    assert not client.is_model_ready(unique("nothing"), headers=headers)
    metadata = client.get_model_metadata(model, headers=headers)
    assert metadata["name"] == model and metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "input0", "datatype": "FP64", "shape": [-1, 4]}]
    index = client.get_model_repository_index(headers=headers)
    assert {"name": model, "version": "1", "state": "READY", "reason": ""} in index
    other = make_key(installation.admin, tenant.id, allowed_models=["iris"])
    assert {entry["name"] for entry in client.get_model_repository_index(headers=bearer(other.key))} == {"iris"}
    answers = [
        send_once(installation.public_url, "GET", f"/v2/models/{name}", bearer(other.key))
        for name in (model, unique("nothing"))
    ]
    assert assert_error(answers[0], 404) == assert_error(answers[1], 404)
    assert_error(send_once(installation.public_url, "GET", f"/v2/models/{model}", None), 401)
    assert_error(send_once(installation.public_url, "GET", f"/v2/models/{model}/versions/9", headers), 404)
    assert_error(send_once(installation.public_url, "GET", f"/v2/models/{model}/infer", headers), 405)
    assert_error(send_once(installation.public_url, "GET", "/v2/nothing", headers), 404)


# Inference


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_tritonclient_is_answered(
    client: triton.InferenceServerClient, model: str, tenant: Tenant, installation: Installation, is_binary: bool
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("probabilities", "prediction")]
    result = client.infer(
        model,
        [rows_input([IRIS_ROW, [6.7, 3.0, 5.2, 2.3]], is_binary=is_binary)],
        outputs=outputs,
        request_id="a-1",
        headers=bearer(tenant.key),
    )
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == (model, "1", "a-1")
    assert [output["name"] for output in response["outputs"]] == ["probabilities", "prediction"]
    predictions = [value.decode() if isinstance(value, bytes) else value for value in result.as_numpy("prediction")]
    assert predictions == ["setosa", "virginica"]
    native = [predict(installation.public_url, tenant.key, model, row).json()
              for row in (IRIS_ROW, [6.7, 3.0, 5.2, 2.3])]
    assert result.as_numpy("probabilities").tolist() == [body["probabilities"] for body in native]
    with installation.database() as database:
        entries = usage_entries(database, tenant.id)
    assert len(entries) == 3
    assert sorted((entry.input_tokens, entry.output_tokens) for entry in entries) == [(4, 1), (4, 1), (8, 2)]


def test_all_outputs_are_binary_where_the_client_names_none(
    client: triton.InferenceServerClient, model: str, tenant: Tenant
) -> None:
    result = client.infer(model, [rows_input([IRIS_ROW])], headers=bearer(tenant.key))
    assert result.as_numpy("prediction")[0] in (b"setosa", "setosa")
    assert all("data" not in output for output in result.get_response()["outputs"])


@pytest.mark.parametrize("datatype", [name for name in NUMPY_TYPES if name != "BOOL"])
def test_every_number_type_is_read(
    client: triton.InferenceServerClient, model: str, plain_model: str, tenant: Tenant, datatype: str
) -> None:
    for name in (model, plain_model):
        answers = [
            client.infer(name, [rows_input([[5, 3, 1, 0]], datatype, is_binary=is_binary)], headers=bearer(tenant.key))
            for is_binary in ((True,) if datatype == "FP16" else (True, False))
        ]
        assert {bytes(answer.as_numpy("prediction")[0]) for answer in answers} == {b"setosa"}


def test_workers_of_plain_predict_take_rows(
    client: triton.InferenceServerClient, installation: Installation, plain_model: str, tenant: Tenant
) -> None:
    result = client.infer(
        plain_model, [rows_input([IRIS_ROW, [6.7, 3.0, 5.2, 2.3], IRIS_ROW])], headers=bearer(tenant.key)
    )
    assert result.as_numpy("prediction").tolist() == [b"setosa", b"virginica", b"setosa"]
    assert result.as_numpy("probabilities").shape == (3, 3)
    single = infer(installation.public_url, tenant.key, plain_model, question(shape=[4]))
    assert single.json()["outputs"][0] == {
        "name": "prediction", "shape": [1], "datatype": "BYTES", "data": ["setosa"],
    }
    for wrong in (
        question([[IRIS_ROW]], [1, 1, 4]),
        question(["a", "b", "c", "d"], datatype="BYTES"),
        question(outputs=[{"name": "other"}]),
    ):
        assert_error(infer(installation.public_url, tenant.key, plain_model, wrong), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b"{", b'{"inputs":[]}',
        question([1, 2, 3]), question([1, 2, 3, 4, 5]), question([[1, 2], [3, 4]]), question([1, 2, 3, "4"]),
        question(shape=[-1, 4]), question(shape=[9223372036854775807, 4]), question(shape=[4611686018427387904, 4]),
        question(datatype="FP8"), question([1, 2, 3, 300], datatype="UINT8"), question([1, 2, 3, 1e39], datatype="FP32"),
        b'{"inputs":[{"name":"x","shape":[4],"datatype":"FP64","data":[1,2,3,NaN]}]}',
        b'{"inputs":[{"name":"x","shape":[4],"datatype":"FP64","data":[1,2,3,1e999]}]}',
        question(id=7), question(parameters={"a": [1]}), question(parameters={"a": None}), question(url="http://x"),
        question(parameters={"sequence_id": 1}), question(data=[1, 2, 3], shape=[1, 3]),
        b'{"inputs":[],"inputs":[]}',
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_request_is_refused_and_free(
    installation: Installation, model: str, tenant: Tenant, body: Any
) -> None:
    assert_error(infer(installation.public_url, tenant.key, model, body), 400)
    with installation.database() as database:
        assert usage_entries(database, tenant.id) == []


def test_binary_bodies_have_to_be_what_their_head_says(installation: Installation, model: str, tenant: Tenant) -> None:
    data = struct.pack("<4f", *IRIS_ROW)
    text = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
            ]
        }
    ).encode()

    def send(body: bytes, length: Any) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if length is not None:
            headers["Inference-Header-Content-Length"] = str(length)
        return infer(installation.public_url, tenant.key, model, body, headers)

    assert send(text + data, len(text)).json()["outputs"][0]["data"] == ["setosa"]
    for body, length in [
        (text + data, None), (text + data, len(text) - 1), (text + data, len(text) + 1), (text + data, "x"),
        (text + data, -1), (text + data, 10**30), (text + data[:-1], len(text)), (text + data + b"\0", len(text)),
        (text + struct.pack("<4f", 1, 2, 3, float("nan")), len(text)), (text, len(text)),
    ]:  # fmt: skip
        assert_error(send(body, length), 400)
    compressed = infer(installation.public_url, tenant.key, model, text, {"Content-Encoding": "gzip"})
    assert_error(compressed, 415)
    assert_error(infer(installation.public_url, tenant.key, model, text, {"Content-Type": "text/plain"}), 415)


def test_whole_numbers_of_64_bits_arrive_as_they_were_sent(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    """A linear model that gives its one input back, asked with numbers that no FP64 holds, is told them exactly."""
    name = unique("echo")
    path = installation.log_folder / f"{name}.json"
    path.write_text(
        json.dumps(
            {"name": name, "version": "1", "kind": "linear", "features": ["a"], "coefficients": [[1.0]], "intercepts": [0]}
        )
    )
    with installation.worker(name, "--model", str(path)) as worker:
        make_model(installation, name, feature_count=1)
        route(installation, name, worker.address, protocol="oip")
        wait_until(
            lambda: infer(installation.public_url, tenant.key, name, question([7], [1, 1])).status == 200, "the route", 20
        )
        exact = infer(installation.public_url, tenant.key, name, question([2**53], [1, 1], "INT64"))
        assert exact.json()["outputs"][0]["data"] == [2.0**53]
        # The worker says that it cannot compute with this one, so it was told this one and not its neighbour.
        refused = infer(installation.public_url, tenant.key, name, question([2**53 + 1], [1, 1], "INT64"))
        assert_error(refused, 400)
        assert_error(
            infer(installation.public_url, tenant.key, name, question([2**63], [1, 1], "INT64")), 400
        )


# One pipeline


def test_no_way_around_key_scope_model_and_quota(installation: Installation, model: str, tenant: Tenant) -> None:
    url = installation.public_url
    assert_error(send_once(url, "POST", f"/v2/models/{model}/infer", None, json.dumps(question()).encode()), 401)
    reader = make_key(installation.admin, tenant.id, scopes=["read"])
    assert_error(infer(url, reader.key, model, question()), 403)
    narrow = make_key(installation.admin, tenant.id, allowed_models=["iris"])
    assert_error(infer(url, narrow.key, model, question()), 403)
    assert_error(infer(url, tenant.key, unique("nothing"), question()), 404)
    assert_error(infer(url, tenant.key, f"{model}/versions/9", question()), 404)
    assert_error(infer(url, tenant.key, "..%2firis", question()), 404)
    with installation.database() as database:
        assert usage_entries(database, tenant.id) == []


def test_a_repeated_key_is_answered_once_and_told_apart(
    installation: Installation, second_gateway: Gateway, model: str, tenant: Tenant
) -> None:
    data = struct.pack("<4f", *IRIS_ROW)
    text = json.dumps(
        {
            "parameters": {"binary_data_output": True},
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
        }
    ).encode()
    headers = {"Idempotency-Key": unique("key"), "Inference-Header-Content-Length": str(len(text))}
    first = infer(installation.public_url, tenant.key, model, text + data, headers)
    assert first.status == 200, first.body
    again = infer(second_gateway.public_url, tenant.key, model, text + data, headers)
    assert again.header("idempotent-replayed") == "true"
    assert again.body == first.body
    for name in ("inference-header-content-length", "content-type", "x-request-id"):
        assert again.header(name) == first.header(name)
    assert first.header("content-type") == "application/octet-stream"
    # Other data behind the same JSON is another request, and so is the same body for another version.
    other = struct.pack("<4f", 6.7, 3.0, 5.2, 2.3)
    assert_error(infer(second_gateway.public_url, tenant.key, model, text + other, headers), 422)
    assert_error(infer(second_gateway.public_url, tenant.key, f"{model}/versions/1", text + data, headers), 422)
    with installation.database() as database:
        assert len(usage_entries(database, tenant.id)) == 1
        assert entries_of(database, first.request_id or "") == 1


def test_the_cache_knows_a_tensor_in_every_form(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    for name in served(installation, second_gateway, "oip", cache={"enabled": True, "ttl_seconds": 60}):
        url = installation.public_url
        miss = infer(url, tenant.key, name, question(id="one"))
        assert "fwd" in (miss.header("cache-status") or ""), miss.headers
        hit = infer(url, tenant.key, name, question([IRIS_ROW], id="two"))
        assert "hit" in (hit.header("cache-status") or ""), hit.headers
        assert hit.json() == {**miss.json(), "id": "two"}
        data = struct.pack("<4d", *IRIS_ROW)
        text = json.dumps(
            {
                "parameters": {"binary_data_output": True},
                "inputs": [
                    {"name": "input0", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
                ],
            }
        ).encode()
        binary = infer(url, tenant.key, name, text + data, {"Inference-Header-Content-Length": str(len(text))})
        assert "hit" in (binary.header("cache-status") or ""), binary.headers
        # Another datatype is another question.
        assert "fwd" in (infer(url, tenant.key, name, question(datatype="FP32")).header("cache-status") or "")
        stats = send_once(url, "GET", f"/v2/models/{name}/stats", bearer(tenant.key)).json()["model_stats"]
        assert [(entry["name"], entry["version"]) for entry in stats] == [(name, "1")]
        assert (stats[0]["inference_count"], stats[0]["execution_count"]) == (2, 2)
        assert {kind: stats[0]["inference_stats"][kind]["count"] for kind in ("success", "fail", "cache_hit", "cache_miss")} == {
            "success": 4, "fail": 0, "cache_hit": 2, "cache_miss": 2,
        }
        assert stats[0]["last_inference"] > 1_500_000_000_000
        stranger = make_tenant(installation)
        other = send_once(url, "GET", f"/v2/models/{name}/versions/1/stats", bearer(stranger.key)).json()["model_stats"]
        assert other[0]["inference_count"] == 0, "nobody sees what others ask"


def test_equal_json_before_other_tensors_is_another_question(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    for name in served(installation, second_gateway, "oip", cache={"enabled": True, "ttl_seconds": 60}):
        tensor = {"name": "input0", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
        text = json.dumps({"inputs": [tensor]}).encode()
        head = {"Inference-Header-Content-Length": str(len(text))}
        statuses = []
        for row in (IRIS_ROW, [6.7, 3.0, 5.2, 2.3], IRIS_ROW):
            answer = infer(installation.public_url, tenant.key, name, text + struct.pack("<4d", *row), head)
            assert answer.status == 200, answer.body
            statuses.append("hit" in (answer.header("cache-status") or ""))
        assert statuses == [False, False, True]
        # A job is kept and answered as JSON, so this is refused before anything is taken.
        later = infer(
            installation.public_url, tenant.key, name, text + struct.pack("<4d", *IRIS_ROW), {**head, "Prefer": "respond-async"})
        assert later.status == 400 and "respond-async" in later.json()["error"], later.body


def test_a_body_is_divided_by_one_length_and_not_by_two(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    """Whoever reads the first of two lengths and whoever reads the last would see two requests."""
    for name in served(installation, second_gateway, "oip"):
        tensor = {"name": "input0", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
        text = json.dumps({"inputs": [tensor]}).encode()
        body = text + struct.pack("<4d", *IRIS_ROW)
        length = str(len(text))
        for lengths, status in (([length], 200), ([length, length], 400), ([length, "2"], 400), (["2", length], 400), (["x"], 400)):
            fields = [*bearer(tenant.key).items(), *(("Inference-Header-Content-Length", each) for each in lengths)]
            answer = send_once(installation.public_url, "POST", f"/v2/models/{name}/infer", fields, body)
            assert answer.status == status, (lengths, answer.body)
        with installation.database() as database:
            assert len(usage_entries(database, tenant.id)) == 1


def test_errors_are_exceptions_of_the_client(client: triton.InferenceServerClient, tenant: Tenant) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer(unique("nothing"), [rows_input([IRIS_ROW])], headers=bearer(tenant.key))
    assert "no model" in str(raised.value)


def test_the_worker_is_called_once_for_each_request(
    installation: Installation, second_gateway: Gateway, tenant: Tenant
) -> None:
    name = unique("counted")
    worker = Worker(installation, name, ["--model", str(model_file(installation, name))]).start()
    publish(installation, second_gateway, name, worker, "oip")
    answers = [infer(installation.public_url, tenant.key, name, question()) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    calls = journal_calls(worker.journal_path)
    with installation.database() as database:
        entries = usage_entries(database, tenant.id)
        assert {row.status for row in request_rows(database, tenant.id)} == {"completed"}
        operations = database.execute(
            "SELECT DISTINCT operation FROM requests WHERE tenant_id = %s", [tenant.id]
        ).fetchall()
    assert len(entries) == 20 and all(calls[entry.request_id] == 1 for entry in entries)
    assert operations == [("infer",)]
    assert worker.process is not None
    worker.process.stop(5)


def test_a_tenant_that_keeps_its_prompts_can_send_bytes(
    installation: Installation, model: str, tenant: Tenant
) -> None:
    with installation.database() as database:
        database.execute("UPDATE tenants SET retention = 'full' WHERE tenant_id = %s", [tenant.id])
        key = make_key(installation.admin, tenant.id).key
        data = struct.pack("<4f", 5, 3, 1, 0)
        assert b"\0" in data
        text = json.dumps(
            {
                "inputs": [
                    {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
                ]
            }
        ).encode()
        answer = infer(installation.public_url, key, model, text + data, {"Inference-Header-Content-Length": str(len(text))})
        assert answer.status == 200, answer.body
        prompt, result = database.execute(
            "SELECT prompt, content FROM requests JOIN results USING (result_id) WHERE request_id = %s",
            [bare(answer.request_id)],
        ).fetchone()
    assert json.loads(prompt)["inputs"][0]["data"] == [5, 3, 1, 0]
    assert json.loads(result)["outputs"] == answer.json()["outputs"]
