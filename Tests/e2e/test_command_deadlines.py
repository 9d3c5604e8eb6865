"""Commands against an admin API that takes its time: what goes through all tenants waits, the others say that they gave up."""

import socket
import subprocess

import pytest

from installation import Installation, binary

PATIENT = [
    ["tiers", "replay", "standard", "2"],
    ["tiers", "replay", "--issued"],
    ["tiers", "analyse"],
    ["invoices", "run"],
    ["usage", "rebuild", "--from", "2026-03-01T00:00:00Z", "--to", "2026-04-01T00:00:00Z"],
    ["reports", "forecast"],
]


@pytest.mark.timeout(120)
def test_a_long_answer_is_waited_for_where_it_may_be_long(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "WEIR_ADMIN_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "WEIR_ADMIN_KEY": installation.admin_key, "PATH": "/usr/bin:/bin",
        }  # fmt: skip

        def run(*arguments: str) -> subprocess.Popen[str]:
            return subprocess.Popen([binary(), *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        patient = [run(*arguments) for arguments in PATIENT]
        try:
            hasty = run("tiers", "list")
            _, said = hasty.communicate(timeout=90)
            assert hasty.returncode == 69 and "did not answer within 30 s" in said, said
            assert [process.args[1:] for process in patient if process.poll() is not None] == []
        finally:
            for process in patient:
                process.kill()
                process.communicate()
