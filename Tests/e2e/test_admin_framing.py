"""HTTP that is malformed, hostile or endless, on the admin port: the same guard as in front of predictions, with limits
of its own.
"""

from collections.abc import Iterator

import pytest

from api import assert_problem, bearer
from installation import Gateway, Installation
from wire import Wire, head

HEAD_TIMEOUT_MILLISECONDS = 700
BODY_TIMEOUT_MILLISECONDS = 900
IDLE_TIMEOUT_MILLISECONDS = 1_100
MAX_BODY_BYTES = 20_000


@pytest.fixture(scope="module")
def strict(installation: Installation) -> Gateway:
    """A server whose admin listener has limits that can be reached, unlike those of its public one."""
    return installation.gateway(
        "strict-admin",
        {
            "WEIR_ADMIN_HEAD_TIMEOUT_MS": str(HEAD_TIMEOUT_MILLISECONDS),
            "WEIR_ADMIN_BODY_TIMEOUT_MS": str(BODY_TIMEOUT_MILLISECONDS),
            "WEIR_ADMIN_IDLE_TIMEOUT_MS": str(IDLE_TIMEOUT_MILLISECONDS),
            "WEIR_ADMIN_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        },
    ).start()


@pytest.fixture
def wire(strict: Gateway) -> Iterator[Wire]:
    """A connection to the admin port. Whatever a test sends, the next client is served."""
    with Wire(strict.admin_url) as connection:
        yield connection
    strict.admin.expect("GET", "/admin/v1/tenants", statuses=(200,))


@pytest.fixture
def admin_key(installation: Installation) -> str:
    return installation.admin_key


def change_head(key: str, host: str, *lines: str) -> bytes:
    """The head of a request that makes a model, with these further lines, as they are."""
    first = ["POST /admin/v1/models HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {key}"]
    return "\r\n".join([*first, "Content-Type: application/json", *lines, "", ""]).encode("latin-1")


def refuse_and_close(wire: Wire, sent: bytes, status: int, code: str) -> dict:
    wire.send(sent)
    answer = wire.read_answer()
    problem = assert_problem(answer, status, code)
    assert answer.says_close, answer.headers
    assert wire.ended(), "the connection stayed open"
    return problem


@pytest.mark.parametrize(
    "hosts", [[], ["localhost", "localhost"], ["localhost", "elsewhere.example"], ["a b"], [""]], ids=str
)
def test_anything_but_one_host(wire: Wire, hosts: list[str]) -> None:
    lines = ["GET /admin/v1/tenants HTTP/1.1", *(f"Host: {host}" for host in hosts), "", ""]
    refuse_and_close(wire, "\r\n".join(lines).encode(), 400, "bad_request")


@pytest.mark.parametrize("version", ["HTTP/3.0", "HTTP/2.0", "HTTP/1.0", "HTTP/9.9"])
def test_another_version(wire: Wire, version: str) -> None:
    sent = f"GET /admin/v1/tenants {version}\r\nHost: a\r\n\r\n".encode()
    refuse_and_close(wire, sent, 505, "http_version_not_supported")


def test_another_expectation(wire: Wire, admin_key: str) -> None:
    sent = change_head(admin_key, wire.host, "Content-Length: 2", "Expect: 200-ok")
    refuse_and_close(wire, sent, 417, "expectation_failed")


@pytest.mark.parametrize("length", [9_000, 40_000, 200_000])
def test_too_long_a_target(wire: Wire, length: int) -> None:
    try:
        wire.send(head("GET", "/" + "x" * length, wire.host))
    except OSError:
        pass  # refused before all of it was taken
    assert_problem(wire.read_answer(), 414, "uri_too_long")
    assert wire.ended()


@pytest.mark.parametrize(
    "headers",
    [[f"X-Field-{number}: v" for number in range(101)], ["X-Long: " + "v" * 17_000]],
    ids=["101-fields", "17-kilobytes"],
)
def test_too_large_a_head(wire: Wire, headers: list[str]) -> None:
    sent = "\r\n".join(["GET /metrics HTTP/1.1", f"Host: {wire.host}", *headers, "", ""]).encode()
    refuse_and_close(wire, sent, 431, "headers_too_large")


@pytest.mark.parametrize(
    "chunks",
    [b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n", b"2".zfill(17) + b"\r\n{}\r\n0\r\n\r\n", b"2\r\n{}X\r\n0\r\n\r\n"],
    ids=["extension-of-20-kilobytes", "seventeen-digits", "no-line-end-after-chunk"],
)
def test_a_chunk_that_is_not_one(wire: Wire, admin_key: str, chunks: bytes) -> None:
    sent = change_head(admin_key, wire.host, "Transfer-Encoding: chunked") + chunks
    refuse_and_close(wire, sent, 400, "bad_request")


def test_a_length_that_could_be_read_in_two_ways(wire: Wire, admin_key: str) -> None:
    sent = change_head(admin_key, wire.host, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    refuse_and_close(wire, sent, 400, "bad_request")


def test_a_body_over_the_limit(wire: Wire, admin_key: str) -> None:
    problem = refuse_and_close(
        wire, change_head(admin_key, wire.host, f"Content-Length: {MAX_BODY_BYTES + 1}"), 413, "request_too_large"
    )
    assert str(MAX_BODY_BYTES) in problem["detail"], "the text names another limit than the one that is set"


def test_a_chunked_body_that_grows_over_the_limit(wire: Wire, admin_key: str) -> None:
    chunk = f"{MAX_BODY_BYTES + 1:x}\r\n".encode() + b" " * (MAX_BODY_BYTES + 1) + b"\r\n"
    sent = change_head(admin_key, wire.host, "Transfer-Encoding: chunked") + chunk
    refuse_and_close(wire, sent, 413, "request_too_large")


def test_a_body_at_the_limit_is_read(wire: Wire, admin_key: str) -> None:
    body = b"{" + b" " * (MAX_BODY_BYTES - 2) + b"}"
    wire.send(change_head(admin_key, wire.host, f"Content-Length: {MAX_BODY_BYTES}") + body)
    assert_problem(wire.read_answer(), 422, "validation_failed")


@pytest.mark.parametrize("sent", [b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-"], ids=["line", "fields"])
def test_a_slow_head(wire: Wire, sent: bytes) -> None:
    refuse_and_close(wire, sent, 408, "request_timeout")


def test_a_slow_body(wire: Wire, admin_key: str) -> None:
    sent = change_head(admin_key, wire.host, "Content-Length: 10") + b'{"a'
    refuse_and_close(wire, sent, 408, "request_timeout")


def test_a_slow_head_behind_a_good_request(wire: Wire, admin_key: str) -> None:
    assert wire.request("GET", "/admin/v1/tenants", bearer(admin_key)).status == 200
    refuse_and_close(wire, b"GET /adm", 408, "request_timeout")


def test_an_idle_connection_is_closed_without_a_word(wire: Wire, admin_key: str) -> None:
    assert wire.request("GET", "/admin/v1/tenants", bearer(admin_key)).status == 200
    assert wire.ended()


def test_who_is_refused_is_not_read_on(wire: Wire) -> None:
    sent = change_head("weir_admn_wrong", wire.host, "Content-Length: 10000") + b"{"
    refuse_and_close(wire, sent, 401, "invalid_api_key")


def test_expect_continue(wire: Wire, admin_key: str) -> None:
    wire.send(change_head(admin_key, wire.host, "Content-Length: 2", "Expect: 100-continue"))
    assert wire._read_one(to_head=False).status == 100
    wire.send(b"{}")
    assert_problem(wire.read_answer(), 422, "validation_failed")


def test_a_method_that_is_not_there(wire: Wire, admin_key: str) -> None:
    answer = wire.request("DELETE", "/admin/v1/tenants", bearer(admin_key))
    assert_problem(answer, 405, "method_not_allowed")
    assert {name.strip() for name in (answer.header("allow") or "").split(",")} == {"GET", "POST"}
    assert wire.request("GET", "/admin/v1/tenants", bearer(admin_key)).status == 200


def test_pipelined_requests_are_answered_in_order(wire: Wire, admin_key: str) -> None:
    """And a broken one behind them in its turn."""
    one = head("GET", "/admin/v1/tenants?limit=1", wire.host, bearer(admin_key))
    other = head("GET", "/admin/v1/nowhere", wire.host, bearer(admin_key))
    wire.send((one + other) * 20 + b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(20):
        assert wire.read_answer().status == 200
        assert_problem(wire.read_answer(), 404, "not_found")
    assert_problem(wire.read_answer(), 400, "bad_request")
    assert wire.ended()
