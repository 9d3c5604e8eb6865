"""HTTP whose framing is malformed or hostile: the exact status, a problem with a stable code, and the promised end of the connection."""

import pytest

from api import assert_problem, assert_served, predict_body
from framing import predict_head, refuse_and_close
from wire import ConnectionEnded, Wire, head

BODY = predict_body()


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
