"""Redis spoken by hand, as an operator's `redis-cli` would."""

import socket
from typing import Any
from urllib.parse import unquote, urlsplit


class RedisError(Exception):
    pass


class Redis:
    """One connection, signed in and on the URL's database."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=10)
        self._reader = self._socket.makefile("rb")
        if parts.password:
            self.call("AUTH", unquote(parts.password))
        if parts.path.strip("/"):
            self.call("SELECT", parts.path.strip("/"))

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()

    def call(self, *words: str) -> Any:
        command = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        self._socket.sendall(command.encode())
        return self._read()

    def process_id(self) -> int:
        for line in self.call("INFO", "server").splitlines():
            if line.startswith("process_id:"):
                return int(line.removeprefix("process_id:"))
        raise RedisError("INFO names no process")

    def _read(self) -> Any:
        line = self._reader.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self._reader.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        raise RedisError(f"unexpected {line!r}")
