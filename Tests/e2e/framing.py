"""Heads of requests that are wrong in some way, and what becomes of who sends them."""

from api import assert_problem
from wire import Wire


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
