"""The servers of an installation without `weir dev` above them, so that a test can hurt each and bring it back."""

import os
import shlex
import shutil
import signal
from pathlib import Path

import psycopg

from deadline import wait_until
from installation import Installation
from process import ManagedProcess, clean_environment, descendants, is_running, send_signal
from resp import Redis


class PostgresServer:
    """The installation's own cluster."""

    def __init__(self, installation: Installation) -> None:
        found = list((installation.folder / "data").rglob("postmaster.opts"))
        assert len(found) == 1, f"postmaster.opts: {found}"
        self._installation = installation
        self._cluster = found[0].parent
        self._command = shlex.split(found[0].read_text())
        self._process: ManagedProcess | None = None

    def start(self) -> None:
        """Starts the server as it was started before, as the owner of its files, and waits until it answers."""
        owner = self._cluster.stat()
        drop = (
            [
                "setpriv",
                f"--reuid={owner.st_uid}",
                f"--regid={owner.st_gid}",
                "--clear-groups",
                "--pdeathsig",
                "INT",
                "--",
            ]
            if os.getuid() == 0
            else []
        )
        self._process = ManagedProcess(
            drop + self._command,
            self._installation.log_folder,
            "postgres",
            clean_environment(),
            directory=Path("/"),
            death_signal="INT",
        )
        self._installation.processes.append(self._process)
        self._process.wait_ready(self.answers, "PostgreSQL answers", 40)

    def answers(self) -> bool:
        try:
            with psycopg.connect(self._installation.database_url, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def pause(self) -> list[int]:
        """Stops every process where it stands: connections stay open, nothing answers. Returns them for `resume`."""
        assert self._process is not None
        # The postmaster first, so that no new backend comes after the list was made.
        send_signal(self._process.pid, signal.SIGSTOP)
        stopped = [self._process.pid, *descendants(self._process.pid)]
        for pid in stopped:
            send_signal(pid, signal.SIGSTOP)
        return stopped

    @staticmethod
    def resume(stopped: list[int]) -> None:
        for pid in stopped:
            send_signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9` of every process."""
        assert self._process is not None
        pids = descendants(self._process.pid)
        self._process.kill()
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in pids), "PostgreSQL is gone", 10)

    def stop(self) -> None:
        if self._process and self._process.is_alive:
            self._process.stop(20, signal.SIGINT)


class RedisServer:
    """The installation's own Redis, from its own configuration file."""

    def __init__(self, installation: Installation) -> None:
        found = list((installation.folder / "data").rglob("redis.conf"))
        assert len(found) == 1, f"redis.conf: {found}"
        self._installation = installation
        self._configuration = found[0]
        self.process: ManagedProcess | None = None

    def start(self) -> None:
        executable = shutil.which("redis-server")
        assert executable is not None
        self.process = ManagedProcess(
            [executable, str(self._configuration)],
            self._installation.log_folder,
            "redis",
            clean_environment(),
            directory=Path("/"),
        )
        self._installation.processes.append(self.process)
        self.process.wait_ready(self.answers, "Redis answers", 20)

    def answers(self) -> bool:
        assert self._installation.redis_url is not None
        try:
            with Redis(self._installation.redis_url) as redis:
                return redis.call("PING") == "PONG"
        except OSError:
            return False


class Servers:
    """Takes an installation over from `weir dev`: the same data, keys and addresses, every server for itself."""

    def __init__(self, installation: Installation) -> None:
        assert installation.interrupt() == 0
        self.postgres = PostgresServer(installation)
        self.redis = RedisServer(installation)
        self.postgres.start()
        self.redis.start()
