"""Ledgers as their customers have them: exported, with our public keys, and verified by two programs."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ledger_verifier as verifier
from api import bearer, get, predict_body, predict_headers
from deadline import wait_until
from installation import Gateway, binary
from openai_stage import OpenAIStage
from process import clean_environment
from tenancy import Tenant
from wire import Wire, send_once


def weir(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary(), *arguments], capture_output=True, text=True, timeout=60, env=clean_environment(environment),
        stdin=subprocess.DEVNULL, check=False)


def administrate(stage: OpenAIStage, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"WEIR_ADMIN_URL": stage.installation.admin_url, "WEIR_ADMIN_KEY": stage.installation.admin_key}
    return weir(*arguments, environment=environment)


def keys_of(gateway: Gateway) -> dict[str, Any]:
    answer = get(gateway.public_url, "/.well-known/weir-keys")
    assert answer.status == 200
    return answer.json()


def sealed_count(stage: OpenAIStage, tenant: Tenant) -> int:
    return stage.database.execute(
        "SELECT count(*) FROM sealed_entries WHERE tenant_id = %s", [tenant.id]).fetchone()[0]


def posted_count(stage: OpenAIStage, tenant: Tenant) -> int:
    return stage.database.execute("SELECT count(*) FROM ledger WHERE tenant_id = %s", [tenant.id]).fetchone()[0]


def wait_sealed(stage: OpenAIStage, tenant: Tenant) -> None:
    wait_until(
        lambda: sealed_count(stage, tenant) == posted_count(stage, tenant) or None, "all entries are sealed", 30)


def export(gateway: Gateway, tenant: Tenant, query: str = "") -> list[str]:
    answer = send_once(
        gateway.public_url, "GET", f"/api/v1/ledger/entries?format=jsonl{query}", bearer(tenant.key), timeout=60)
    assert answer.status == 200, answer.body[:500]
    assert answer.header("content-type") == "application/x-ndjson"
    text = answer.body.decode()
    assert text.endswith("\n")
    return text.splitlines()


class Files:
    """The files of one customer, and the two programs that verify them."""

    def __init__(self, folder: Path, keys: dict[str, Any]) -> None:
        self.folder = folder
        self.keys = verifier.Keys.of(keys)
        self.keys_path = self.write("keys.json", json.dumps(keys))

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def ledger(self, lines: list[str], *more: str) -> subprocess.CompletedProcess[str]:
        path = self.write("ledger.jsonl", "\n".join(lines) + "\n")
        return weir("verify", "ledger", path, "--keys", self.keys_path, "--json", *more)


def serve_traffic(stage: OpenAIStage, tenant: Tenant, count: int) -> None:
    def some(number: int) -> None:
        gateway = stage.gateways[number % 2]
        with Wire(gateway.public_url) as wire:
            for _ in range(count // 4):
                answer = wire.request("POST", "/predict/", predict_headers(tenant.key), predict_body())
                assert answer.status == 200, answer.body[:300]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))
