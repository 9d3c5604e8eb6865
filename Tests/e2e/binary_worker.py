"""A worker whose next answers are set with `PUT /answer`: any content type, bytes and header fields, after a think time.

Run as `binary_worker.py PORT`.
"""

import base64
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Script:
    """What is answered until it is set anew."""

    content_type = "application/json"
    body = b'{"prediction": "setosa", "version": "1"}'
    fields: dict[str, str] = {}
    delay_seconds = 0.0
    lock = threading.Lock()
    calls = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, "application/json", json.dumps({"calls": Script.calls}).encode(), {})

    def do_PUT(self) -> None:
        wanted = json.loads(self.take())
        with Script.lock:
            Script.content_type = wanted["content_type"]
            Script.body = base64.b64decode(wanted["body"])
            Script.fields = wanted.get("fields", {})
            Script.delay_seconds = wanted.get("delay_seconds", 0.0)
        self.reply(200, "application/json", b"{}", {})

    def do_POST(self) -> None:
        self.take()
        with Script.lock:
            Script.calls += 1
            answer = (Script.content_type, Script.body, dict(Script.fields))
            delay = Script.delay_seconds
        time.sleep(delay)
        self.reply(200, *answer)

    def take(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def reply(self, status: int, content_type: str, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
