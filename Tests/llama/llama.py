"""llama.cpp's server as a worker: real tokens, real streams, and what it says about itself."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

from installation import Installation, answers_ok
from ports import free_port
from process import ManagedProcess, clean_environment


class LlamaServer:
    """A process of `llama-server`, for chat or for embeddings."""

    def __init__(self, installation: Installation, name: str, *more: str, slots: int = 2) -> None:
        self.installation = installation
        self.name = name
        self.slots = slots
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.command = [
            os.environ["WEIR_LLAMA_SERVER"], "--model", os.environ["WEIR_LLAMA_MODEL"], "--host", "127.0.0.1",
            "--port", str(self.port), "--metrics", "--slots", "--threads", "1", "--parallel", str(slots),
            "--ctx-size", str(2048 * slots), "--seed", "7", "--temp", "0", *more,
        ]  # fmt: skip
        self.process: ManagedProcess | None = None

    def start(self) -> "LlamaServer":
        assert Path(self.command[0]).exists(), "run scripts/test-llama, which builds the server"
        self.process = ManagedProcess(self.command, self.installation.log_folder, self.name, clean_environment())
        self.installation.processes.append(self.process)
        self.process.wait_ready(lambda: answers_ok(self.url, "/health"), f"{self.name} is ready", 60)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def busy_slots(self) -> int:
        return sum(1 for slot in json.loads(self.get("/slots")) if slot["is_processing"])

    def metric(self, name: str) -> float:
        found = re.search(rf"^llamacpp:{name} ([0-9.e+-]+)$", self.get("/metrics").decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def direct(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the worker answers to who asks it without Weir."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())
