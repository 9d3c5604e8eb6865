"""Downloads of unknown length, chunk by chunk, with what stands behind them."""

import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from api import bearer
from wire import head


@dataclass
class Download:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    # Whether the chunk that ends a body came.
    is_whole: bool = False


class Reader:
    """Reads one answer as slowly as a test wants it."""

    def __init__(self, url: str, target: str, key: str, timeout: float = 60.0, receive_bytes: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout)
        self.socket.connect((parts.hostname, parts.port))
        self.socket.sendall(head("GET", target, parts.netloc, bearer(key)))
        self.buffer = b""
        self.download = Download()
        self._read_head()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _more(self) -> bool:
        try:
            received = self.socket.recv(262_144)
        except ConnectionResetError:
            return False
        self.buffer += received
        return bool(received)

    def _fields(self, text: bytes) -> dict[str, str]:
        pairs = [line.partition(":") for line in text.decode("latin-1").split("\r\n") if line]
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _read_head(self) -> None:
        while b"\r\n\r\n" not in self.buffer:
            assert self._more(), self.buffer
        first, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, _, fields = first.partition(b"\r\n")
        self.download.status = int(line.split()[1])
        self.download.headers = self._fields(fields)

    def rest(self) -> Download:
        """Everything that still comes."""
        out, length = [], self.download.headers.get("content-length")
        if length is not None:
            while len(self.buffer) < int(length) and self._more():
                pass
            self.download.body = self.buffer[: int(length)]
            self.download.is_whole = len(self.download.body) == int(length)
            return self.download
        position = 0
        while True:
            end = self.buffer.find(b"\r\n", position)
            while end < 0:
                if not self._more():
                    self.download.body = b"".join(out)
                    return self.download
                end = self.buffer.find(b"\r\n", position)
            size = int(self.buffer[position:end].split(b";")[0], 16)
            position = end + 2
            if size == 0:
                break
            while len(self.buffer) < position + size + 2:
                if not self._more():
                    self.download.body = b"".join(out) + self.buffer[position:]
                    return self.download
            out.append(self.buffer[position : position + size])
            self.buffer, position = self.buffer[position + size + 2 :], 0
        self.buffer = b"\r\n" + self.buffer[position:]
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                break
        self.download.trailers = self._fields(self.buffer.partition(b"\r\n\r\n")[0])
        self.download.body = b"".join(out)
        self.download.is_whole = True
        return self.download


def download(url: str, target: str, key: str) -> Download:
    with Reader(url, target, key) as reader:
        return reader.rest()
