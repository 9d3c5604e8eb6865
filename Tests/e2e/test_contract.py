"""The two contracts in openapi/ are valid, and strict where it matters."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = yaml.safe_load((ROOT / "openapi" / "weir.yaml").read_text())
ADMIN = yaml.safe_load((ROOT / "openapi" / "weir-admin.yaml").read_text())
DOCUMENTS = pytest.mark.parametrize("document", [PUBLIC, ADMIN], ids=["public", "admin"])


def resolve(document, node):
    while isinstance(node, dict) and "$ref" in node:
        target = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def responses(document):
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            yield name, status, resolve(document, response)


def is_valid(document, schema, value):
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "components": document["components"]}
    checker = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
    return not list(checker.iter_errors(value))


@DOCUMENTS
def test_the_document_is_valid(document):
    validate(document)


@DOCUMENTS
def test_every_answer_has_a_request_id(document):
    missing = [(name, status) for name, status, response in responses(document)
               if "x-request-id" not in response.get("headers", {})]
    assert missing == []


@DOCUMENTS
def test_every_error_is_in_its_paths_dialect(document):
    for name, status, response in responses(document):
        if status == "default" or int(status) >= 400 and name != "GET /readyz":
            # The OpenAI API and the Open Inference Protocol have errors of their own.
            is_foreign = name.split(" ")[1].startswith(("/v1/", "/v2"))
            expected = "application/json" if is_foreign else "application/problem+json"
            assert list(response["content"]) == [expected], (name, status)


@DOCUMENTS
def test_every_operation_with_a_key_can_refuse_it(document):
    for name, operation in operations(document):
        is_open = operation.get("security", document["security"]) == []
        assert is_open != ("401" in operation["responses"]), name


@DOCUMENTS
def test_operation_ids_are_unique(document):
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))


# What the OpenAI API's clients send goes to a worker as it is; each of these says so itself.
OPEN_INPUTS = {"ChatCompletionRequest", "CompletionRequest", "EmbeddingRequest"}


def alternatives(schema):
    """The schemas of which an input fits one, as they are referred to."""
    is_choice = "$ref" not in schema and "oneOf" in schema and "properties" not in schema
    return schema["oneOf"] if is_choice else [schema]


@DOCUMENTS
def test_inputs_take_no_unknown_field(document):
    for name, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            for each in alternatives(content["application/json"]["schema"]):
                is_open = each.get("$ref", "").rpartition("/")[2] in OPEN_INPUTS
                assert resolve(document, each)["additionalProperties"] is is_open, name


@pytest.mark.parametrize("body, fits", [
    ({"model": "words", "prompt": "a", "top_k": 3}, True),
    ({"model": "words", "messages": [{"role": "user", "content": "a"}], "top_k": 3}, True),
    ({"model": "vectors", "input": "a", "top_k": 3}, True),
    ({"model": "iris", "features": [1]}, True),
    ({"model": "iris", "features": [1], "top_k": 3}, False),
    ({"model": "words", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}, False),
    ({"model": "words", "prompt": "a", "input": "a"}, False),
    ({"model": "words"}, False),
])
def test_what_fits_generate(body, fits):
    content = PUBLIC["paths"]["/generate"]["post"]["requestBody"]["content"]["application/json"]
    assert is_valid(PUBLIC, content["schema"], body) is fits


def test_both_ways_to_spell_predict_answer_alike():
    with_slash = PUBLIC["paths"]["/predict/"]["post"]
    without = PUBLIC["paths"]["/predict"]["post"]
    for part in ["parameters", "requestBody", "responses"]:
        assert with_slash[part] == without[part]


def test_the_two_documents_share_their_schemas():
    public, admin = PUBLIC["components"]["schemas"], ADMIN["components"]["schemas"]
    shared = set(public) & set(admin) - {"Request"}
    assert {"Problem", "UsageReport", "RequestId"} <= shared
    assert [name for name in shared if public[name] != admin[name]] == []


def examples(document):
    def of_media(name, content):
        for media in content.values():
            for value in [media.get("example")] + [each["value"] for each in media.get("examples", {}).values()]:
                if value is not None:
                    yield name, media["schema"], value

    for name, operation in operations(document):
        yield from of_media(name, operation.get("requestBody", {}).get("content", {}))
    for name, status, response in responses(document):
        yield from of_media(f"{name} {status}", response.get("content", {}))
    for name, schema in document["components"]["schemas"].items():
        for value in schema.get("examples", []):
            yield name, schema, value


@DOCUMENTS
def test_examples_fit_their_schemas(document):
    found = list(examples(document))
    assert len(found) > 10
    assert [name for name, schema, value in found if not is_valid(document, schema, value)] == []


@pytest.mark.parametrize("body", [
    {"model": "iris", "features": [5.1, 3.5, 1.4, 0.2]},
    {"model": "iris", "version": "1", "inputs": [[1, 2, 3, 4], [5, 6, 7, 8]]},
])
def test_a_good_prediction_request_fits(body):
    assert is_valid(PUBLIC, {"$ref": "#/components/schemas/PredictRequest"}, body)


@pytest.mark.parametrize("body", [
    {},
    {"model": "iris"},
    {"features": [1]},
    {"model": "iris", "features": []},
    {"model": "iris", "features": [1] * 4097},
    {"model": "iris", "features": ["1"]},
    {"model": "iris", "features": [1], "inputs": [[1]]},
    {"model": "iris", "features": [1], "url": "http://127.0.0.1/"},
    {"model": "../iris", "features": [1]},
    {"model": "Iris", "features": [1]},
    {"model": "a" * 129, "features": [1]},
])
def test_a_bad_prediction_request_does_not_fit(body):
    assert not is_valid(PUBLIC, {"$ref": "#/components/schemas/PredictRequest"}, body)


@pytest.mark.parametrize("schema, value", [
    ("NewTenant", {"name": "a", "tier": "basic", "id": "x"}),
    ("TenantChange", {}),
    ("TenantChange", {"state": "deleted"}),
    ("UnitPrice", "1e-6"),
    ("UnitPrice", "-1"),
    ("UnitPrice", "0.0000000000001"),
    ("RouteChange", {"replicas": []}),
    ("NewKey", {"scopes": ["root"]}),
])
def test_bad_admin_input_does_not_fit(schema, value):
    assert not is_valid(ADMIN, {"$ref": f"#/components/schemas/{schema}"}, value)
