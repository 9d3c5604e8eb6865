"""HTTP/1.1 by hand: exact bytes out, exact bytes in. Used where framing is what is tested, and everywhere else for one
way to do it.
"""

import json
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


class ConnectionEnded(Exception):
    """The peer closed, or reset, before a whole answer had arrived. `received` is what came before."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"connection ended after {len(received)} bytes: {received[:200]!r}")
        self.received = received


@dataclass
class Answer:
    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header that may appear once; a second one is an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} appears {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def request_id(self) -> str | None:
        return self.header("x-request-id")

    @property
    def says_close(self) -> bool:
        return "close" in (self.header("connection") or "").lower()


def head(method: str, target: str, host: str, headers: dict[str, str] | list[tuple[str, str]] | None = None) -> bytes:
    """A request head with a Host header and those given."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"] + [f"{name}: {value}" for name, value in pairs]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Wire:
    """One TCP connection to a server."""

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self.host = f"{parts.hostname}:{parts.port}"
        self._address = (parts.hostname, parts.port)
        self._timeout = timeout
        self._socket = socket.create_connection(self._address, timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def finish_sending(self) -> None:
        """Sends FIN and keeps reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_until_refused(self, chunk: bytes, most: int, seconds: float = 20.0) -> int:
        """Sends `chunk` again and again until the peer stops taking it, closes, or `most` bytes are out; returns how
        many were taken.
        """
        sent = 0
        end = time.monotonic() + seconds
        self._socket.setblocking(False)
        try:
            while sent < most and time.monotonic() < end:
                _, writable, _ = select.select([], [self._socket], [], 1.0)
                if not writable:
                    break
                try:
                    sent += self._socket.send(chunk)
                except BlockingIOError:
                    continue
                except OSError:
                    break
        finally:
            self._socket.settimeout(self._timeout)
        return sent

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Sends one well-formed request and reads its answer."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        if body is not None and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
            pairs.append(("Content-Length", str(len(body))))
        self.send(head(method, target, self.host, pairs) + (body or b""))
        return self.read_answer(to_head=method == "HEAD")

    def read_answer(self, to_head: bool = False) -> Answer:
        """Reads one whole answer; interim ones (1xx) are noted in it.

        Raises `ConnectionEnded` where it is cut, `TimeoutError` where nothing comes.
        """
        interim: list[int] = []
        while True:
            answer = self._read_one(to_head)
            if 100 <= answer.status < 200 and answer.status != 101:
                interim.append(answer.status)
                continue
            answer.interim = interim
            return answer

    def ended(self, seconds: float = 10.0) -> bool:
        """Whether the peer closes or resets within the time, without sending anything more."""
        if self._buffer:
            return False
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(self._timeout)
        self._buffer += data
        return data == b""

    def is_as_promised(self, answer: Answer) -> bool:
        """Closed where the answer said so, and usable where it did not."""
        return self.ended() if answer.says_close else self.still_serves()

    def still_serves(self) -> bool:
        """Whether the connection answers another request."""
        try:
            return self.request("GET", "/healthz").status == 200
        except (ConnectionEnded, OSError):
            return False

    def _fill(self) -> None:
        try:
            data = self._socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ConnectionEnded(bytes(self._buffer)) from error
        if not data:
            raise ConnectionEnded(bytes(self._buffer))
        self._buffer += data

    def _read_one(self, to_head: bool) -> Answer:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._fill()
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        status_text, _, reason = rest.partition(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        answer = Answer(int(status_text), reason, version, headers, b"")
        consumed = end + 4
        if to_head or answer.status in (204, 304) or 100 <= answer.status < 200:
            del self._buffer[:consumed]
            return answer
        if "chunked" in (answer.header("transfer-encoding") or "").lower():
            del self._buffer[:consumed]
            answer.body = self._read_chunks()
            return answer
        length = answer.header("content-length")
        if length is None:
            answer.body = self._read_to_end(consumed)
            return answer
        while len(self._buffer) < consumed + int(length):
            self._fill()
        answer.body = bytes(self._buffer[consumed : consumed + int(length)])
        del self._buffer[: consumed + int(length)]
        return answer

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int(self._take_line().split(b";")[0], 16)
            if size == 0:
                while self._take_line():
                    pass
                return bytes(body)
            while len(self._buffer) < size + 2:
                self._fill()
            body += self._buffer[:size]
            del self._buffer[: size + 2]

    def _take_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_to_end(self, start: int) -> bytes:
        try:
            while True:
                self._fill()
        except ConnectionEnded:
            body = bytes(self._buffer[start:])
            self._buffer.clear()
            return body


def send_once(
    url: str,
    method: str,
    target: str,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | None = None,
    timeout: float = 20.0,
) -> Answer:
    """One request on a connection of its own."""
    with Wire(url, timeout) as wire:
        return wire.request(method, target, headers, body)
