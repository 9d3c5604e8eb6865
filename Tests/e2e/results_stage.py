"""Two gateways, a worker whose answers are set by the test, and tenants of which something is kept."""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from api import bearer
from deadline import wait_until
from installation import Gateway, Installation, answers_ok
from ports import free_port
from process import ManagedProcess, clean_environment
from tenancy import Tenant, make_model, make_tenant, route, unique
from wire import Answer, send_once


@dataclass
class ResultsStage:
    installation: Installation
    gateways: list[Gateway]
    worker_url: str
    model: str

    @staticmethod
    def make(installation: Installation) -> "ResultsStage":
        gateways = [installation.gateway(name).start() for name in ("one", "two")]
        port = free_port()
        worker_url = f"http://127.0.0.1:{port}"
        process = ManagedProcess(
            [sys.executable, str(Path(__file__).with_name("binary_worker.py")), str(port)],
            installation.log_folder,
            "binary-worker",
            clean_environment(),
        )
        installation.processes.append(process)
        process.wait_ready(lambda: answers_ok(worker_url, "/healthz"), "the worker is ready", 20)
        model = unique("content")
        make_model(installation, model, feature_count=None, token_counting="worker")
        route(installation, model, f"127.0.0.1:{port}")
        stage = ResultsStage(installation, gateways, worker_url, model)
        tenant = stage.tenant()
        for gateway in gateways:
            wait_until(lambda g=gateway: stage.predict(tenant, g).status == 200, "the route is there", 10)
        return stage

    def tenant(self, retention: str = "full", **more: Any) -> Tenant:
        tenant = make_tenant(self.installation)
        self.change(tenant, retention=retention, **more)
        return tenant

    def change(self, tenant: Tenant, **fields: Any) -> dict[str, Any]:
        return self.installation.admin.expect("PATCH", f"/admin/v1/tenants/{tenant.id}", fields, (200,))

    def worker_answers(self, content_type: str, body: bytes, delay_seconds: float = 0.0, **fields: str) -> None:
        wanted = {
            "content_type": content_type,
            "body": base64.b64encode(body).decode(),
            "fields": {name.replace("_", "-"): value for name, value in fields.items()},
            "delay_seconds": delay_seconds,
        }
        assert send_once(self.worker_url, "PUT", "/answer", {}, json.dumps(wanted).encode(), 10).status == 200

    def predict(self, tenant: Tenant, gateway: Gateway, features: Any = None, **headers: str) -> Answer:
        fields = {**bearer(tenant.key), "Content-Type": "application/json", **headers}
        body = json.dumps({"model": self.model, "features": features or [1, 2, 3, 4]}).encode()
        return send_once(gateway.public_url, "POST", "/predict/", fields, body, 30)

    def get(self, tenant: Tenant, gateway: Gateway, target: str, **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return send_once(gateway.public_url, "GET", target, {**bearer(tenant.key), **fields}, timeout=20)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.installation.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
