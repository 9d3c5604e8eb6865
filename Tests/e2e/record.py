"""What the client saw: one line for each request sent, on disk before it counts."""

import json
import os
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    # A whole 200 arrived.
    ACK = "ACK"
    # A whole answer that says no.
    REJECT = "REJECT"
    # Sent, and then nothing, or a piece: a reset, a cut answer, a time-out.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    client_id: str
    request_id: str | None = None
    status: int | None = None
    code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class ClientRecord:
    """An append-only file of outcomes. Lines are written and synced together, at the latest by `close`."""

    LINES_PER_SYNC = 64

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "a", encoding="utf-8")
        self._lock = threading.Lock()
        self._unsynced = 0
        self.counts = {verdict: 0 for verdict in Verdict}

    def write(self, outcome: Outcome) -> None:
        with self._lock:
            self._file.write(json.dumps(asdict(outcome)) + "\n")
            self.counts[outcome.verdict] += 1
            self._unsynced += 1
            if self._unsynced >= self.LINES_PER_SYNC:
                self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        with self._lock:
            if not self._file.closed:
                self._sync()
                self._file.close()

    def read(self) -> list[Outcome]:
        outcomes = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            outcomes.append(Outcome(**{**fields, "verdict": Verdict(fields["verdict"])}))
        return outcomes
