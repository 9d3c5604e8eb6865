"""nginx as the stub worker and as the proxy that the gateway is measured against."""

import os
import shutil
import string
from pathlib import Path

from deadline import wait_until
from ports import free_port
from process import ManagedProcess, clean_environment, cpu_seconds, descendants
from wire import ConnectionEnded, send_once

TEMPLATE = Path(__file__).parent / "nginx.conf.template"
# What the reference worker would say; the numbers do not matter, their length does.
STUB_ANSWER = (
    '{"model":"stub","version":"1","prediction":"setosa","probabilities":[0.98,0.02,0.0],'
    '"usage":{"input_tokens":4,"output_tokens":1}}'
)


class Nginx:
    """One nginx: a master and its workers, each configuration a process group whose time is counted together."""

    def __init__(self, folder: Path, name: str, workers: int, servers: str) -> None:
        executable = shutil.which("nginx") or "/usr/sbin/nginx"
        own = folder / name
        own.mkdir()
        text = string.Template(TEMPLATE.read_text()).substitute(
            user="user root;" if os.getuid() == 0 else "", folder=own, workers=workers, servers=servers
        )
        (own / "nginx.conf").write_text(text)
        self.process = ManagedProcess(
            [executable, "-p", str(own), "-e", str(own / "error.log"), "-c", str(own / "nginx.conf")],
            own,
            name,
            clean_environment(),
            death_signal="TERM",
        )

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *descendants(self.process.pid)])


class Stub(Nginx):
    """Answers every request with the same prediction, without looking at it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__(
            folder,
            "stub",
            1,
            f"server {{ listen {self.address}; location / {{ return 200 '{STUB_ANSWER}'; }} }}",
        )
        wait_until(lambda: answers(self.address), "the stub answers", 10)


class Proxy(Nginx):
    """`proxy_pass` to each of the addresses, one port for each, with connections kept open on both sides."""

    def __init__(self, folder: Path, workers: int, upstreams: dict[str, str]) -> None:
        self.ports = {name: free_port() for name in upstreams}
        servers = "".join(
            f"upstream {name} {{ server {address};"
            f" keepalive 512; keepalive_requests 1000000000; keepalive_timeout 300s; }}\n"
            f"server {{ listen 127.0.0.1:{self.ports[name]} reuseport; location / {{ proxy_pass http://{name}; "
            f"proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering on; }} }}\n"
            for name, address in upstreams.items()
        )
        super().__init__(folder, "proxy", workers, servers)
        for port in self.ports.values():
            wait_until(lambda port=port: answers(f"127.0.0.1:{port}"), "the proxy answers", 10)


def answers(address: str) -> bool:
    """Whether anything comes back; which status is the upstream's affair."""
    try:
        return send_once(f"http://{address}", "GET", "/v2/health/ready", timeout=3).status < 500
    except (OSError, ConnectionEnded):
        return False
