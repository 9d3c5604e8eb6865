"""The two HTTP surfaces as their users call them."""

import json
import re
from typing import Any

from wire import Answer, Wire, send_once

IRIS_ROW = [5.1, 3.5, 1.4, 0.2]

# `req_` and a UUID of version 7 in its usual form.
REQUEST_ID = re.compile(r"^req_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

# What an answer must never show: SQL, a driver's words, a source file, a trace.
INTERNALS = re.compile(
    rb"(?i)\bselect\b.+\bfrom\b|insert into|update .+ set |sqlstate|libpq|pq[a-z]+exec|relation \"|\.swift\b|"
    rb"stack trace|traceback|fatal error|swift\.|nio[a-z]*\.|hummingbird|thread \d+ crashed|0x[0-9a-f]{9,}"
)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def predict_body(model: str = "iris", features: Any = None, **more: Any) -> bytes:
    return json.dumps({"model": model, "features": IRIS_ROW if features is None else features, **more}).encode()


def predict_headers(key: str) -> dict[str, str]:
    return {**bearer(key), "Content-Type": "application/json"}


def predict(
    url: str, key: str, model: str = "iris", features: Any = None, timeout: float = 30.0, **more: Any
) -> Answer:
    """One metered prediction on a connection of its own."""
    return send_once(url, "POST", "/predict/", predict_headers(key), predict_body(model, features, **more), timeout)


def predict_on(wire: Wire, key: str, model: str = "iris", features: Any = None) -> Answer:
    return wire.request("POST", "/predict/", predict_headers(key), predict_body(model, features))


def get(url: str, target: str, key: str | None = None, timeout: float = 20.0) -> Answer:
    return send_once(url, "GET", target, bearer(key) if key else None, timeout=timeout)


def assert_served(answer: Answer) -> dict[str, Any]:
    """A prediction that was made, metered and answered; returns its body."""
    assert answer.status == 200, (answer.status, answer.body[:500])
    body = answer.json()
    assert REQUEST_ID.match(answer.request_id or ""), answer.headers
    assert body["request_id"] == answer.request_id
    return body


def assert_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """An RFC 9457 problem with this status and stable code, a request id, none of our insides; returns its body."""
    assert answer.status == status, (answer.status, answer.body[:500])
    assert (answer.header("content-type") or "").split(";")[0] == "application/problem+json", answer.headers
    assert REQUEST_ID.match(answer.request_id or ""), answer.headers
    body = answer.json()
    assert body["code"] == code, body
    assert body["status"] == status, body
    assert body["request_id"] == answer.request_id, body
    assert isinstance(body["title"], str) and body["title"], body
    assert isinstance(body["type"], str) and body["type"], body
    leak = INTERNALS.search(answer.body)
    assert leak is None, f"the answer shows {leak.group(0)!r}" if leak else ""
    return body


def problem_without_ids(answer: Answer) -> dict[str, Any]:
    """A problem's body without what differs between any two requests, to compare two of them."""
    return {name: value for name, value in answer.json().items() if name not in ("request_id", "instance")}


class AdminClient:
    """The admin API under one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        headers = bearer(self.key)
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        return send_once(self.url, method, path, headers, payload, timeout=30.0)

    def expect(self, method: str, path: str, body: Any = None, statuses: tuple[int, ...] = (200, 201, 204)) -> Any:
        """Calls and returns the decoded body; any other status fails the test."""
        answer = self.call(method, path, body)
        assert answer.status in statuses, (method, path, answer.status, answer.body[:500])
        return answer.json() if answer.body else None
