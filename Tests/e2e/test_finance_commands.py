"""The command line, as someone in finance or pricing works with it: every noun of the money side, on one story."""

import csv
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api import get
from bills import BASE_FEE, PRICES, cost, last_month, make_priced_tenant, use
from deadline import wait_until
from installation import Installation, binary
from process import clean_environment
from tenancy import Tenant, make_tenant, unique

pytestmark = pytest.mark.timeout(300)
MONTH, MONTH_END = last_month()
COUNT = 7
RANGE = ("--start", f"{MONTH:%Y-%m-%dT%H:%M:%SZ}", "--end", f"{MONTH_END:%Y-%m-%dT%H:%M:%SZ}")


class Office:
    """A tenant that used something last month, and a terminal with an admin key."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.tenant: Tenant = make_priced_tenant(installation)
        use(installation, self.tenant, MONTH + timedelta(days=3), COUNT)
        self.environment = {
            **clean_environment(), "WEIR_ADMIN_URL": installation.admin_url, "WEIR_ADMIN_KEY": installation.admin_key,
        }  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary(), *arguments], capture_output=True, text=True, timeout=90, env=self.environment,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def text(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with Installation(arguments=["--no-redis"]) as installation:
        yield Office(installation)


def test_an_invoice_from_draft_to_payment(office: Office, tmp_path: Path) -> None:
    assert "none yet" not in office.text("subscriptions", "show", "--tenant", office.tenant.id)
    drafted = office.json("invoices", "draft", "--tenant", office.tenant.id, "--month", f"{MONTH:%Y-%m}")
    invoice = drafted["id"]
    assert drafted["state"] == "draft" and drafted["total_micros"] == BASE_FEE + cost(COUNT)
    assert office.json("invoices", "finalize", invoice)["state"] == "finalised"
    shown = office.text("invoices", "show", invoice)
    assert "Base fee" in shown and str(BASE_FEE + cost(COUNT)) in shown
    table = tmp_path / "invoice.csv"
    office.text("invoices", "export", invoice, "--format", "csv", "--output", str(table))
    rows = list(csv.DictReader(table.open()))
    amounts = [int(row["amount_micros"]) for row in rows if row.get("amount_micros")]
    assert sum(amounts) == BASE_FEE + cost(COUNT)
    page = tmp_path / "invoice.html"
    office.text("invoices", "export", invoice, "--format", "html", "--output", str(page))
    assert "<html" in page.read_text() and "FINALISED" not in page.read_text()
    assert office.json("invoices", "pay", invoice)["state"] == "paid"
    assert invoice in office.text("invoices", "list")


def test_credits_are_granted_listed_and_revoked(office: Office) -> None:
    tenant = make_tenant(office.installation)
    granted = office.json(
        "credits", "grant", "--tenant", tenant.id, "--currency", "USD", "--amount-micros", "5000000", "--reason", "welcome")
    assert granted["amount_micros"] == 5_000_000
    listed = office.text("credits", "list", "--tenant", tenant.id)
    assert granted["id"] in listed and "5000000" in listed
    office.text("credits", "revoke", granted["id"])
    assert office.json("credits", "list", "--tenant", tenant.id)["data"][0]["revoked_at"] is not None


def test_a_tier_is_drafted_replayed_and_published(office: Office, tmp_path: Path) -> None:
    code = office.json("subscriptions", "show", "--tenant", office.tenant.id)["current"]["tier"]
    file = tmp_path / "version.json"
    file.write_text(json.dumps({
        "currency": "USD", "base_fee_micros": BASE_FEE,
        "prices": [{"meter": meter, "model": "*", "unit_price": str(price + price / 10)} for meter, price in PRICES.items()],
        "quotas": []}))  # fmt: skip
    version = str(office.json("tiers", "draft", code, "--file", str(file))["number"])
    replay = office.json("tiers", "replay", code, version, "--periods", "1")
    # A tenth more for the usage; the fee stays.
    assert replay["change_micros"] == (cost(COUNT) + 5) // 10
    published = office.json("tiers", "publish", code, version)
    assert published["state"] == "published"
    assert "published" in office.text("tiers", "show", code)
    office.text("tiers", "retire", code, version)
    assert office.tenant.id in office.text("tiers", "analyse")


@pytest.mark.parametrize("report", ["usage", "top-customers", "revenue-by-tier", "errors", "latency"])
def test_reports_are_tables(office: Office, report: str) -> None:
    first, head, *rows = office.text("reports", report, *RANGE).splitlines()
    assert first == f"{MONTH:%Y-%m-%dT%H:%M:%SZ} to {MONTH_END:%Y-%m-%dT%H:%M:%SZ}"
    assert rows and "_MICROS" not in head
    if "COST" in head:
        assert str(Decimal(cost(COUNT)) / 1_000_000) in "\n".join(rows)


def test_usage_by_user_and_key_is_a_table_and_a_file(office: Office) -> None:
    shown = office.text("reports", "usage", "--group-by", "key,user,tenant", *RANGE).splitlines()
    assert shown[1].split()[:2] == ["TENANT_ID", "KEY_ID"] and office.tenant.key_id in shown[2]
    of_one = ["usage", "report", "--tenant", office.tenant.id, "--group-by", "user,key", *RANGE]
    assert office.tenant.key_id in office.text(*of_one)
    done = subprocess.run(
        [binary(), "reports", "usage", "--group-by", "key,user", *RANGE, "--csv"], capture_output=True, timeout=90,
        env=office.environment, stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    head, *rows = done.stdout.decode().split("\r\n")
    assert head == "user_id,key_id,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros"
    assert rows[-1] == "" and len(rows) == 2
    row = dict(zip(head.split(","), rows[0].split(","), strict=True))
    assert (row["user_id"], row["key_id"], row["requests"]) == ("", office.tenant.key_id, str(COUNT))
    assert int(row["cost_micros"]) == cost(COUNT)
    assert office.text(*of_one, "--csv").splitlines() == done.stdout.decode().splitlines()
    of_all = office.text("usage", "report", "--group-by", "day,tenant", *RANGE, "--csv").splitlines()
    assert of_all[0] == "day,tenant_id,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros"
    assert f"{MONTH + timedelta(days=3):%Y-%m-%d},{office.tenant.id},USD,{COUNT}," in "\n".join(of_all)


def test_a_file_has_all_rows_or_the_command_fails(office: Office) -> None:
    """A file that lacks its end looks whole: 2,500 models of one hour, where a page that is asked for has a thousand rows at most."""
    with office.installation.database() as database:
        database.execute(
            """
            INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens, output_tokens)
            SELECT %s, '2025-03-01T00:00:00Z', %s, 'm' || n, (SELECT tier_version_id FROM ledger LIMIT 1), n, 1, 0, 1 FROM generate_series(1, 2500) n
            """,
            (office.tenant.id, office.tenant.key_id),
        )
        database.commit()
    of_march = ["--group-by", "model", "--start", "2025-03-01T00:00:00Z", "--end", "2025-03-02T00:00:00Z", "--csv"]
    head, *rows = office.text("reports", "usage", *of_march).splitlines()
    assert head.startswith("model,") and len(rows) == 2500
    assert {row.split(",")[0]: row.split(",")[2] for row in rows} == {f"m{n}": str(n) for n in range(1, 2501)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [binary(), "reports", "usage", *of_march], stdout=full, stderr=subprocess.PIPE, text=True, timeout=90,
            env=office.environment, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and "not all could be written" in done.stderr
    page = office.run("reports", "usage", *of_march, "--limit", "7")
    assert page.returncode == 0 and len(page.stdout.splitlines()) == 8 and "There is more: --page" in page.stderr
    cut = office.run("usage", "report", *of_march)
    assert cut.returncode == 1 and len(cut.stdout.splitlines()) == 1001 and "weir reports usage --csv" in cut.stderr
    asked = office.run("usage", "report", *of_march, "--limit", "9")
    assert asked.returncode == 0 and len(asked.stdout.splitlines()) == 10 and "There are more rows" in asked.stderr


def test_a_file_says_that_it_goes_on_and_is_not_json_as_well(office: Office) -> None:
    make_tenant(office.installation)
    first = office.run("reports", "forecast", "--csv", "--limit", "1")
    assert first.returncode == 0 and len(first.stdout.splitlines()) == 2
    page = first.stderr.strip().removeprefix("There is more: --page ")
    second = office.run("reports", "forecast", "--csv", "--limit", "1", "--page", page)
    assert second.stdout.splitlines()[0] == first.stdout.splitlines()[0] and second.stdout != first.stdout
    refused = office.run("reports", "usage", "--group-by", "tag,key", *RANGE)
    assert refused.returncode == 1 and "tag together with key or user" in refused.stderr
    for report in (["reports", "usage"], ["usage", "report"]):
        assert office.run(*report, "--csv", "--json").returncode == 64


def test_the_forecast_names_each_tenant(office: Office) -> None:
    assert office.tenant.id in office.text("reports", "forecast")


def test_usage_goes_into_a_file_and_an_export_into_a_folder(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    office.text("usage", "export", "--tenant", office.tenant.id, *RANGE, "--to", str(file))
    assert len(list(csv.DictReader(file.open()))) == COUNT
    export = office.json("exports", "create", "--format", "jsonl", "--tenant", office.tenant.id, *RANGE)["id"]
    wait_until(lambda: office.json("exports", "show", export)["state"] == "completed", "the export is written", 60)
    folder = tmp_path / "export"
    office.text("exports", "download", export, "--to", str(folder))
    lines = [line for part in sorted(folder.glob("part-*")) for line in part.read_text().splitlines()]
    assert len(lines) == COUNT
    assert export in office.text("exports", "list")


def test_books_ledger_and_audit_log_are_held_against_their_proofs(office: Office, tmp_path: Path) -> None:
    assert office.run("reconcile").returncode == 0
    wait_until(
        lambda: office.run("ledger", "verify", "--tenant", office.tenant.id).returncode == 0, "the ledger is sealed", 60)
    keys = tmp_path / "keys.json"
    keys.write_bytes(get(office.installation.public_url, "/.well-known/weir-keys").body)
    file = tmp_path / "audit.jsonl"

    def verified() -> bool:
        office.text("audit", "export", "--output", str(file))
        return office.run("verify", "audit", str(file), "--keys", str(keys)).returncode == 0

    wait_until(verified, "the audit log is sealed", 60)
    file.write_text(file.read_text().replace(office.tenant.id, "00000000-0000-7000-8000-000000000000", 1))
    assert office.run("verify", "audit", str(file), "--keys", str(keys)).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("invoices", "show", "inv_01a201a8-938c-7665-aeef-fb7b1825b905"), ("tiers", "show", unique("none")),
        ("exports", "show", "exp_01a201a8-938c-7665-aeef-fb7b1825b905"),
        ("subscriptions", "show", "--tenant", "01a201a8-938c-7665-aeef-fb7b1825b905"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line_and_an_exit_code(office: Office, arguments: tuple[str, ...]) -> None:
    done = office.run(*arguments)
    assert done.returncode != 0 and done.stdout == ""
    assert 0 < len(done.stderr.strip().splitlines()) <= 2 and "{" not in done.stderr


def test_without_the_server_the_message_says_what_to_do(office: Office) -> None:
    done = subprocess.run(
        [binary(), "invoices", "list"], capture_output=True, text=True, timeout=60,
        env={**office.environment, "WEIR_ADMIN_URL": "http://127.0.0.1:9"}, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "127.0.0.1:9" in done.stderr


def test_a_forecast_of_many_tenants_is_one_file(office: Office) -> None:
    """It is computed tenant by tenant, and comes in pages of a hundred."""
    for _ in range(101):
        make_tenant(office.installation)
    head, *rows = office.text("reports", "forecast", "--csv").splitlines()
    tenants = [row.split(",")[0] for row in rows]
    assert head.startswith("tenant_id,") and len(tenants) == len(set(tenants)) > 101 and head not in rows
    with office.installation.database() as database:
        known = {str(tenant) for (tenant,) in database.execute("SELECT tenant_id FROM tenants")}
    assert set(tenants) == known
