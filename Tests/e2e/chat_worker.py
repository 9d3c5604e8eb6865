"""A worker that speaks the OpenAI API: `chat_worker.py PORT THINK_MILLISECONDS JOURNAL`. Says what it was asked; each call is a line of the
journal. A content of `fail` is answered with 400.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()


class Worker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = body["messages"][-1]["content"]
        with lock:
            journal.write(content[:100] + "\n")
            journal.flush()
        time.sleep(think)
        if content == "fail":
            self.send(400, {"error": {"message": "as told", "type": "invalid_request_error", "param": None, "code": None}})
            return
        self.send(
            200,
            {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            },
        )

    def send(self, status: int, body: object) -> None:
        payload = json.dumps(body, indent=1).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    think = int(sys.argv[2]) / 1000
    journal = open(sys.argv[3], "a")
    Server(("127.0.0.1", int(sys.argv[1])), Worker).serve_forever()
