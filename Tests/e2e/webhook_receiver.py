"""A receiver of webhooks, in a process of its own: `webhook_receiver.py PORT JOURNAL`. The path says how it behaves; every request is a line of
the journal.

/ok            200
/first/N       500 for the first N requests of each event, then 200
/status/N      always N
/redirect      302 to /ok
/hang          takes the request and says nothing
/slow/MS       200 after so many milliseconds
/big           200 with a body that never ends
/switch        what the file JOURNAL.status holds
"""

import base64
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

seen: Counter[tuple[str, str]] = Counter()
lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:  # The sender was killed in the middle of it: nothing was sent.
            self.close_connection = True
            return
        event = self.headers.get("webhook-id", "")
        with lock:
            seen[(self.path, event)] += 1
            number = seen[(self.path, event)]
        status = self.decide(number)
        self.note(body, event, number, status)
        if status is None:
            time.sleep(600)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/ok")
        if self.path == "/big":
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True
            return
        self.send_header("content-length", "0")
        self.end_headers()

    def decide(self, number: int) -> int | None:
        parts = self.path.strip("/").split("/")
        match parts:
            case ["first", times]:
                return 500 if number <= int(times) else 200
            case ["status", status]:
                return int(status)
            case ["redirect"]:
                return 302
            case ["hang"]:
                return None
            case ["slow", milliseconds]:
                time.sleep(int(milliseconds) / 1000)
                return 200
            case ["switch"]:
                return int(Path(f"{journal.name}.status").read_text())
            case _:
                return 200

    def note(self, body: bytes, event: str, number: int, status: int | None) -> None:
        line = json.dumps(
            {
                "path": self.path,
                "event": event,
                "number": number,
                "status": status,
                "at": time.time(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": base64.b64encode(body).decode(),
            }
        )
        with lock:
            journal.write(line + "\n")
            journal.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a sender that was killed has closed its connection


if __name__ == "__main__":
    journal = open(sys.argv[2], "a")
    Server(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
