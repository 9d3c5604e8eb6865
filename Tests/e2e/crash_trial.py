"""One trial: a gateway of its own under load, hurt in named ways, and then the three records of its traffic."""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from psycopg.conninfo import conninfo_to_dict

from books import busy_settlements, end_settlement_backends, journal_calls, request_rows, usage_entries
from deadline import wait_until
from installation import Gateway, Installation, Worker
from load import Load, Share
from postgres_relay import Cut, PostgresRelay
from reconciliation import Reconciliation, reconcile
from process import StartFailure
from record import ClientRecord
from tenancy import Tenant

# The stages of one request, in order, at which a debug build can end itself; the last number is the pass that ends it.
CRASH_POINTS = {
    "accepted": 90,
    "authenticated": 90,
    "held": 90,
    "worker_called": 90,
    "worker_answered": 90,
    "settlement_queued": 90,
    "batch_sent": 9,
    "batch_committed": 9,
    "commit_known": 9,
    "answered": 90,
}
# Served, and failing at the worker: what must never be billed is part of every mix.
MIX = (Share("iris", 11), Share("fault-500", 1))


class CrashTrial:
    """Use as a context manager; `finish` ends the traffic and gives the verdict."""

    def __init__(
        self,
        installation: Installation,
        tenant: Tenant,
        workers: list[Worker],
        name: str,
        mutant: str | None = None,
        connections: int = 64,
    ) -> None:
        self._installation = installation
        self._tenant = tenant
        self._workers = workers
        self._mutant = {"WEIR_MUTANT": mutant} if mutant else {}
        self._random = random.Random(20_260_801)
        self.relay = PostgresRelay(socket_of(installation.database_url))
        self.gateway = Gateway(installation, name)
        self._record = ClientRecord(installation.log_folder / f"{name}.record")
        self._load = Load(self.gateway.port, tenant.key, self._record, connections, MIX)
        self._earlier_calls = self._calls()
        self.kills = 0

    def _calls(self) -> Counter[str]:
        return journal_calls(*(worker.journal_path for worker in self._workers))

    def __enter__(self) -> "CrashTrial":
        self.relay.__enter__()
        try:
            self._start_gateway()
            self._load.__enter__()
        except BaseException:
            self.relay.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._load.stop()
        finally:
            self._record.close()
            self.gateway.stop()
            self.relay.__exit__()

    def _start_gateway(self, fault: str | None = None) -> None:
        """Starts the gateway with its database behind the relay."""
        environment = {
            name: through(value, self.relay.folder) if value.startswith("postgres") else value
            for name, value in self._installation.serve_env.items()
        }
        assert environment != self._installation.serve_env, (
            "serve_env names no database that the relay could stand before"
        )
        self.gateway.start({**self._mutant, **({"WEIR_FAULT": fault} if fault else {})}, environment)

    def serve_some(self, count: int = 60, seconds: float = 20.0) -> None:
        """Lets traffic flow until `count` more requests have been answered."""
        goal = self._load.acknowledged + count
        wait_until(lambda: self._load.acknowledged >= goal, f"{count} more requests are answered", seconds)

    def kill_at_random(self) -> None:
        """`kill -9` at an arbitrary moment of steady traffic, and a new start."""
        self.serve_some()
        time.sleep(self._random.uniform(0.0, 0.1))
        self._kill()
        self._start_gateway()

    def crash_at(self, point: str) -> None:
        """A start that ends itself at the named point under load, and a new start."""
        self.gateway.stop()
        try:
            self._start_gateway(f"crash:{point}:{CRASH_POINTS[point]}")
        except StartFailure:
            # The load goes on all the time: the point may be reached before anybody has asked whether the gateway is ready.
            pass
        assert self.gateway.process is not None
        code = self.gateway.process.wait(30)
        assert code == -signal.SIGKILL, f"ended with {code} at {point}\n{self.gateway.process.tail()}"
        self.kills += 1
        self._start_gateway()

    def _kill(self) -> None:
        assert self.gateway.process is not None
        assert self.gateway.process.is_alive, f"the gateway ended by itself\n{self.gateway.process.tail()}"
        self.gateway.process.kill()
        self.kills += 1

    def lose_connections(self, cut: Cut, count: int) -> None:
        """Loses the settlement connection before or after the commit of `count` batches, under load."""
        self.serve_some()
        before = self.relay.done[cut]
        for number in range(1, count + 1):
            self.relay.ask(cut)
            goal = before + number
            wait_until(lambda goal=goal: self.relay.done[cut] >= goal, f"loss {number} {cut.value} a commit", 20)

    def end_backends(self, count: int) -> None:
        """The database ends its side of the settlement connections, `count` times, under load."""
        with self._installation.database() as database:
            for _ in range(count):
                self.serve_some(30)
                wait_until(lambda: end_settlement_backends(database) > 0, "a settlement writer is connected", 10)

    def kill_before_commit(self, window_seconds: float = 0.3) -> int:
        """Holds every commit back for a while, kills the gateway, and loses what was held.

        Returns how many requests were answered with 200 in the while, which must be none.
        """
        self.serve_some()
        self.relay.stall()
        wait_until(lambda: self.relay.stalled_batches > 0, "a batch is held back", 10)
        # What had been committed when the stall began is still being answered.
        time.sleep(0.5)
        before = self._load.acknowledged
        time.sleep(window_seconds)
        answered = self._load.acknowledged - before
        self._kill()
        self.relay.end_stall(dropping=True)
        self._start_gateway()
        return answered

    def finish(self) -> Reconciliation:
        """Ends the traffic, waits until everything has come to rest, and compares the records."""
        self.relay.forget_pending()
        self._load.stop()
        self._record.close()
        assert self.gateway.stop() == 0, (
            f"the gateway did not end well\n{self.gateway.process and self.gateway.process.tail()}"
        )
        with self._installation.database() as database:
            wait_until(lambda: busy_settlements(database) == 0, "every settlement has ended", 15)
            entries = usage_entries(database, self._tenant.id)
            rows = request_rows(database, self._tenant.id)
        # The workers serve one trial after the other.
        return reconcile(self._record.read(), self._calls() - self._earlier_calls, entries, rows)


def through(database_url: str, folder: Path) -> str:
    """The same database by the socket in another folder."""
    parts = urlsplit(database_url)
    query = [(name, str(folder) if name == "host" else value) for name, value in parse_qsl(parts.query)]
    # Not urlunsplit: it drops the two slashes of an empty host, and libpq insists on them.
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"


def socket_of(database_url: str) -> Path:
    """The Unix socket that a database URL names."""
    parts = conninfo_to_dict(database_url)
    host = str(parts.get("host", ""))
    assert host.startswith("/"), f"{database_url} names no socket folder"
    return Path(host) / f".s.PGSQL.{parts.get('port', 5432)}"
