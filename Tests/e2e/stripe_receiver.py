"""A receiver of meter events as Stripe is one, in a process of its own: `stripe_receiver.py PORT JOURNAL`.

The journal has a line for each request: how it was answered, and the event. An identifier is accepted once; a second time it is answered as a
duplicate. As Stripe does, it answers an Idempotency-Key that it knows with what it said the first time, whatever that was. The file JOURNAL.mode
says what goes wrong: `ok`, a status (`500`, `429`, `400`, `401`, `403`, `408`; with `429:2` it says to come again after two seconds), `lost` (accepted, and no
answer comes), `mixed` (several of them in turn).
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

port, journal = int(sys.argv[1]), Path(sys.argv[2])
mode_file = Path(f"{journal}.mode")
lock = threading.Lock()
accepted: set[str] = set()
if journal.exists():
    accepted |= {json.loads(line)["identifier"] for line in journal.read_text().splitlines() if '"accepted"' in line}
turn = 0
#: What was said under an Idempotency-Key.
said: dict[str, tuple[str, str]] = {}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        global turn
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:  # The sender was killed in the middle of it: nothing was asked.
            self.close_connection = True
            return
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        identifier = form.get("identifier", "")
        with lock:
            turn += 1
            mode = mode_file.read_text().strip() if mode_file.exists() else "ok"
            if mode == "mixed":
                mode = ("ok", "500", "lost", "429", "ok", "lost")[turn % 6]
            mode, _, wait = mode.partition(":")
            fault, key = self.fault(form), self.headers["idempotency-key"]
            if key in said:
                outcome, mode = said[key]
            elif fault:
                outcome = "refused"
            elif mode.isdigit():
                outcome = mode
            elif identifier in accepted:
                outcome = "duplicate"
            else:
                outcome = "accepted"
                accepted.add(identifier)
            if key is not None:
                said[key] = (outcome, mode)
            with journal.open("a") as lines:
                lines.write(json.dumps({"outcome": outcome, "fault": fault, "mode": mode, "at": time.time(), **form}) + "\n")
        if mode == "lost" and outcome in ("accepted", "duplicate"):
            self.close_connection = True
            self.connection.close()
            return
        if outcome == "accepted":
            self.answer(200, {"object": "billing.meter_event", "identifier": identifier})
        elif outcome == "duplicate":
            self.answer(400, {"error": {"type": "invalid_request_error",
                "message": f"An event already exists with identifier {identifier}."}})
        elif outcome.isdigit() and outcome != "400":
            self.answer(int(outcome), {"error": {"type": "api_error", "message": "Try again."}}, wait)
        else:
            self.answer(400, {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": fault or "No such meter"}})

    def fault(self, form: dict[str, str]) -> str:
        """What Stripe would not take."""
        if self.path != "/v1/billing/meter_events":
            return "path"
        if self.headers["authorization"] != "Bearer sk_test_of_a_receiver":
            return "key"
        if set(form) != {"event_name", "identifier", "timestamp", "payload[stripe_customer_id]", "payload[value]"}:
            return "fields"
        if not 1 <= len(form["identifier"]) <= 100 or str(int(form["payload[value]"])) != form["payload[value]"]:
            return "value"
        age = time.time() - int(form["timestamp"])
        return "" if -300 <= age <= 35 * 86400 else "timestamp"

    def answer(self, status: int, body: dict, wait: str = "") -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        if wait:
            self.send_header("retry-after", wait)
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        self.answer(200, {})

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
