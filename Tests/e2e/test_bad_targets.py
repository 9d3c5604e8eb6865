"""Targets, methods, expectations and pipelines that are malformed or hostile: each is refused for what it is, and none reaches what it should not."""

import pytest

from api import assert_problem, assert_served, bearer, predict_body, predict_headers
from framing import predict_head
from wire import ConnectionEnded, Wire, head

BODY = predict_body()


# --- Target, method and version (20 to 23)


@pytest.mark.parametrize(
    "target", ["http://elsewhere.example/healthz", "http://127.0.0.1:1/predict/", "elsewhere.example:443", "*"]
)
def test_a_target_that_is_no_path_chooses_nothing(wire: Wire, target: str) -> None:
    answer = wire.request("GET", target)
    assert answer.status in (400, 404), answer
    assert_problem(answer, answer.status, {400: "bad_request", 404: "not_found"}[answer.status])


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", "/predict/", {"POST"}),
        ("GET", "/predict", {"POST"}),
        ("DELETE", "/predict/", {"POST"}),
        ("PUT", "/predict/", {"POST"}),
        ("POST", "/healthz", {"GET"}),
        ("DELETE", "/api/v1/usage", {"GET"}),
        ("POST", "/api/v1/requests", {"GET"}),
        ("PATCH", "/", {"GET"}),
    ],
)
def test_a_method_that_is_not_there(wire: Wire, key: str, method: str, target: str, allowed: set[str]) -> None:
    answer = wire.request(method, target, bearer(key))
    assert_problem(answer, 405, "method_not_allowed")
    named = {name.strip() for name in (answer.header("allow") or "").split(",")}
    assert allowed <= named <= allowed | {"HEAD", "OPTIONS"}, named


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
def test_a_method_that_is_nowhere(wire: Wire, key: str, method: str) -> None:
    answer = wire.request(method, "/predict/", bearer(key))
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in (answer.header("allow") or "")


def test_a_method_that_nobody_knows(wire: Wire, key: str) -> None:
    answer = wire.request("BREW", "/predict/", bearer(key))
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in (answer.header("allow") or "")


def test_connect(wire: Wire) -> None:
    answer = wire.request("CONNECT", "elsewhere.example:443")
    assert answer.status in (400, 405, 501), answer
    assert_problem(answer, answer.status, answer.json()["code"])


def test_http_1_0_is_not_spoken(wire: Wire) -> None:
    wire.send(b"GET /healthz HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    assert_problem(wire.read_answer(), 505, "http_version_not_supported")
    assert wire.ended()


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
        {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        },
    ],
    ids=["h2c", "websocket"],
)
def test_an_upgrade_is_ignored(wire: Wire, key: str, headers: dict[str, str]) -> None:
    """Answered as without it; then the connection ends, because behind such a request the parser reads nothing."""
    answer = wire.request("POST", "/predict/", {**predict_headers(key), **headers}, BODY)
    assert_served(answer)
    assert answer.header("upgrade") is None
    assert answer.says_close, answer.headers
    assert wire.ended()


def test_an_upgrade_of_another_route_is_ignored(wire: Wire) -> None:
    answer = wire.request("GET", "/healthz", {"Connection": "Upgrade", "Upgrade": "h2c"})
    assert answer.status == 200 and answer.says_close, answer.headers
    assert wire.ended()


def test_who_has_sent_all_still_gets_its_answer(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, f"Content-Length: {len(BODY)}") + BODY)
    wire.finish_sending()
    assert_served(wire.read_answer())
    assert wire.ended()


def test_bytes_behind_the_last_request_are_nobodys(wire: Wire, key: str) -> None:
    last = predict_head(key, wire.host, "Connection: close", f"Content-Length: {len(BODY)}") + BODY
    wire.send(last + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert_served(wire.read_answer())
    assert wire.ended(), "a second answer"


def test_who_reads_no_answers_is_not_read_from(wire: Wire) -> None:
    """Answers pile up in two sockets' buffers and nowhere else: sending comes to a stand."""
    refused = predict_head("weir_live_wrong", wire.host, f"Content-Length: {len(BODY)}") + BODY
    most = 64 << 20
    assert wire.send_until_refused(refused * 200, most) < most


# --- Expect, pipelining, hop-by-hop (24 to 27)


def test_expect_continue_is_answered_before_the_body(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
    first = wire._read_one(to_head=False)
    assert first.status == 100
    wire.send(BODY)
    assert_served(wire.read_answer())


def test_expect_continue_with_a_wrong_key_gets_the_refusal_at_once(wire: Wire) -> None:
    wire.send(predict_head("weir_live_wrong", wire.host, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
    answer = wire.read_answer()
    assert answer.interim == []
    assert_problem(answer, 401, "invalid_api_key")
    # The body was never sent; what comes next on this connection could not be told from it.
    assert wire.ended()


def test_expect_continue_with_too_large_a_body_gets_the_refusal_at_once(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, "Content-Length: 10000000000", "Expect: 100-continue"))
    answer = wire.read_answer()
    assert answer.interim == []
    assert_problem(answer, 413, "request_too_large")
    assert wire.ended()


def test_another_expectation(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, f"Content-Length: {len(BODY)}", "Expect: 200-ok"))
    assert_problem(wire.read_answer(), 417, "expectation_failed")
    assert wire.ended()


def test_pipelined_requests_are_answered_in_order(wire: Wire, key: str) -> None:
    one = predict_head(key, wire.host, f"Content-Length: {len(BODY)}") + BODY
    other = head("GET", "/healthz", wire.host)
    wire.send((one + other) * 50)
    for _ in range(50):
        assert_served(wire.read_answer())
        assert "alive" in wire.read_answer().json()
    assert wire.still_serves()


def test_garbage_after_a_valid_request(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, f"Content-Length: {len(BODY)}") + BODY + b"\x00\x01\x02 garbage\r\n\r\n")
    assert_served(wire.read_answer())
    try:
        assert_problem(wire.read_answer(), 400, "bad_request")
    except ConnectionEnded as ended:
        assert ended.received == b""
    assert wire.ended()


def test_a_smuggled_second_request_is_not_served(wire: Wire, key: str) -> None:
    """The second request hides in what a length of zero leaves over: a request of its own, which needs its own key."""
    hidden = b"GET /api/v1/usage HTTP/1.1\r\nHost: a\r\n\r\n"
    wire.send(predict_head(key, wire.host, "Content-Length: 0") + hidden)
    assert_problem(wire.read_answer(), 400, "invalid_json")
    try:
        assert_problem(wire.read_answer(), 401, "missing_key")
    except ConnectionEnded as ended:
        assert ended.received == b""


@pytest.mark.parametrize(
    "listed", ["Authorization", "X-Request-Id, Authorization", "Content-Type, Host", "X-Tenant-Id"]
)
def test_connection_cannot_take_our_fields_away(wire: Wire, key: str, listed: str) -> None:
    answer = wire.request("POST", "/predict/", {**predict_headers(key), "Connection": f"keep-alive, {listed}"}, BODY)
    if answer.status == 200:
        assert_served(answer)
    else:
        # Dropping a listed field is as right as ignoring the list; overwriting ours with it is not.
        assert answer.status in (400, 401, 415), answer


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Tenant-Id": "01930000-0000-7000-8000-000000000001"},
        {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Host": "elsewhere.example"},
        {"X-Request-Id": "req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42"},
        {"X-Request-Id": "x" * 4_096},
        {"X-Request-Id": 'a b"c'},
    ],
)
def test_what_a_client_says_of_itself_decides_nothing(wire: Wire, key: str, headers: dict[str, str]) -> None:
    body = assert_served(wire.request("POST", "/predict/", {**predict_headers(key), **headers}, BODY))
    assert body["request_id"] != headers.get("X-Request-Id")


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("order-17.a_b", "order-17.a_b"),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("a b", None),
        ('a"b', None),
        ("<script>", None),
    ],
)
def test_the_clients_own_id_is_echoed_where_it_is_harmless(wire: Wire, key: str, sent: str, echoed: str | None) -> None:
    answer = wire.request("POST", "/predict/", {**predict_headers(key), "X-Request-Id": sent}, BODY)
    assert_served(answer)
    assert answer.header("x-client-request-id") == echoed


# --- Paths (32)


@pytest.mark.parametrize(
    "target",
    [
        "//predict/",
        "/predict//",
        "/./predict/",
        "/../predict/",
        "/x/../predict/",
        "/%70redict/",
        "/predict%2f",
        "/%2e%2e/predict/",
        "/predict/%00",
        "/predict/%c0%af",
        "/Predict/",
        "/PREDICT/",
        "/predict;a=b/",
        "/predict/;a=b",
        "/predict/x",
        "/predict/?",
        "/predict/?a=b",
    ],
)
def test_a_path_in_another_spelling_needs_the_same_key(wire: Wire, target: str) -> None:
    """Not found, or the same route with the same refusal; never a way around the key."""
    answer = wire.request("POST", target, {"Content-Type": "application/json"}, BODY)
    assert answer.status in (400, 401, 404), answer
    assert_problem(answer, answer.status, {400: "bad_request", 401: "missing_key", 404: "not_found"}[answer.status])


@pytest.mark.parametrize(
    "target",
    ["/nothing", "/api/v1/nothing", "/models/../predict", "/admin/v1/tenants", "/metrics", "/.env", "/etc/passwd"],
)
def test_what_is_not_there(wire: Wire, key: str, target: str) -> None:
    assert_problem(wire.request("GET", target, bearer(key)), 404, "not_found")
    assert wire.still_serves()
