"""Clients that send predictions of random sizes to several gateways and write down what came of each."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from api import IRIS_ROW
from load import CONNECT_SECONDS, read_answer

ANSWER_SECONDS = 30.0
ROWS_MAX = 8
# Refused clients come again, but not so fast that they are all that the machine does.
PAUSE_AFTER_REFUSAL_SECONDS = 0.02


@dataclass(frozen=True)
class Served:
    gateway: int
    request_id: str
    tokens: int


class QuotaTraffic:
    """Runs in a thread of its own until it is stopped. A client stays with its gateway, whatever becomes of that."""

    def __init__(self, ports: list[int], keys: list[str], clients: int = 64, seed: int = 20_261_121) -> None:
        self._ports = ports
        self._keys = keys
        self._clients = clients
        self._seed = seed
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="quota-traffic")
        self.served: list[Served] = []
        self.statuses: list[Counter[int | str]] = [Counter() for _ in ports]
        # By gateway: when it last served something, by the monotonic clock, from the time the request was sent.
        self.last_sent: dict[int, float] = {}
        self.failure: BaseException | None = None

    def __enter__(self) -> "QuotaTraffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join(ANSWER_SECONDS + 10)
        assert not self._thread.is_alive(), "the traffic did not stop"
        if self.failure:
            raise self.failure

    def count(self, status: int | str) -> int:
        return sum(counter[status] for counter in self.statuses)

    @property
    def tokens(self) -> int:
        return sum(served.tokens for served in self.served)

    async def _run(self) -> None:
        try:
            await asyncio.gather(*(self._client(number) for number in range(self._clients)))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that stops the traffic
            self.failure = error

    async def _client(self, number: int) -> None:
        generator = random.Random(self._seed + number)
        gateway = number % len(self._ports)
        key = self._keys[number // len(self._ports) % len(self._keys)]
        while not self._stopping:
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", self._ports[gateway]), CONNECT_SECONDS
                )
            except (OSError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            try:
                while not self._stopping:
                    if not await self._one(gateway, key, generator.randint(1, ROWS_MAX), reader, writer):
                        break
            finally:
                writer.close()

    async def _one(
        self, gateway: int, key: str, rows: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        body = json.dumps({"model": "iris", "inputs": [IRIS_ROW] * rows}).encode()
        sent = time.monotonic()
        writer.write(
            f"POST /predict/ HTTP/1.1\r\nHost: 127.0.0.1:{self._ports[gateway]}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, answer = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.statuses[gateway]["lost"] += 1
            return False
        self.statuses[gateway][status] += 1
        if status == 200:
            usage = json.loads(answer)["usage"]
            tokens = usage["input_tokens"] + usage["output_tokens"]
            self.served.append(Served(gateway, headers["x-request-id"], tokens))
            self.last_sent[gateway] = max(sent, self.last_sent.get(gateway, 0.0))
        else:
            await asyncio.sleep(PAUSE_AFTER_REFUSAL_SECONDS)
        return headers.get("connection", "").lower() != "close"
