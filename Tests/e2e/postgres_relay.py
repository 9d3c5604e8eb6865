"""A Unix socket between a gateway and PostgreSQL that can lose a connection exactly before or exactly after a commit.

Ending a backend almost never hits the moment that matters, because the server has nearly always sent its reply by
then. Here the reply of a commit is read from the server and kept from the client, so that the commit is a fact and
the client cannot know it; or the batch is swallowed, so that there is no commit and the client cannot know that.
"""

import asyncio
import shutil
import struct
import tempfile
import threading
from enum import Enum
from pathlib import Path

# What a statement has in its text if it settles.
SETTLING = b"INSERT INTO ledger"
READ_BYTES = 1 << 18


class Cut(Enum):
    BEFORE_COMMIT = "before"
    AFTER_COMMIT = "after"


class PostgresRelay:
    """Forwards every connection as it is, except those of settlement writers while a cut or a stall is asked for."""

    def __init__(self, target: Path, application_prefix: str = "weir-settlement") -> None:
        self._target = target
        self._prefix = application_prefix.encode()
        self.folder = Path(tempfile.mkdtemp(prefix="wr-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._lock = threading.Lock()
        self._asked: list[Cut] = []
        self.done = {cut: 0 for cut in Cut}
        self.settlement_connections = 0
        self.stalled_batches = 0
        self._stalled = False
        self._drops_stalled = False
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="relay")
        self._listening = threading.Event()

    def __enter__(self) -> "PostgresRelay":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, cut: Cut, count: int = 1) -> None:
        """Loses the connection of the next `count` batches."""
        with self._lock:
            self._asked += [cut] * count

    @property
    def pending(self) -> int:
        with self._lock:
            return len(self._asked)

    def forget_pending(self) -> None:
        with self._lock:
            self._asked.clear()

    def stall(self) -> None:
        """Holds every batch back from now on."""
        self._stalled, self._drops_stalled, self.stalled_batches = True, False, 0
        self._loop.call_soon_threadsafe(self._released.clear)

    def end_stall(self, dropping: bool) -> None:
        """Lets the held batches go, or loses them with their connections."""
        self._drops_stalled = dropping
        self._stalled = False
        self._loop.call_soon_threadsafe(self._released.set)

    def _take_cut(self) -> Cut | None:
        with self._lock:
            return self._asked.pop(0) if self._asked else None

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            path = self.folder / self._target.name
            await asyncio.start_unix_server(self._accept, str(path), limit=READ_BYTES)
            path.chmod(0o777)
            self._listening.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        try:
            server_in, server_out = await asyncio.open_unix_connection(str(self._target), limit=READ_BYTES)
        except OSError:
            client_out.close()
            return
        connection = _RelayedConnection(self, client_out, server_out)
        try:
            await connection.start(client_in)
            if connection.is_settlement:
                self.settlement_connections += 1
            directions = [
                asyncio.ensure_future(connection.forward(client_in)),
                asyncio.ensure_future(connection.back(server_in)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connection.end()


class _RelayedConnection:
    def __init__(
        self, relay: PostgresRelay, client_out: asyncio.StreamWriter, server_out: asyncio.StreamWriter
    ) -> None:
        self._relay = relay
        self._client_out = client_out
        self._server_out = server_out
        self.is_settlement = False
        self._is_ready = False
        self._withholds = False
        self._messages = _ServerMessages()
        self._statements = _ClientStatements()

    async def start(self, client_in: asyncio.StreamReader) -> None:
        """Forwards the start-up packet and learns from it whose connection this is."""
        length_bytes = await client_in.readexactly(4)
        rest = await client_in.readexactly(struct.unpack("!I", length_bytes)[0] - 4)
        self.is_settlement = b"application_name\0" + self._relay._prefix in rest
        self._server_out.write(length_bytes + rest)

    async def forward(self, client_in: asyncio.StreamReader) -> None:
        while data := await client_in.read(READ_BYTES):
            if self.is_settlement and self._is_ready and self._statements.settles(data):
                if self._relay._stalled:
                    self._relay.stalled_batches += 1
                    await self._relay._released.wait()
                    if self._relay._drops_stalled:
                        return
                elif (cut := self._relay._take_cut()) is Cut.BEFORE_COMMIT:
                    self._relay.done[cut] += 1
                    return
                elif cut is Cut.AFTER_COMMIT:
                    self._withholds = True
            self._is_ready = False
            self._server_out.write(data)
            await self._server_out.drain()

    async def back(self, server_in: asyncio.StreamReader) -> None:
        held = b""
        while data := await server_in.read(READ_BYTES):
            status = self._messages.last_ready(data)
            if status is not None:
                self._is_ready = True
            if self._withholds:
                held += data
                if status == b"I":
                    self._relay.done[Cut.AFTER_COMMIT] += 1
                    return
                if status is None:
                    continue
                # Inside a transaction the client has to learn that it may go on.
                data, held = held, b""
            self._client_out.write(data)
            await self._client_out.drain()

    def end(self) -> None:
        self._server_out.close()
        self._client_out.close()


class _ClientStatements:
    """Tells the bursts that write settlements from all else that a writer sends: it knows which prepared statements
    insert into the ledger."""

    def __init__(self) -> None:
        self._settling: set[bytes] = set()

    def settles(self, burst: bytes) -> bool:
        """Whether the burst, which begins with a message, executes such a statement."""
        position, found = 0, False
        while position + 5 <= len(burst):
            kind = burst[position : position + 1]
            size = struct.unpack_from("!I", burst, position + 1)[0] + 1
            body = burst[position + 5 : position + size]
            if kind == b"P":
                name, _, rest = body.partition(b"\0")
                if SETTLING in rest:
                    self._settling.add(name)
            elif kind == b"B":
                found = found or body.split(b"\0", 2)[1] in self._settling
            elif kind == b"Q":
                found = found or SETTLING in body
            position += size
        return found


class _ServerMessages:
    """Finds ReadyForQuery in the server's stream, which may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def last_ready(self, data: bytes) -> bytes | None:
        """The transaction status of the last ReadyForQuery that ends exactly at the end of `data`, if there is one."""
        self._rest += data
        status = None
        position = 0
        while len(self._rest) - position >= 5:
            kind = self._rest[position : position + 1]
            size = struct.unpack_from("!I", self._rest, position + 1)[0] + 1
            if len(self._rest) - position < size:
                break
            status = self._rest[position + 5 : position + 6] if kind == b"Z" else None
            position += size
        self._rest = self._rest[position:]
        return status if not self._rest else None
