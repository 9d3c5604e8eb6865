"""Many connections that send predictions one after the other and write down what came of each."""

import asyncio
import itertools
import json
import threading
from dataclasses import dataclass

from api import predict_body
from record import ClientRecord, Outcome, Verdict

ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 2.0
PAUSE_BEFORE_RECONNECT_SECONDS = 0.01


@dataclass(frozen=True)
class Share:
    """One kind of request in the mix: `weight` of them in each round."""

    model: str
    weight: int


class Load:
    """Runs in a thread of its own until it is stopped; a connection that breaks is opened again."""

    def __init__(
        self,
        port: int,
        key: str,
        record: ClientRecord,
        connections: int = 64,
        mix: tuple[Share, ...] = (Share("iris", 1),),
    ) -> None:
        self._port = port
        self._key = key
        self.record = record
        self._connections = connections
        self._round = [share.model for share in mix for _ in range(share.weight)]
        self._requests = {model: self._request(model) for model in set(self._round)}
        self._numbers = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self.failure: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Lets the requests in flight end and waits for them."""
        self._stopping = True
        self._thread.join(ANSWER_SECONDS + 10)
        assert not self._thread.is_alive(), "the load did not stop"
        if self.failure:
            raise self.failure

    @property
    def acknowledged(self) -> int:
        return self.record.counts[Verdict.ACK]

    @property
    def refused(self) -> int:
        return self.record.counts[Verdict.REJECT]

    @property
    def sent(self) -> int:
        return sum(self.record.counts.values())

    def _request(self, model: str) -> bytes:
        body = predict_body(model)
        return (
            f"POST /predict/ HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def _run(self) -> None:
        try:
            await asyncio.gather(*(self._connection() for _ in range(self._connections)))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that stops the load
            self.failure = error

    async def _connection(self) -> None:
        while not self._stopping:
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", self._port), CONNECT_SECONDS
                )
            except (OSError, TimeoutError):
                await asyncio.sleep(PAUSE_BEFORE_RECONNECT_SECONDS)
                continue
            try:
                while not self._stopping and await self._one(reader, writer):
                    pass
            finally:
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Sends one request and records its outcome; returns whether the connection can be used again."""
        number = next(self._numbers)
        client_id = f"c{number}"
        writer.write(self._requests[self._round[number % len(self._round)]])
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, body = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            self.record.write(Outcome(Verdict.UNKNOWN, client_id))
            return False
        self.record.write(outcome_of(client_id, status, headers, body))
        return headers.get("connection", "").lower() != "close"


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length; anything cut is an error."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split(" ")[1]), headers, body


def outcome_of(client_id: str, status: int, headers: dict[str, str], body: bytes) -> Outcome:
    request_id = headers.get("x-request-id")
    decoded = json.loads(body)
    if status == 200:
        usage = decoded["usage"]
        return Outcome(Verdict.ACK, client_id, request_id, status, None, usage["input_tokens"], usage["output_tokens"])
    return Outcome(Verdict.REJECT, client_id, request_id, status, decoded.get("code"))
