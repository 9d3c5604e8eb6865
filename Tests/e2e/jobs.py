"""Asynchronous jobs: a stage with its processes apart, so that a test can hurt one of them; submitting many; what became of them."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from api import bearer, get, predict_body, predict_headers
from installation import Gateway, Installation
from ports import free_port
from process import ManagedProcess, clean_environment
from servers import Servers
from wire import Answer, Wire, send_once

FAST = {"WEIR_JOB_LEASE_SECONDS": "2", "WEIR_JOB_BACKOFF_MS": "50", "WEIR_LEASE_SECONDS": "4"}


def submit(url: str, key: str, model: str = "iris", headers: dict[str, str] | None = None, path: str = "/predict/async") -> Answer:
    return send_once(url, "POST", path, {**predict_headers(key), **(headers or {})}, predict_body(model))


def job(url: str, key: str, job_id: str, wait: str | None = None, timeout: float = 90.0) -> Answer:
    return get(url, f"/api/v1/jobs/{job_id}" + (f"?wait={wait}" if wait else ""), key, timeout)


def cancel(url: str, key: str, job_id: str) -> Answer:
    return send_once(url, "DELETE", f"/api/v1/jobs/{job_id}", bearer(key))


def finished(url: str, key: str, job_id: str, seconds: float = 60.0) -> dict:
    """The job once it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        body = job(url, key, job_id, "5s").json()
        if body["status"] not in ("queued", "processing"):
            return body
        assert time.monotonic() < deadline, body


def submit_many(url: str, key: str, count: int, model: str = "iris", connections: int = 8) -> list[str]:
    """Queues jobs over kept connections, several requests ahead of their answers; returns their ids."""
    parts = urlsplit(url)
    body = predict_body(model)
    request = (
        f"POST /predict/async HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    def run(mine: int) -> list[str]:
        ids: list[str] = []
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            reader = connection.makefile("rb")
            for _ in range(mine):
                connection.sendall(request)
                status = int(reader.readline().split()[1])
                length = 0
                while (line := reader.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                answer = json.loads(reader.read(length))
                assert status == 202, (status, answer)
                ids.append(answer["request_id"])
        return ids

    shares = [count // connections + (1 if n < count % connections else 0) for n in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        return [job_id for ids in pool.map(run, shares) for job_id in ids]


class Stage:
    """PostgreSQL, Redis, one gateway that runs no jobs, and dispatchers that do nothing else."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.servers = Servers(installation)
        self.gateway = installation.gateway("gateway", {**FAST, "WEIR_ROLES": "gateway,admin,jobs"}).start()
        # The client of the admin API that the installation's helpers use was that of `weir dev`.
        self.url = self.gateway.public_url

    def dispatcher(self, name: str, concurrency: int = 16, **more: str) -> Gateway:
        one = self.installation.gateway(
            name, {**FAST, "WEIR_ROLES": "dispatcher", "WEIR_JOB_CONCURRENCY": str(concurrency), **more}
        )
        one.launch()
        return one

    def count(self, question: str, *values: object) -> int:
        with self.installation.database() as database:
            row = database.execute(question, values).fetchone()
            assert row is not None
            return row[0]


@contextmanager
def python_worker(installation: Installation, name: str, source: str, *arguments: str) -> Iterator[str]:
    """A worker of a test's own, one Python file; yields its address."""
    port = free_port()
    path = installation.log_folder / f"{name}.py"
    path.write_text(source)
    import sys

    process = ManagedProcess(
        [sys.executable, str(path), str(port), *arguments], installation.log_folder, name, clean_environment()
    )
    installation.processes.append(process)

    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    process.wait_ready(answers, f"{name} listens", 20)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()


class Submissions(threading.Thread):
    """Submits in the background, for tests that kill something meanwhile."""

    def __init__(self, url: str, key: str, count: int) -> None:
        super().__init__(daemon=True)
        self.arguments = (url, key, count)
        self.ids: list[str] = []

    def run(self) -> None:
        self.ids = submit_many(*self.arguments)


__all__ = ["FAST", "Stage", "Submissions", "Wire", "cancel", "finished", "job", "python_worker", "submit", "submit_many"]
