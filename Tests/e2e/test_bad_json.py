"""Bodies that are no JSON, not the JSON that was asked for, or JSON that two parsers would read in two ways."""

import json

import pytest

from api import assert_problem, assert_served, predict_body, predict_headers
from deadline import wait_until
from installation import Installation
from tenancy import make_model, unique
from wire import Wire


def refuse(
    installation: Installation, key: str, body: bytes, status: int, code: str, headers: dict[str, str] | None = None
) -> dict:
    """The body is refused with this code, and the connection is closed where the answer says so, and usable if not."""
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", {**predict_headers(key), **(headers or {})}, body)
        problem = assert_problem(answer, status, code)
        assert wire.is_as_promised(answer), "the connection is not as the answer says"
        return problem


ROW = b"[5.1,3.5,1.4,0.2]"


@pytest.mark.parametrize(
    "body",
    [b"", b" \n\t", b"null", b"true", b"17", b'"iris"', b"[]", b"[" + ROW + b"]"],
    ids=["empty", "blank", "null", "true", "number", "string", "array", "rows"],
)
def test_a_body_that_is_no_object(installation: Installation, key: str, body: bytes) -> None:
    refuse(installation, key, body, 400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        predict_body()[:-1],
        predict_body()[:-20],
        b"{",
        b'{"model"',
        b'{"model":',
        b'{"model":"iris",',
        b'{"model":"iris"',
        predict_body() + b"x",
        predict_body() + predict_body(),
        predict_body() + b",",
        b"{}{}",
        predict_body() + b"\x00",
        b'{"model":"iris",// comment\n"features":' + ROW + b"}",
        b'{"model":"iris",/* comment */"features":' + ROW + b"}",
        b"\xef\xbb\xbf" + predict_body(),
        predict_body().decode().encode("utf-16"),
        predict_body().decode().encode("utf-32"),
        b'{"model":"ir\xffis","features":' + ROW + b"}",
        b'{"model":"\xc3\x28","features":' + ROW + b"}",
        b'{"model":"\xed\xa0\x80","features":' + ROW + b"}",
        b'{"model":"\xc0\xaf","features":' + ROW + b"}",
        b'{"model":"\\ud800","features":' + ROW + b"}",
        b'{"model":"\\udc00\\ud800","features":' + ROW + b"}",
        b'{"model":"\\x41","features":' + ROW + b"}",
        b'{"model":"a\nb","features":' + ROW + b"}",
        b'{"model":"a\tb","features":' + ROW + b"}",
        b"{'model':'iris'}",
        b'{model:"iris"}',
        b'{"model":"iris","features":' + ROW + b",}",
        b'{"model":"iris" "features":' + ROW + b"}",
        b'{"model":"iris","features":[5.1,3.5,1.4,0.2,]}',
        b'{"model":"iris","features":[,]}',
        b'{"model":"iris","features":[5.1 3.5]}',
        b'{"model":"iris","features":[5.1,3.5,1.4,0.2}',
        b'{"model":"iris","features":[TRUE]}',
        b'{"model":"iris","features":[nul]}',
        b"\x80\x04\x95\x10\x00\x00\x00",
    ],
)
def test_a_body_that_is_no_json(installation: Installation, key: str, body: bytes) -> None:
    refuse(installation, key, body, 400, "invalid_json")


@pytest.mark.parametrize("escape", [b"\\u0000", b"a\\u0000b"])
def test_a_string_with_nul(installation: Installation, key: str, escape: bytes) -> None:
    body = b'{"model":"' + escape + b'","features":' + ROW + b"}"
    refuse(installation, key, body, 422, "validation_failed")


@pytest.mark.parametrize("depth", [34, 200, 10_000, 250_000], ids=str)
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
def test_deep_nesting(installation: Installation, key: str, depth: int, opening: bytes, closing: bytes) -> None:
    count = min(depth, 1_000_000 // (len(opening) + len(closing)))
    body = b'{"model":"iris","features":' + opening * count + b"1" + closing * count + b"}"
    refuse(installation, key, body, 400, "too_deep")


def test_a_million_brackets_that_never_close(installation: Installation, key: str) -> None:
    refuse(installation, key, b"[" * 1_000_000, 400, "too_deep")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"iris","model":"other","features":' + ROW + b"}",
        b'{"model":"iris","model":"iris","features":' + ROW + b"}",
        b'{"model":"iris","features":' + ROW + b',"features":' + ROW + b"}",
        b'{"model":"iris","mod\\u0065l":"other","features":' + ROW + b"}",
        b'{"model":"iris","features":' + ROW + b',"x":1,"x":2}',
    ],
    ids=["other-value", "same-value", "features", "escaped", "unknown-key"],
)
def test_a_key_twice(installation: Installation, key: str, body: bytes) -> None:
    refuse(installation, key, body, 400, "duplicate_key")


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
        "1e400",
        "-1e400",
        "1e99999999999999999999",
        "9" * 400,
        "-" + "9" * 400,
    ],
    ids=lambda text: text if len(text) < 30 else f"{len(text)}-digits",
)
def test_a_number_that_is_none(installation: Installation, key: str, number: str) -> None:
    """Numbers beyond all bounds are `invalid_number`; words for them are no JSON."""
    body = f'{{"model":"iris","features":[5.1,3.5,1.4,{number}]}}'.encode()
    is_word = number.lstrip("-")[0].isalpha()
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", predict_headers(key), body)
        allowed = ("invalid_number", "invalid_json") if is_word else ("invalid_number",)
        assert answer.json()["code"] in allowed, answer.body
        assert_problem(answer, 400, answer.json()["code"])
        assert wire.still_serves()


@pytest.mark.parametrize("number", ["01", "+1", ".5", "1.", "1e", "1e+", "0x10", "--1", "1_000", "1,5e", "- 1"])
def test_a_number_in_another_spelling(installation: Installation, key: str, number: str) -> None:
    body = f'{{"model":"iris","features":[5.1,3.5,1.4,{number}]}}'.encode()
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", predict_headers(key), body)
        assert answer.json()["code"] in ("invalid_number", "invalid_json"), answer.body
        assert_problem(answer, 400, answer.json()["code"])
        assert wire.still_serves()


@pytest.mark.parametrize("number", ["0", "-0", "-0.0", "1e2", "1E-2", "9007199254740993", "1e300", "5e-324", "1e-400"])
def test_a_number_at_the_edge_is_taken(installation: Installation, key: str, number: str) -> None:
    """Whatever the model makes of it: finite numbers are numbers."""
    body = f'{{"model":"iris","features":[5.1,3.5,1.4,{number}]}}'.encode()
    with Wire(installation.public_url) as wire:
        assert_served(wire.request("POST", "/predict/", predict_headers(key), body))


@pytest.mark.parametrize(
    "body",
    [
        {"features": [5.1, 3.5, 1.4, 0.2]},
        {"model": "iris"},
        {"model": "iris", "features": [5.1, 3.5, 1.4, 0.2], "inputs": [[5.1, 3.5, 1.4, 0.2]]},
        {"model": "iris", "features": []},
        {"model": "iris", "features": [5.1, 3.5, 1.4]},
        {"model": "iris", "features": [5.1, 3.5, 1.4, 0.2, 9.9]},
        {"model": "iris", "features": ["5.1", 3.5, 1.4, 0.2]},
        {"model": "iris", "features": [5.1, 3.5, 1.4, None]},
        {"model": "iris", "features": [5.1, 3.5, 1.4, True]},
        {"model": "iris", "features": [[5.1, 3.5, 1.4, 0.2]]},
        {"model": "iris", "features": {"a": 1}},
        {"model": "iris", "features": "5.1,3.5,1.4,0.2"},
        {"model": "iris", "features": None},
        {"model": "iris", "inputs": []},
        {"model": "iris", "inputs": [[]]},
        {"model": "iris", "inputs": [[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4]]},
        {"model": "iris", "inputs": [5.1, 3.5, 1.4, 0.2]},
        {"model": "iris", "inputs": [[5.1, 3.5, 1.4, 0.2]] * 5_000},
        {"model": 17, "features": [5.1, 3.5, 1.4, 0.2]},
        {"model": None, "features": [5.1, 3.5, 1.4, 0.2]},
        {"model": ["iris"], "features": [5.1, 3.5, 1.4, 0.2]},
        {"model": "iris", "version": 1, "features": [5.1, 3.5, 1.4, 0.2]},
    ],
    ids=[
        "no-model",
        "no-features",
        "features-and-inputs",
        "no-numbers",
        "three-features",
        "five-features",
        "text",
        "null",
        "boolean",
        "nested",
        "object",
        "string",
        "features-null",
        "no-rows",
        "empty-row",
        "ragged-rows",
        "flat-rows",
        "too-many-rows",
        "model-is-a-number",
        "model-is-null",
        "model-is-a-list",
        "version-is-a-number",
    ],
)
def test_a_body_that_does_not_fit_the_model(installation: Installation, key: str, body: dict) -> None:
    problem = refuse(installation, key, json.dumps(body).encode(), 422, "validation_failed")
    assert problem["errors"], problem
    for error in problem["errors"]:
        assert error["location"] and error["message"], error


@pytest.mark.parametrize(
    "model",
    [
        "",
        "..",
        "a..b",
        "../iris",
        "iris/../iris",
        "iris/infer",
        "%2e%2e",
        "iris%2f",
        "IRIS",
        "Iris",
        "\u0456ris",
        "ir\u200bis",
        "-iris",
        ".iris",
        "i" * 129,
        "i" * 10_000,
        "iris ",
        " iris",
        "iris\n",
        "iris?x=1",
        "iris#",
        "http://127.0.0.1:1/",
    ],
)
def test_a_model_whose_name_is_no_name(installation: Installation, key: str, model: str) -> None:
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", predict_headers(key), predict_body(model))
        assert answer.status in (404, 422), answer
        assert_problem(answer, answer.status, {404: "model_not_found", 422: "validation_failed"}[answer.status])
        assert wire.still_serves()


def test_an_unknown_model(installation: Installation, key: str) -> None:
    refuse(installation, key, predict_body("no-such-model"), 404, "model_not_found")


def test_an_unknown_version(installation: Installation, key: str) -> None:
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", predict_headers(key), predict_body(version="no-such-version"))
        assert answer.status in (404, 503), answer
        assert_problem(answer, answer.status, {404: "model_not_found", 503: "no_healthy_worker"}[answer.status])


def test_a_model_without_a_route(installation: Installation, key: str) -> None:
    lonely = unique("lonely")
    make_model(installation, lonely)
    with Wire(installation.public_url) as wire:
        answer = wait_until(
            lambda: (
                (got := wire.request("POST", "/predict/", predict_headers(key), predict_body(lonely))).status == 503
                and got
            ),
            "the model is known",
            5,
        )
        assert_problem(answer, 503, "no_healthy_worker")
        assert int(answer.header("retry-after") or "") >= 1
        assert wire.still_serves()


@pytest.mark.parametrize("field", ["api_base", "base_url", "url", "callback", "headers"])
@pytest.mark.parametrize(
    "value", ["http://169.254.169.254/latest/meta-data", None, {"a": 1}], ids=["address", "null", "object"]
)
def test_a_field_that_would_choose_where_we_call(
    installation: Installation, key: str, field: str, value: object
) -> None:
    refuse(installation, key, predict_body(**{field: value}), 400, "forbidden_field")


def test_an_unknown_field(installation: Installation, key: str) -> None:
    refuse(installation, key, predict_body(temperature=0.5), 422, "validation_failed")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/xml",
        "text/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/x-pickle",
        "application/python-pickle",
        "application/octet-stream",
        "application/jsonp",
        "application/json2",
        "application/json, text/plain",
        "json",
        "*/*",
        "",
    ],
)
def test_another_content_type(installation: Installation, key: str, content_type: str) -> None:
    refuse(installation, key, predict_body(), 415, "unsupported_media_type", {"Content-Type": content_type})


def test_no_content_type(installation: Installation, key: str) -> None:
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", {"Authorization": f"Bearer {key}"}, predict_body())
        assert_problem(answer, 415, "unsupported_media_type")
        assert wire.is_as_promised(answer)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_json_in_its_spellings(installation: Installation, key: str, content_type: str) -> None:
    with Wire(installation.public_url) as wire:
        assert_served(
            wire.request("POST", "/predict/", {**predict_headers(key), "Content-Type": content_type}, predict_body())
        )


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "text/html", "application/xml", "application/problem+json;q=0"]
)
def test_accept_changes_nothing(installation: Installation, key: str, accept: str) -> None:
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", {**predict_headers(key), "Accept": accept}, predict_body())
        assert_served(answer)
        assert answer.header("content-type") == "application/json"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"' + b"k" * 1_000_000 + b'":1}', None),
        (b'{"model":"iris","features":[' + b",".join([b"1"] * 500_000) + b"]}", "validation_failed"),
        (b"{" + b",".join(b'"k%d":1' % number for number in range(80_000)) + b"}", None),
        (b'{"model":"' + b"x" * 1_000_000 + b'"}', None),
    ],
    ids=["a-megabyte-of-key", "half-a-million-numbers", "eighty-thousand-keys", "a-megabyte-of-model"],
)
def test_a_body_that_is_all_bulk(installation: Installation, key: str, body: bytes, code: str | None) -> None:
    with Wire(installation.public_url) as wire:
        answer = wire.request("POST", "/predict/", predict_headers(key), body)
        assert answer.status in (400, 404, 413, 422), answer
        assert_problem(answer, answer.status, code or answer.json()["code"])
    with Wire(installation.public_url) as wire:
        assert wire.still_serves()


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254:80",
        "0.0.0.0:80",
        "100.64.0.1:80",
        "8.8.8.8:80",
        "[fe80::1]:80",
        "[::ffff:169.254.169.254]:80",
        "2852039166:80",
        "0xa9fea9fe:80",
        "user@127.0.0.1:80",
        "127.0.0.1:80/path",
        "file:///etc/passwd",
        "gopher://127.0.0.1:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "",
    ],
)
def test_a_route_to_where_no_worker_may_be(installation: Installation, address: str) -> None:
    model = unique("targeted")
    make_model(installation, model)
    answer = installation.admin.call(
        "PUT",
        f"/admin/v1/routes/{model}",
        {"replicas": [{"address": address, "protocol": "predict", "weight": 1, "version": "1"}]},
    )
    assert_problem(answer, 422, "validation_failed")


def test_nothing_of_all_this_was_charged(installation: Installation) -> None:
    """A refused request has no ledger entry, whatever it was refused for."""
    with installation.database() as database:
        row = database.execute(
            "SELECT count(*) FROM ledger l JOIN requests r USING (request_id)"
            " WHERE l.kind = 'usage' AND r.http_status <> 200"
        ).fetchone()
    assert row == (0,)
