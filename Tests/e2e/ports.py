"""Free TCP ports on loopback."""

import os
import random
import socket

# The kernel takes ports from 32768 up for outgoing connections; a listener there could lose its port to one of them.
LOWEST_PORT = 20_000
HIGHEST_PORT = 32_000

# Nothing listens there yet, perhaps, when the next one is asked for.
_given: set[int] = set()
_generator = random.Random(os.getpid() * 7919 + int.from_bytes(os.urandom(4), "big"))


def free_port() -> int:
    """A port below the range of outgoing connections on which nothing listens now."""
    for _ in range(500):
        port = _generator.randint(LOWEST_PORT, HIGHEST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise RuntimeError("no free port on 127.0.0.1")
