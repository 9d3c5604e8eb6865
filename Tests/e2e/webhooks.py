"""Webhooks as customers use them, and what a receiver in a process of its own was sent."""

import base64
import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api import bearer
from installation import Installation
from journal import set_word, whole_lines
from ports import free_port
from process import ManagedProcess, clean_environment
from wire import Answer, send_once


@dataclass(frozen=True)
class Received:
    path: str
    event: str
    number: int
    status: int | None
    headers: dict[str, str]
    body: bytes
    at: float


class ReceiverProcess:
    """`webhook_receiver.py`; use as a context manager."""

    def __init__(self, installation: Installation, name: str = "receiver") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = installation.log_folder / f"{name}.journal"
        self._process = ManagedProcess(
            [sys.executable, str(Path(__file__).parent / "webhook_receiver.py"), str(self.port), str(self.journal)],
            installation.log_folder,
            name,
            clean_environment(),
        )

    def __enter__(self) -> "ReceiverProcess":
        self._process.wait_ready(self._listens, "the receiver listens", 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def switch(self, status: int) -> None:
        """What `/switch` answers from now on."""
        set_word(Path(f"{self.journal}.status"), str(status))

    def received(self, path: str) -> list[Received]:
        found = []
        for line in whole_lines(self.journal):
            entry = json.loads(line)
            if entry["path"] == path:
                found.append(
                    Received(
                        path, entry["event"], entry["number"], entry["status"], entry["headers"],
                        base64.b64decode(entry["body"]), entry["at"],
                    )
                )
        return found


def call(url: str, key: str, method: str, target: str, body: Any = None) -> Answer:
    headers = bearer(key)
    payload = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        payload = json.dumps(body).encode()
    return send_once(url, method, target, headers, payload, timeout=30.0)


def make_webhook(url: str, key: str, target: str, **more: Any) -> dict[str, Any]:
    answer = call(url, key, "POST", "/api/v1/webhooks", {"url": target, **more})
    assert answer.status == 201, (answer.status, answer.body)
    return answer.json()


def deliveries(url: str, key: str, webhook_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = call(url, key, "GET", f"/api/v1/webhooks/{webhook_id}/deliveries?limit=100{after}").json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def raise_events(database: Any, tenant_id: str, count: int, kind: str = "quota.threshold") -> list[str]:
    """Events as a trigger raises them; returns their public ids."""
    rows = database.execute(
        """
        SELECT id, raise_webhook_event(%s, id, %s, now(), json_build_object('number', number))
        FROM (SELECT new_uuid7() AS id, number FROM generate_series(1, %s) AS number) events
        """,
        (tenant_id, kind, count),
    ).fetchall()
    return [f"evt_{row[0]}" for row in rows]
