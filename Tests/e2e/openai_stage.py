"""Two gateways, a worker that speaks the OpenAI API, and models that are routed to it."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from deadline import wait_until
from installation import Gateway, Installation, answers_ok
from ports import free_port
from process import ManagedProcess, clean_environment
from tenancy import Tenant, make_model, make_tenant, route, unique
from wire import head, send_once


class OpenAIWorker:
    """A process of `openai_worker.py`."""

    def __init__(self, installation: Installation, name: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        script = Path(__file__).with_name("openai_worker.py")
        self.process = ManagedProcess(
            [sys.executable, str(script), str(self.port)], installation.log_folder, name, clean_environment())
        installation.processes.append(self.process)
        self.process.wait_ready(lambda: answers_ok(self.url, "/health"), f"{name} is ready", 20)

    def seen(self, model_or_gate: str) -> list[dict[str, Any]]:
        """What came of the requests that carry this word somewhere in their body."""
        every = send_once(self.url, "GET", "/seen", timeout=10).json()
        return [record for record in every if model_or_gate in json.dumps(record["body"])]

    def gate(self, name: str, count: int) -> None:
        assert send_once(self.url, "PUT", f"/gate/{name}/{count}", timeout=10).status == 200


@dataclass
class OpenAIStage:
    installation: Installation
    gateways: list[Gateway]
    worker: OpenAIWorker
    database: psycopg.Connection
    made: list[str] = field(default_factory=list)

    def model(self, delivery: dict[str, Any] | None = None, **more: Any) -> str:
        name = unique("assistant")
        self.made.append(name)
        settings = {"maximum_output_tokens": 64, **more}
        make_model(self.installation, name, feature_count=None, **settings)
        if delivery:
            self.installation.admin.expect("PUT", f"/admin/v1/models/{name}/delivery", delivery, (200,))
        route(self.installation, name, self.worker.address, protocol="openai")
        tenant = make_tenant(self.installation)
        for gateway in self.gateways:
            wait_until(lambda g=gateway: self.knows(g, name, tenant), "the model is there", 15)
        return name

    @staticmethod
    def knows(gateway: Gateway, name: str, tenant: Tenant) -> bool:
        answer = send_once(
            gateway.public_url, "GET", f"/v1/models/{name}", headers={"Authorization": f"Bearer {tenant.key}"})
        return answer.status == 200

    def row(self, request_id: str) -> dict[str, Any] | None:
        """The request's row, with the tokens of its entry in the ledger beside it."""
        found = self.database.execute(
            "SELECT r.status, r.error_code, r.operation, r.stream_end, r.delivered_tokens, r.generated_tokens,"
            " l.input_tokens, l.output_tokens, l.token_source,"
            " (SELECT count(*) FROM ledger e WHERE e.request_id = r.request_id) AS entries"
            " FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id WHERE r.request_id = %s",
            [request_id.removeprefix("req_")],
        ).fetchone()
        names = ("status", "error", "operation", "end", "delivered", "generated", "input", "output", "source", "entries")
        return dict(zip(names, found)) if found else None

    def settled(self, request_id: str) -> dict[str, Any]:
        return wait_until(lambda: self.row(request_id), "the request is recorded", 20)


class RawStream:
    """A stream read by hand, event by event, so that it can be left at any of them."""

    def __init__(
        self, gateway: Gateway, key: str, body: dict[str, Any], path: str = "/v1/chat/completions",
        headers: dict[str, str] | None = None,
    ) -> None:
        parts = urlsplit(gateway.public_url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
        payload = json.dumps(body).encode()
        fields = {
            "Authorization": f"Bearer {key}", "Content-Type": "application/json", "Content-Length": str(len(payload)),
            **(headers or {}),
        }
        self.socket.sendall(head("POST", path, parts.netloc, fields) + payload)
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        start, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = start.decode().split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        self.text = b""
        self.is_whole = False

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the stream was cut")
        self.buffer += data

    def _chunk(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._receive()
        size, _, rest = self.buffer.partition(b"\r\n")
        length = int(size, 16)
        while len(rest) < length + 2:
            self._receive()
            rest = self.buffer.partition(b"\r\n")[2]
        self.buffer = rest[length + 2 :]
        return rest[:length]

    def event(self) -> str | None:
        """The data of the next event; `None` at the end of the answer."""
        while b"\n\n" not in self.text:
            chunk = self._chunk()
            if not chunk:
                self.is_whole = True
                return None
            self.text += chunk
        event, _, self.text = self.text.partition(b"\n\n")
        return event.decode().removeprefix("data: ") if event.startswith(b"data: ") else self.event()

    def events(self) -> list[str]:
        found = []
        while (event := self.event()) is not None:
            found.append(event)
        return found

    def tokens(self, count: int) -> None:
        """Reads until so many pieces of text have come."""
        read = 0
        while read < count:
            event = self.event()
            assert event is not None and event != "[DONE]", f"the stream ended after {read} pieces"
            choices = json.loads(event).get("choices", [])
            read += sum(1 for c in choices if c.get("text") or (c.get("delta") or {}).get("content"))

    def close(self) -> None:
        self.socket.close()


def chat(model: str, text: str = "one two three", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def open_stage() -> Iterator[OpenAIStage]:
    with Installation() as installation:
        gateways = [installation.gateway(name).start() for name in ("one", "two")]
        worker = OpenAIWorker(installation, "openai-worker")
        with closing(installation.database()) as database:
            yield OpenAIStage(installation, gateways, worker, database)
