"""A worker that is told to stop while it registers leaves no place in the table behind."""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deadline import wait_until
from installation import Installation, Worker
from tenancy import unique


class Table(ThreadingHTTPServer):
    """An admin API whose first answer to a registration comes too late."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, str]] = []
        self.is_held = threading.Event()
        self.may_go = threading.Event()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Table

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(("POST", self.path))
        number = len(self.server.asked)
        if number == 1:
            self.server.is_held.set()
            self.server.may_go.wait(30)
        worker = {
            "object": "worker", "id": f"0195a3bf-30c4-7a52-bb10-6d7e8f901a{number:02}", "model": "iris", "version": "1",
            "address": "127.0.0.1:1", "protocol": "predict", "weight": 100, "ttl_seconds": 30, "heartbeat_seconds": 10,
            "registered_at": "2026-03-01T00:00:00.000000Z", "expires_at": "2026-03-01T00:00:30.000000Z", "state": "serving",
        }  # fmt: skip
        self.answer(201, json.dumps(worker).encode())

    def do_DELETE(self) -> None:
        self.server.asked.append(("DELETE", self.path))
        self.answer(204, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        if body:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_worker_that_stops_while_it_registers_leaves(installation: Installation) -> None:
    with Table() as table:
        threading.Thread(target=table.serve_forever, daemon=True).start()
        environment = {"WEIR_ADMIN_URL": f"http://127.0.0.1:{table.server_port}", "WEIR_ADMIN_KEY": installation.admin_key}
        worker = Worker(installation, unique("hasty"), ["--register", "--ttl", "30"], environment=environment).start()
        try:
            assert table.is_held.wait(20)
            assert worker.process is not None
            worker.process.send(signal.SIGTERM)
            wait_until(lambda: len(table.asked) > 2, "it takes its place and leaves it", 20)
            assert worker.process.wait(10) == 0
            posted, again, left = table.asked
            assert posted == again == ("POST", "/admin/v1/workers")
            assert left == ("DELETE", "/admin/v1/workers/0195a3bf-30c4-7a52-bb10-6d7e8f901a02")
        finally:
            table.may_go.set()
            worker.process.stop(5)
            table.shutdown()
