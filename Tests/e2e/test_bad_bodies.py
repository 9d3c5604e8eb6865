"""Bodies that are too large, cut short, coded or endless, and clients that are too slow to be waited for."""

import socket
from collections.abc import Callable

import pytest

from api import assert_problem, assert_served, bearer, predict_body, predict_headers
from framing import predict_head
from installation import Gateway, Installation
from wire import ConnectionEnded, Wire, head

BODY = predict_body()
HEAD_TIMEOUT_MILLISECONDS = 700
BODY_TIMEOUT_MILLISECONDS = 900
IDLE_TIMEOUT_MILLISECONDS = 1_100


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
