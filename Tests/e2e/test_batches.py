"""Files and batches through the `openai` library: each line one job, billed once; nothing held in memory whole."""

import io
import json
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from deadline import wait_until
from installation import Gateway, Installation
from journal import whole_lines
from ports import free_port
from process import ManagedProcess, clean_environment
from servers import Servers
from tenancy import Tenant, make_key, make_model, make_tenant, route, unique
from webhooks import ReceiverProcess, make_webhook

pytestmark = pytest.mark.timeout(300)

LENIENT = {"WEIR_WEBHOOK_ALLOW_HTTP": "true", "WEIR_WEBHOOK_NETWORKS": "127.0.0.0/8"}


class ChatWorker:
    """`chat_worker.py`."""

    def __init__(self, installation: Installation, name: str, think_milliseconds: int) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.journal = installation.log_folder / f"{name}.journal"
        self.process = ManagedProcess(
            [sys.executable, str(Path(__file__).parent / "chat_worker.py"), str(self.port), str(think_milliseconds), str(self.journal)],
            installation.log_folder, name, clean_environment(),
        )
        installation.processes.append(self.process)
        self.process.wait_ready(self._listens, "the worker listens", 20)

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def calls(self) -> list[str]:
        return whole_lines(self.journal)


@dataclass
class Stage:
    installation: Installation
    gateway: Gateway
    quick: str
    slow: str
    worker: ChatWorker
    tenants: list[Tenant]

    def tenant(self) -> Tenant:
        return self.tenants.pop()

    def client(self, tenant: Tenant) -> OpenAI:
        return OpenAI(base_url=f"{self.gateway.public_url}/v1", api_key=tenant.key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Installation() as installation:
        tenants = []
        for _ in range(14):
            tenant = make_tenant(installation)
            key = make_key(installation.admin, tenant.id, scopes=["predict", "read", "webhooks"])
            tenants.append(Tenant(tenant.id, key.key, key.key_id))
        quick_worker = ChatWorker(installation, "quick", 0)
        slow_worker = ChatWorker(installation, "slow", 300)
        quick, slow = unique("quick"), unique("slow")
        for model, worker in ((quick, quick_worker), (slow, slow_worker)):
            make_model(installation, model, feature_count=None)
            route(installation, model, worker.address, protocol="openai")
        Servers(installation)
        gateway = installation.gateway("batches", LENIENT).start()
        yield Stage(installation, gateway, quick, slow, quick_worker, tenants)


def line(custom_id: str, model: str, content: str, **more: Any) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 5}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **more})


def upload(client: OpenAI, lines: list[str]) -> Any:
    return client.files.create(file=("requests.jsonl", io.BytesIO("\n".join(lines).encode())), purpose="batch")


def start(client: OpenAI, file_id: str, **more: Any) -> Any:
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def ended(client: OpenAI, batch_id: str, seconds: float = 60) -> Any:
    def look() -> Any:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "cancelled", "expired") else None

    return wait_until(look, "the batch has ended", seconds, every=0.2)


def lines_of(client: OpenAI, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def ledger(stage: Stage, tenant: Tenant) -> tuple[int, int, int]:
    with stage.installation.database() as database:
        row = database.execute(
            "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM ledger WHERE tenant_id = %s",
            (tenant.id.split("_")[-1],),
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def test_a_batch_from_upload_to_download(stage: Stage) -> None:
    tenant = stage.tenant()
    client = stage.client(tenant)
    with ReceiverProcess(stage.installation, "batch-receiver") as receiver:
        make_webhook(stage.gateway.public_url, tenant.key, f"{receiver.url}/ok", events=["batch.completed"])
        lines = [line(f"request-{n}", stage.quick, f"word {n}") for n in range(120)]
        lines[7] = line("request-7", stage.quick, "fail")
        lines[9] = line("request-9", "no-such-model", "word 9")
        file = upload(client, lines)
        assert file.purpose == "batch" and file.filename == "requests.jsonl" and file.bytes == len("\n".join(lines))
        assert client.files.retrieve(file.id).id == file.id
        assert client.files.content(file.id).content == "\n".join(lines).encode()
        batch = start(client, file.id, metadata={"run": "first"})
        assert batch.object == "batch" and batch.status in ("validating", "in_progress") and batch.metadata == {"run": "first"}
        done = ended(client, batch.id)
        assert done.status == "completed" and done.errors is None
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (120, 118, 2)
        output = lines_of(client, done.output_file_id)
        # In the order of the lines, each once, the answers as a synchronous request gets them.
        assert [answer["custom_id"] for answer in output] == [f"request-{n}" for n in range(120) if n not in (7, 9)]
        for answer in output:
            assert answer["error"] is None and answer["response"]["status_code"] == 200
            body = answer["response"]["body"]
            assert body["choices"][0]["message"]["content"] == answer["custom_id"].replace("request-", "word ")
            assert re.fullmatch(r"req_[0-9a-f-]{36}", answer["response"]["request_id"])
        errors = {answer["custom_id"]: answer for answer in lines_of(client, done.error_file_id)}
        assert set(errors) == {"request-7", "request-9"}
        assert errors["request-9"]["response"]["status_code"] == 404
        assert errors["request-9"]["response"]["body"]["error"]["code"] == "model_not_found"
        entries, input_tokens, output_tokens = ledger(stage, tenant)
        assert entries == 118, "each line that was answered is charged once, and no other"
        assert (done.usage.input_tokens, done.usage.output_tokens) == (input_tokens, output_tokens)
        told = wait_until(lambda: receiver.received("/ok"), "the webhook is told", 20)
        assert json.loads(told[0].body)["data"]["id"] == batch.id
    assert [found.id for found in client.batches.list()] == [batch.id]
    assert {found.id for found in client.files.list()} == {file.id, done.output_file_id, done.error_file_id}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_what_is_wrong_is_told_by_line(stage: Stage) -> None:
    client = stage.client(stage.tenant())
    lines = [
        line("a", stage.quick, "x"),
        "{not json",
        line("a", stage.quick, "x"),
        line("b", stage.quick, "x", url="/v1/embeddings"),
        line("c", stage.quick, "x", method="GET"),
        json.dumps({"method": "POST", "url": "/v1/chat/completions", "body": {"model": stage.quick}}),
        json.dumps({"custom_id": "d", "method": "POST", "url": "/v1/chat/completions"}),
        line("e", stage.quick, "x"),
    ]
    before = len(stage.worker.calls())
    failed = ended(client, start(client, upload(client, lines).id).id)
    assert failed.status == "failed" and failed.output_file_id is None
    assert [(error.line, error.code) for error in failed.errors.data] == [
        (2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "mismatched_url"), (5, "invalid_method"),
        (6, "missing_required_parameter"), (7, "missing_required_parameter"),
    ]
    assert len(stage.worker.calls()) == before, "nothing of a file that is wrong is run"
    empty = ended(client, start(client, upload(client, ["", "  "]).id).id)
    assert [error.code for error in empty.errors.data] == ["empty_file"]


def test_a_cancelled_batch_keeps_what_was_done(stage: Stage) -> None:
    tenant = stage.tenant()
    client = stage.client(tenant)
    batch = start(client, upload(client, [line(str(n), stage.slow, f"slow {n}") for n in range(3_000)]).id)
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 10, "some are done", 60)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = ended(client, batch.id)
    assert done.status == "cancelled"
    counts = done.request_counts
    assert counts.total == 3_000 and counts.completed >= 10 and counts.completed + counts.failed == 3_000
    output, errors = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert len(output) == counts.completed and len(errors) == counts.failed
    assert {answer["custom_id"] for answer in output} | {answer["custom_id"] for answer in errors} == {str(n) for n in range(3_000)}
    assert {answer["error"]["code"] for answer in errors} == {"batch_cancelled"}
    assert ledger(stage, tenant)[0] == counts.completed


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
def test_lines_that_were_submitted_and_not_noted_are_there_once(stage: Stage, ending: str) -> None:
    """A keeper that dies between the queue and the note leaves jobs behind the place up to which was read."""
    tenant = stage.tenant()
    client = stage.client(tenant)
    batch = start(client, upload(client, [line(str(n), stage.slow, f"unnoted {n}") for n in range(2_500)]).id)
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 5, "some are done", 60)
    with stage.installation.database() as database:
        change = "state = 'cancelling', cancelling_at = now()" if ending == "cancelled" else "expires_at = now()"
        database.execute(
            f"UPDATE batches SET read_lines = 0, read_position = 0, read_offset = 0, claim = claim + 1, due_at = now(), {change} WHERE batch_id = %s",
            (batch.id.removeprefix("batch_"),),
        )
    done = ended(client, batch.id)
    assert done.status == ending
    output, errors = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert len(output) >= 5
    assert sorted(int(answer["custom_id"]) for answer in output + errors) == list(range(2_500))
    assert (done.request_counts.completed, done.request_counts.failed) == (len(output), len(errors))
    assert ledger(stage, tenant)[0] == len(output), "what was charged is in the output"


def test_reading_and_running_are_two_scopes(stage: Stage) -> None:
    tenant = stage.tenant()
    keys = {scope: make_key(stage.gateway.admin, tenant.id, scopes=[scope]).key for scope in ("predict", "read")}
    runs, reads = (stage.client(Tenant(tenant.id, keys[scope], "")) for scope in ("predict", "read"))
    file = upload(runs, [line("a", stage.quick, "x")])
    batch = start(runs, file.id)
    assert ended(reads, batch.id).status == "completed"
    assert reads.files.content(file.id).content and reads.files.retrieve(file.id).id == file.id
    assert list(reads.files.list()) and list(reads.batches.list())
    for refused in (
        lambda: runs.files.list(), lambda: runs.files.retrieve(file.id), lambda: runs.files.content(file.id),
        lambda: runs.batches.list(), lambda: runs.batches.retrieve(batch.id),
        lambda: upload(reads, ["{}"]), lambda: reads.files.delete(file.id), lambda: start(reads, file.id),
        lambda: reads.batches.cancel(batch.id),
    ):
        with pytest.raises(openai.PermissionDeniedError):
            refused()
    assert runs.files.delete(file.id).deleted


def test_a_batch_that_is_over_time_expires(stage: Stage) -> None:
    tenant = stage.tenant()
    client = stage.client(tenant)
    batch = start(client, upload(client, [line(str(n), stage.slow, f"late {n}") for n in range(2_500)]).id)
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 5, "some are done", 60)
    with stage.installation.database() as database:
        database.execute("UPDATE batches SET expires_at = now() WHERE batch_id = %s", (batch.id.removeprefix("batch_"),))
    done = ended(client, batch.id)
    assert done.status == "expired" and done.expired_at
    output, errors = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert len(output) + len(errors) == 2_500 and len(output) >= 5
    assert {answer["error"]["code"] for answer in errors} == {"batch_expired"}
    assert ledger(stage, tenant)[0] == len(output)


def test_a_killed_gateway_loses_and_doubles_no_line(stage: Stage) -> None:
    tenant = stage.tenant()
    client = stage.client(tenant)
    batch = start(client, upload(client, [line(str(n), stage.quick, f"kill {n}") for n in range(3_000)]).id)
    for share in (200, 1_200):
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= share, f"{share} are done", 90)
        assert stage.gateway.process is not None
        stage.gateway.process.kill()
        stage.gateway.start()
    done = ended(client, batch.id, 150)
    assert done.status == "completed" and done.request_counts.completed == 3_000
    output = lines_of(client, done.output_file_id)
    assert [answer["custom_id"] for answer in output] == [str(n) for n in range(3_000)]
    assert ledger(stage, tenant)[0] == 3_000


def resident_kilobytes(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))  # type: ignore[union-attr]


def peak_kilobytes(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))  # type: ignore[union-attr]


def test_a_large_file_is_never_in_memory_whole(stage: Stage) -> None:
    """50 MB up, down and through validation; the process grows by far less."""
    client = stage.client(stage.tenant())
    assert stage.gateway.process is not None
    pid = stage.gateway.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = resident_kilobytes(pid)
    text = "x" * 5_000
    lines = [line(str(n), stage.quick, text) for n in range(10_000)]
    # The last line is wrong, so that all of it is read and nothing of it run.
    lines.append("{")
    content = "\n".join(lines).encode()
    assert len(content) > 50_000_000
    file = client.files.create(file=("large.jsonl", io.BytesIO(content)), purpose="batch")
    assert file.bytes == len(content)
    after_upload = peak_kilobytes(pid)
    assert client.files.content(file.id).content == content
    after_download = peak_kilobytes(pid)
    failed = ended(client, start(client, file.id).id, 200)
    assert [(error.line, error.code) for error in failed.errors.data] == [(10_001, "invalid_json_line")]
    peak = peak_kilobytes(pid)
    print(f"{len(content)} bytes; RSS {before} kB before, peak {after_upload} after upload, {after_download} after download, {peak} after validation")
    assert peak - before < 30_000, (before, after_upload, after_download, peak)


def test_files_have_bounds_and_owners(stage: Stage) -> None:
    owner, stranger = stage.tenant(), stage.tenant()
    client = stage.client(owner)
    file = upload(client, [line("a", stage.quick, "x")])
    other = stage.client(stranger)
    for attempt in (lambda: other.files.retrieve(file.id), lambda: other.files.content(file.id), lambda: other.files.delete(file.id),
                    lambda: start(other, file.id), lambda: other.files.retrieve("file-01900000-0000-7000-8000-000000000000"),
                    lambda: other.batches.retrieve("batch_nonsense")):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("a", b"x"), purpose="assistants")
    bounded = stage.installation.gateway("bounded", {"WEIR_FILE_MAX_BYTES": "100000", "WEIR_FILE_TENANT_BYTES": "150000", "WEIR_BATCH_LIMIT": "1"}).start()
    try:
        small = OpenAI(base_url=f"{bounded.public_url}/v1", api_key=stranger.key, max_retries=0)
        with pytest.raises(openai.APIStatusError) as large:
            small.files.create(file=("a", b"x" * 100_001), purpose="batch")
        assert large.value.status_code == 413
        small.files.create(file=("a", b"x" * 90_000), purpose="batch")
        with pytest.raises(openai.ConflictError):
            small.files.create(file=("a", b"x" * 90_000), purpose="batch")
        assert len(list(small.files.list())) == 1
    finally:
        bounded.stop()
    with stage.installation.database() as database:
        left = database.execute("SELECT count(*) FROM files WHERE NOT is_complete AND tenant_id = %s", (stranger.id.split("_")[-1],)).fetchone()
        assert left == (0,), "an upload that was refused leaves nothing"
