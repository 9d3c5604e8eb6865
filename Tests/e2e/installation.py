"""A whole Weir of one's own: `weir dev` in a folder, further gateways that join it, further workers."""

import json
import os
import re
import shutil
import signal
import tempfile
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api import AdminClient
from ports import free_port
from process import ManagedProcess, StartFailure, clean_environment, descendants, end_all, processes_in
from wire import ConnectionEnded, send_once

if TYPE_CHECKING:
    import psycopg

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {
    "public_url",
    "admin_url",
    "customer_key",
    "admin_key",
    "tenant_id",
    "database_url",
    "redis_url",
    "worker_url",
    "data_dir",
    "serve_env",
}


def binary() -> str:
    path = Path(os.environ.get("WEIR_BINARY", REPOSITORY / ".build/debug/weir")).resolve()
    assert path.exists(), f"{path} is not there: `swift build --product weir`, or set WEIR_BINARY"
    return str(path)


# In memory where there is room: the clusters of the tests make and remove thousands of files, which some file systems take
# most of the machine for. What a killed process has written is there in both.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 8 << 30


def short_folder(*, on_disk: bool = False) -> Path:
    """A folder for one installation: short, because a Unix socket's path has at most 107 bytes; entered by the user of
    PostgreSQL.
    """
    in_memory = not on_disk and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    folder = Path(tempfile.mkdtemp(prefix="weir-", dir=MEMORY if in_memory else "/tmp"))
    folder.chmod(0o755)
    return folder


def answers_ok(url: str, target: str) -> bool:
    try:
        return send_once(url, "GET", target, timeout=5.0).status == 200
    except (OSError, ConnectionEnded):
        return False


class Gateway:
    """A `weir serve` that joined an installation. Can be killed and started again on the same ports."""

    def __init__(self, installation: "Installation", name: str, environment: dict[str, str] | None = None) -> None:
        self.installation = installation
        self.name = name
        self.environment = environment or {}
        self.port = free_port()
        self.admin_port = free_port()
        self.public_url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.process: ManagedProcess | None = None

    def launch(self, more: dict[str, str] | None = None, serve_env: dict[str, str] | None = None) -> ManagedProcess:
        """Starts it. `more` goes on top of the environment for this start only."""
        joined = serve_env if serve_env is not None else self.installation.serve_env
        self.process = ManagedProcess(
            [binary(), "serve", "--port", str(self.port), "--admin-port", str(self.admin_port)],
            self.installation.log_folder,
            self.name,
            clean_environment({"WEIR_INVOICE_GRACE": "0", **joined, **self.environment, **(more or {})}),
        )
        self.installation.processes.append(self.process)
        return self.process

    def start(self, more: dict[str, str] | None = None, serve_env: dict[str, str] | None = None) -> "Gateway":
        """Starts it and waits until it is ready."""
        self.launch(more, serve_env).wait_ready(
            lambda: answers_ok(self.public_url, "/readyz"), f"{self.name} is ready", 40
        )
        return self

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.admin_url, self.installation.admin_key)

    def stop(self) -> int | None:
        return self.process.stop() if self.process else None


class Worker:
    """A `weir worker` with a journal of what it was asked."""

    def __init__(
        self,
        installation: "Installation",
        name: str,
        arguments: list[str] | None = None,
        journal: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.installation = installation
        self.name = name
        self.arguments = arguments or []
        self.has_journal = journal
        self.environment = environment
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.journal_path = installation.log_folder / f"{name}.journal"
        self.process: ManagedProcess | None = None

    def start(self) -> "Worker":
        self.process = ManagedProcess(
            [
                binary(),
                "worker",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                *(["--journal", str(self.journal_path)] if self.has_journal else []),
                *self.arguments,
            ],
            self.installation.log_folder,
            self.name,
            clean_environment(self.environment),
        )
        self.installation.processes.append(self.process)
        self.process.wait_ready(lambda: answers_ok(self.url, "/v2/health/ready"), f"{self.name} is ready", 30)
        return self


class Installation:
    """One run of `weir dev --json`. Use as a context manager: whatever it started is gone afterwards."""

    def __init__(self, folder: Path | None = None, arguments: list[str] | None = None) -> None:
        self._owns_folder = folder is None
        self.folder = folder or short_folder()
        self.folder.mkdir(exist_ok=True)
        self.log_folder = self.folder / "logs"
        self.log_folder.mkdir(exist_ok=True)
        self.arguments = arguments or []
        self.processes: list[ManagedProcess] = []
        self.dev: ManagedProcess | None = None
        self.described: dict[str, Any] = {}

    def __enter__(self) -> "Installation":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, environment: dict[str, str] | None = None) -> "Installation":
        for path in self.log_folder.glob("dev.*"):
            path.unlink()
        self.dev = ManagedProcess(
            [
                binary(),
                "dev",
                "--json",
                "--data-dir",
                str(self.folder / "data"),
                "--port",
                "0",
                "--admin-port",
                "0",
                *self.arguments,
            ],
            self.log_folder,
            "dev",
            # The first hour of a month is a time for tests as well.
            clean_environment({"WEIR_INVOICE_GRACE": "0", **(environment or {})}),
            directory=self.folder,
            death_signal="TERM",
        )
        self.processes.append(self.dev)
        self.dev.wait_ready(self._read_description, "weir dev says that it is ready", 120)
        return self

    def _read_description(self) -> bool:
        assert self.dev is not None
        text = self.dev.stdout_path.read_text()
        if not text.strip():
            return False
        try:
            self.described = json.loads(text)
        except json.JSONDecodeError as error:
            # Still being written, or something that is no JSON; the deadline decides.
            raise StartFailure(f"standard output is no JSON object: {text[:300]!r}") from error
        return True

    @property
    def standard_output(self) -> str:
        assert self.dev is not None
        return self.dev.stdout_path.read_text()

    @property
    def public_url(self) -> str:
        return self.described["public_url"].rstrip("/")

    @property
    def admin_url(self) -> str:
        return self.described["admin_url"].rstrip("/")

    @property
    def customer_key(self) -> str:
        return self.described["customer_key"]

    @property
    def admin_key(self) -> str:
        return self.described["admin_key"]

    @property
    def tenant_id(self) -> str:
        """The tenant's bare UUID."""
        return re.sub(r"^[a-z]+_", "", self.described["tenant_id"])

    @property
    def database_url(self) -> str:
        return self.described["database_url"]

    @property
    def redis_url(self) -> str | None:
        return self.described["redis_url"]

    @property
    def worker_url(self) -> str:
        return self.described["worker_url"]

    @property
    def serve_env(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.described["serve_env"].items()}

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.admin_url, self.admin_key)

    def database(self) -> "psycopg.Connection":
        """A connection for oracles, as the superuser, outside of everything that the product does."""
        import psycopg  # here, because the benchmarks start installations too and need nothing from PyPI

        return psycopg.connect(self.database_url, autocommit=True, application_name="oracle", connect_timeout=10)

    def own_processes(self) -> list[int]:
        """All that `weir dev` started, by descent or by working in its folder."""
        assert self.dev is not None
        return sorted(set(descendants(self.dev.pid)) | set(processes_in(self.folder / "data")) - {self.dev.pid})

    def gateway(self, name: str, environment: dict[str, str] | None = None) -> Gateway:
        return Gateway(self, name, environment)

    @contextmanager
    def worker(self, name: str, *arguments: str) -> Iterator[Worker]:
        worker = Worker(self, name, list(arguments)).start()
        try:
            yield worker
        finally:
            if worker.process:
                worker.process.stop(5)

    def interrupt(self, seconds: float = 30.0) -> int:
        """Ctrl-C; returns the exit code."""
        assert self.dev is not None
        self.dev.send(signal.SIGINT)
        return self.dev.wait(seconds)

    def close(self) -> None:
        """Ends everything, gently where that works, and removes the folder where it is ours."""
        for process in reversed(self.processes):
            if process is not self.dev:
                process.stop(5)
        started = self.own_processes() if self.dev else []
        if self.dev:
            self.dev.stop(20)
        end_all(started + processes_in(self.folder / "data"))
        if self._owns_folder and "WEIR_KEEP_TEST_FOLDERS" not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)


def model_file(installation: Installation, name: str) -> Path:
    """The iris model under another name."""
    model = json.loads((REPOSITORY / "Sources/ReferenceWorker/Models/iris.json").read_text())
    path = installation.log_folder / f"{name}.json"
    path.write_text(json.dumps({**model, "name": name}))
    return path
