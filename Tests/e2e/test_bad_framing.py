"""HTTP that is malformed, hostile or endless: the exact status, a problem with a stable code, and the promised end of
the connection.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from api import assert_problem, assert_served, bearer, predict_body, predict_headers
from installation import Gateway, Installation
from wire import ConnectionEnded, Wire, head

BODY = predict_body()
HEAD_TIMEOUT_MILLISECONDS = 700
BODY_TIMEOUT_MILLISECONDS = 900
IDLE_TIMEOUT_MILLISECONDS = 1_100


@pytest.fixture
def wire(installation: Installation) -> Iterator[Wire]:
    with Wire(installation.public_url) as connection:
        yield connection


@pytest.fixture(scope="module")
def impatient(installation: Installation) -> Gateway:
    """A gateway whose time limits are short enough to wait for."""
    return installation.gateway(
        "impatient",
        {
            "WEIR_HEAD_TIMEOUT_MS": str(HEAD_TIMEOUT_MILLISECONDS),
            "WEIR_BODY_TIMEOUT_MS": str(BODY_TIMEOUT_MILLISECONDS),
            "WEIR_IDLE_TIMEOUT_MS": str(IDLE_TIMEOUT_MILLISECONDS),
        },
    ).start()


def predict_head(key: str, host: str, *lines: str) -> bytes:
    """The head of a prediction with a Host and these further lines, as they are."""
    first = [
        "POST /predict/ HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


def refuse_and_close(wire: Wire, sent: bytes, status: int, code: str) -> None:
    """What was sent is refused, and nothing after it is read from this connection."""
    wire.send(sent)
    answer = wire.read_answer()
    assert_problem(answer, status, code)
    assert answer.says_close, answer.headers
    assert wire.ended(), "the connection stayed open"


# --- Host (10)


def test_no_host(wire: Wire) -> None:
    refuse_and_close(wire, b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_request")


@pytest.mark.parametrize(
    "host", ["", "a b", "exa/mple", "user@example", "example:port", 'exam"ple', "[::1", "example:99999"]
)
def test_a_bad_host(wire: Wire, host: str) -> None:
    refuse_and_close(wire, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 400, "bad_request")


@pytest.mark.parametrize("second", ["localhost", "elsewhere.example"])
def test_two_hosts(wire: Wire, second: str) -> None:
    refuse_and_close(
        wire, f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: {second}\r\n\r\n".encode(), 400, "bad_request"
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8080", "weir.example", "WEIR.example.:443"])
def test_a_good_host(wire: Wire, host: str) -> None:
    wire.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert wire.read_answer().status == 200


# --- Length and transfer coding (11 to 16)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -1"],
        ["Content-Length: 0x5"],
        ["Content-Length: 2 2"],
        ["Content-Length: 99999999999999999999"],
        ["Content-Length: 5a"],
        ["Content-Length:"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: identity, chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip"],
        ['Transfer-Encoding: "chunked"'],
    ],
    ids=lambda lines: " & ".join(lines),
)
def test_a_length_that_could_be_read_in_two_ways(wire: Wire, key: str, lines: list[str]) -> None:
    refuse_and_close(wire, predict_head(key, wire.host, *lines) + b"5\r\nhello\r\n0\r\n\r\n", 400, "bad_request")


SIZE = f"{len(BODY):x}".encode()


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x" + SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"+" + SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"-" + SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n",
        SIZE + b"\r\n" + BODY + b"X\r\n0\r\n\r\n",
        SIZE + b"\n" + BODY + b"\n0\n\n",
        b"size\r\n" + BODY + b"\r\n0\r\n\r\n",
        SIZE.zfill(17) + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        SIZE + b";" + b"x" * 300 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        SIZE + b";" + b"x" * 20_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        SIZE + b"\r\n" + BODY + b"\r\n0;" + b"x" * 300 + b"\r\n\r\n",
        SIZE + b";a\x00b\r\n" + BODY + b"\r\n0\r\n\r\n",
    ],
    ids=[
        "hexadecimal-prefix",
        "plus",
        "minus",
        "overflow",
        "no-line-end-after-chunk",
        "bare-line-feeds",
        "no-number",
        "seventeen-digits",
        "long-extension",
        "very-long-extension",
        "long-extension-of-the-last-chunk",
        "nul-in-extension",
    ],
)
def test_a_chunk_that_is_not_one(wire: Wire, key: str, chunks: bytes) -> None:
    refuse_and_close(wire, predict_head(key, wire.host, "Transfer-Encoding: chunked") + chunks, 400, "bad_request")


@pytest.mark.parametrize(
    ("trailer", "status", "code"),
    [
        (b"X-Long: " + b"y" * 9_000, 431, "headers_too_large"),
        (b"Content-Length: 5", 400, "bad_request"),
        (b"Transfer-Encoding: chunked", 400, "bad_request"),
        (b"Authorization: Bearer x", 400, "bad_request"),
        (b"Host: elsewhere.example", 400, "bad_request"),
    ],
    ids=["long", "content-length", "transfer-encoding", "authorization", "host"],
)
def test_a_bad_trailer(wire: Wire, key: str, trailer: bytes, status: int, code: str) -> None:
    chunk = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n" + trailer + b"\r\n\r\n"
    refuse_and_close(wire, predict_head(key, wire.host, "Transfer-Encoding: chunked") + chunk, status, code)


def test_short_extensions_are_ignored(wire: Wire, key: str) -> None:
    chunks = SIZE + b';name="value"\r\n' + BODY + b"\r\n0;last\r\n\r\n"
    for _ in range(2):
        wire.send(predict_head(key, wire.host, "Transfer-Encoding: chunked") + chunks)
        assert_served(wire.read_answer())
    assert wire.still_serves()


def test_a_broken_chunk_behind_a_good_request(wire: Wire, key: str) -> None:
    """The good one is answered first."""
    good = predict_head(key, wire.host, f"Content-Length: {len(BODY)}") + BODY
    broken = SIZE + b";" + b"x" * 300 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
    wire.send(good + predict_head(key, wire.host, "Transfer-Encoding: chunked") + broken)
    assert_served(wire.read_answer())
    assert_problem(wire.read_answer(), 400, "bad_request")
    assert wire.ended()


def test_a_chunked_body_is_served(wire: Wire, key: str) -> None:
    chunks = b"".join(f"{1:x}\r\n".encode() + bytes([byte]) + b"\r\n" for byte in BODY) + b"0\r\n\r\n"
    wire.send(predict_head(key, wire.host, "Transfer-Encoding: chunked") + chunks)
    assert_served(wire.read_answer())
    assert wire.still_serves()


# --- Header syntax and size (17 to 19)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Folded: one\r\n two\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Nul: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Bell: a\x07b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Return: a\rb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX Space: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET /health z HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"get /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=[
        "bare-line-feeds",
        "space-before-colon",
        "folded",
        "nul",
        "bell",
        "bare-return",
        "space-in-name",
        "empty-name",
        "no-colon",
        "space-in-target",
        "space-at-end",
        "lower-case-method",
        "http-0.9",
        "tls",
        "http-2",
        "http-9.9",
        "nonsense",
    ],
)
def test_a_malformed_head(wire: Wire, sent: bytes) -> None:
    """400 and the end of the connection; where the bytes are no HTTP at all, the end alone is enough."""
    wire.send(sent)
    try:
        answer = wire.read_answer()
    except ConnectionEnded as ended:
        assert ended.received == b""
        return
    assert answer.status in (400, 505), answer
    assert_problem(answer, answer.status, "bad_request" if answer.status == 400 else "http_version_not_supported")
    assert wire.ended(), "the connection stayed open"


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-Field-{number}: v" for number in range(101)],
        ["X-Long: " + "v" * 17_000],
        [f"X-Field-{number}: " + "v" * 4_000 for number in range(9)],
        [f"X-F{number}: v" for number in range(1_100)],
        ["X-Long: " + "v" * 1_000_000],
    ],
    ids=["101-fields", "17-kilobytes", "36-kilobytes", "1100-fields", "a-megabyte"],
)
def test_too_large_a_head(wire: Wire, headers: list[str]) -> None:
    try:
        wire.send("\r\n".join(["GET /healthz HTTP/1.1", f"Host: {wire.host}", *headers, "", ""]).encode())
    except OSError:
        pass  # refused before all of it was taken
    answer = wire.read_answer()
    assert_problem(answer, 431, "headers_too_large")
    assert wire.ended()


def test_a_head_within_the_limits(wire: Wire) -> None:
    headers = [(f"X-Field-{number}", "v" * 250) for number in range(60)]
    assert wire.request("GET", "/healthz", headers).status == 200


@pytest.mark.parametrize("length", [9_000, 40_000, 200_000])
def test_too_long_a_target(wire: Wire, length: int) -> None:
    try:
        wire.send(head("GET", "/" + "x" * length, wire.host))
    except OSError:
        pass
    assert_problem(wire.read_answer(), 414, "uri_too_long")
    assert wire.ended()


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


# --- Bodies: too large, too short, too slow (28 to 31)


@pytest.mark.parametrize("target", ["/predict/", "/predict", "/nothing/here"])
def test_an_endless_body_is_not_drained(installation: Installation, key: str, target: str) -> None:
    """Ten gigabytes are announced; the refusal comes at once, and what is taken after it is what buffers hold."""
    with Wire(installation.public_url) as wire:
        wire.send(head("POST", target, wire.host, {**predict_headers(key), "Content-Length": "10000000000"}))
        answer = wire.read_answer()
        if target.startswith("/predict"):
            assert_problem(answer, 413, "request_too_large")
            assert answer.says_close
        else:
            assert_problem(answer, 404, "not_found")
        taken = wire.send_until_refused(b"x" * 65_536, most=256 << 20)
        assert taken < 64 << 20, f"{taken} bytes were taken after the refusal"


def test_a_chunked_body_that_grows_too_large(installation: Installation, key: str) -> None:
    with Wire(installation.public_url) as wire:
        wire.send(predict_head(key, wire.host, "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        taken = wire.send_until_refused(chunk, most=256 << 20)
        assert taken < 64 << 20, f"{taken} bytes were taken"
        try:
            assert_problem(wire.read_answer(), 413, "request_too_large")
        except ConnectionEnded as ended:
            # A reset may overtake the answer when more was sent than was read.
            assert ended.received == b"" or b"413" in ended.received


def test_a_body_at_the_limit_is_read(wire: Wire, key: str) -> None:
    body = BODY[:-1] + b" " * (1_048_576 - len(BODY)) + b"}"
    assert len(body) == 1_048_576
    assert_served(wire.request("POST", "/predict/", predict_headers(key), body))
    answer = wire.request("POST", "/predict/", predict_headers(key), body + b" ")
    assert_problem(answer, 413, "request_too_large")


def test_a_body_cut_short_reaches_no_worker_and_costs_nothing(installation: Installation, tenant) -> None:
    with Wire(installation.public_url) as wire:
        wire.send(predict_head(tenant.key, wire.host, f"Content-Length: {len(BODY) + 1}") + BODY)
        wire.finish_sending()
        try:
            answer = wire.read_answer()
            assert_problem(answer, 400, "bad_request")
        except ConnectionEnded as ended:
            assert ended.received == b""
    with installation.database() as database:
        assert database.execute("SELECT count(*) FROM requests WHERE tenant_id = %s", [tenant.id]).fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchone() == (0,)


def slow_first_byte(wire: Wire, key: str) -> None:
    wire.send(b"POST /predict/ HT")


def slow_header(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host)[:-2] + b"X-Slow: ")


def slow_body(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, f"Content-Length: {len(BODY)}") + BODY[:-1])


def slow_chunk(wire: Wire, key: str) -> None:
    wire.send(predict_head(key, wire.host, "Transfer-Encoding: chunked") + b"10\r\n{")


@pytest.mark.parametrize("begin", [slow_first_byte, slow_header, slow_body, slow_chunk])
def test_a_request_that_never_ends(impatient: Gateway, key: str, begin: Callable[[Wire, str], None]) -> None:
    with Wire(impatient.public_url, timeout=8) as wire:
        begin(wire, key)
        answer = wire.read_answer()
        assert_problem(answer, 408, "request_timeout")
        assert answer.says_close
        assert wire.ended(5)


def test_a_body_that_nobody_wants_is_not_waited_for(impatient: Gateway, key: str) -> None:
    """A route without a body answers at once, and the connection ends: what follows could be the rest of the body."""
    with Wire(impatient.public_url, timeout=8) as wire:
        wire.send(head("GET", "/api/v1/usage", wire.host, {**bearer(key), "Content-Length": "10"}) + b"x")
        assert wire.read_answer().status in (200, 408)
        assert wire.ended(5)


def test_a_trickled_head_gets_no_more_time_for_each_byte(impatient: Gateway) -> None:
    """The deadline is for the whole head; a byte now and then does not move it."""
    with Wire(impatient.public_url, timeout=HEAD_TIMEOUT_MILLISECONDS / 1_000 / 4) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\n")
        for number in range(40):
            try:
                answer = wire.read_answer()
                assert_problem(answer, 408, "request_timeout")
                return
            except TimeoutError:
                try:
                    wire.send(f"X-{number}: v\r\n".encode())
                except OSError:
                    return
            except ConnectionEnded:
                return
    pytest.fail("the head was given more time with every byte")


def test_an_idle_connection_is_closed_without_a_word(impatient: Gateway) -> None:
    with Wire(impatient.public_url, timeout=8) as wire:
        assert wire.request("GET", "/healthz").status == 200
        assert wire.ended(8)


def test_a_connection_that_never_says_anything_is_closed(impatient: Gateway) -> None:
    with Wire(impatient.public_url, timeout=8) as wire:
        try:
            assert_problem(wire.read_answer(), 408, "request_timeout")
        except ConnectionEnded as ended:
            assert ended.received == b""


def test_slow_connections_do_not_slow_others(impatient: Gateway, key: str) -> None:
    slow = [socket.create_connection(("127.0.0.1", impatient.port)) for _ in range(200)]
    try:
        for connection in slow:
            connection.send(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        with Wire(impatient.public_url, timeout=10) as wire:
            assert_served(wire.request("POST", "/predict/", predict_headers(key), BODY))
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "gzip, gzip", "unknown"])
def test_a_coded_body(wire: Wire, key: str, coding: str) -> None:
    answer = wire.request("POST", "/predict/", {**predict_headers(key), "Content-Encoding": coding}, BODY)
    assert_problem(answer, 415, "unsupported_encoding")


def test_the_identity_coding_is_no_coding(wire: Wire, key: str) -> None:
    assert_served(wire.request("POST", "/predict/", {**predict_headers(key), "Content-Encoding": "identity"}, BODY))


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
