"""A worker that writes texts, as a thread of the tests: completions of the OpenAI API, and generate of the Open Inference Protocol."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ports import free_port


class TextWorker(ThreadingHTTPServer):
    """Answers every text with itself backwards, a token for each character."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        # Target and body of every request, in their order.
        self.seen: list[tuple[str, dict[str, Any]]] = []
        # What is answered in the place of a text.
        self.answer: Any = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TextWorker

    def do_GET(self) -> None:
        self.send({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body))
        if body.get("stream") or self.path.endswith("/generate_stream"):
            self.stream(body)
        elif self.server.answer is not None:
            self.send(self.server.answer)
        elif self.path == "/v1/completions":
            text = body["prompt"][::-1]
            self.send(
                {
                    "id": "cmpl-1",
                    "object": "text_completion",
                    "choices": [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}],
                    "usage": {"prompt_tokens": len(text), "completion_tokens": len(text)},
                }
            )
        else:
            text = body["text_input"][::-1]
            self.send(
                {
                    "text_output": text,
                    "model_version": "7",
                    "details": {"finish_reason": "length"},
                    "usage": {"input_tokens": len(text), "output_tokens": len(text)},
                }
            )

    def stream(self, body: dict[str, Any]) -> None:
        """A piece for each character; ends, or fails, as told in the text."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        text = (body.get("prompt") or body["text_input"])[::-1]
        for piece in text:
            if piece == "!":
                # The connection ends in the middle, or at once.
                self.wfile.write(b"data: {\"error\":\"as told\"}\n\n")
                return
            event = (
                {"id": "cmpl-1", "choices": [{"index": 0, "text": piece, "finish_reason": None}]}
                if "prompt" in body
                else {"text_output": piece, "model_name": "x"}
            )
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        if "prompt" in body:
            usage = {"prompt_tokens": 5, "completion_tokens": len(text)}
            last = {"id": "cmpl-1", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
            for event in (last, {"id": "cmpl-1", "choices": [], "usage": usage}):
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            usage = {"input_tokens": 5, "output_tokens": len(text)}
            event = {"text_output": "", "details": {"finish_reason": "stop"}, "usage": usage}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def send(self, body: Any) -> None:
        payload = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def text_worker() -> Iterator[TextWorker]:
    worker = TextWorker()
    thread = threading.Thread(target=worker.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.shutdown()
        thread.join(5)
        worker.server_close()
