"""The checks in scripts/ must fail on what they are there to find."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


def run(*command, **environment):
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, "CI": "", **environment}
    )
    return result.returncode, result.stdout + result.stderr


# Imports


def target(name, path, sources=(), uses=(), products=(), kind="library"):
    return {"name": name, "path": str(path), "sources": list(sources), "target_dependencies": list(uses),
            "product_dependencies": list(products), "type": kind}


@pytest.fixture
def check_import(tmp_path):
    """Checks one file with one line in a target called `name`, beside Domain, Gateway, Admin, Storage and CLibPQ."""

    def check(name, line, uses=(), products=()):
        (tmp_path / "File.swift").write_text(f"// A file.\n{line}\n")
        targets = [
            target("Domain", tmp_path),
            target("Gateway", tmp_path, uses=["Domain"]),
            target("Admin", tmp_path, uses=["Domain"]),
            target("Storage", tmp_path, uses=["Domain"]),
            target("PostgresDriver", tmp_path, uses=["CLibPQ"]),
            target("CLibPQ", tmp_path, kind="system-target"),
        ]
        declared = next((known["target_dependencies"] for known in targets if known["name"] == name), [])
        targets = [known for known in targets if known["name"] != name]
        targets.append(target(name, tmp_path, ["File.swift"], [*declared, *uses], products))
        description = tmp_path / "description.json"
        description.write_text(json.dumps({"targets": targets}))
        return run(SCRIPTS / "check-imports", description)

    return check


def test_declared_imports_pass(check_import):
    status, output = check_import("Gateway", "public import struct Domain.Usage\nimport NIOCore", products=["NIOCore"])
    assert status == 0, output


@pytest.mark.parametrize("line", ["import Storage", "@testable import Storage", "internal import enum Storage.X"])
def test_an_undeclared_module_of_ours_is_found(check_import, line):
    status, output = check_import("Billing", line)
    assert status == 1
    assert "Billing imports Storage without declaring it" in output


def test_an_undeclared_package_is_found(check_import):
    status, output = check_import("Billing", "import NIOCore")
    assert status == 1
    assert "NIOCore, which is no declared product" in output


def test_domain_imports_nothing(check_import):
    status, output = check_import("Domain", "import Foundation")
    assert status == 1
    assert "Domain must not import Foundation" in output


@pytest.mark.parametrize("name, module", [("Gateway", "Admin"), ("Admin", "Gateway"), ("Gateway", "PostgresDriver")])
def test_a_surface_may_not_even_declare_the_other_side(check_import, name, module):
    status, output = check_import(name, f"import {module}", uses=[module])
    assert status == 1
    assert f"{name} must not depend on {module}" in output
    assert f"{name} must not import {module}" in output


def test_a_c_library_has_one_user(check_import):
    status, output = check_import("Jobs", "import CLibPQ", uses=["CLibPQ"])
    assert status == 1
    assert "CLibPQ must be a dependency of exactly one target" in output


def test_an_import_in_a_string_is_no_import(check_import):
    status, output = check_import("Billing", 'let text = """\nimport Storage\n"""')
    assert status == 0, output


# Migrations


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "migrations").mkdir()
    git(tmp_path, "init", "--quiet")
    return tmp_path


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def write(repository, name, text="SELECT 1;\n", embed=True):
    (repository / "migrations" / name).write_text(text)
    if embed:
        assert run(SCRIPTS / "embed-migrations", repository)[0] == 0


def commit(repository):
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Change")


def check_migrations(repository, **environment):
    return run(SCRIPTS / "check-migrations", repository, **environment)


def test_good_migrations_pass(repository):
    write(repository, "0001_tenancy.sql")
    write(repository, "0002_ledger.sql", 'SELECT \'"""#\', E\'\\#(x)\';')
    commit(repository)
    status, output = check_migrations(repository, CI="true")
    assert status == 0, output


def test_no_migrations_at_all_pass(tmp_path):
    status, output = check_migrations(tmp_path)
    assert status == 0, output
    assert "0 files, 0 problems" in output


@pytest.mark.parametrize("name", ["1_a.sql", "0001-a.sql", "0001_A.sql", "0001_a.sql.bak", "readme.md"])
def test_a_wrong_name_is_found(repository, name):
    write(repository, name)
    status, output = check_migrations(repository)
    assert status == 1
    assert f"migrations/{name}: the name must look like" in output


def test_a_number_taken_twice_is_found(repository):
    write(repository, "0001_a.sql")
    write(repository, "0001_b.sql")
    status, output = check_migrations(repository)
    assert status == 1
    assert "number 0001 is taken twice: 0001_a.sql, 0001_b.sql" in output


def test_a_gap_is_found(repository):
    write(repository, "0001_a.sql")
    write(repository, "0003_c.sql")
    status, output = check_migrations(repository)
    assert status == 1
    assert "number 0002 is missing" in output


@pytest.mark.parametrize("committed", [True, False])
def test_an_edited_migration_is_found(repository, committed):
    write(repository, "0001_a.sql")
    commit(repository)
    write(repository, "0001_a.sql", "SELECT 2;\n")
    if committed:
        commit(repository)
    status, output = check_migrations(repository)
    assert status == 1
    assert "migrations/0001_a.sql: differs from what" in output


def test_a_removed_migration_is_found(repository):
    write(repository, "0001_a.sql")
    commit(repository)
    (repository / "migrations" / "0001_a.sql").rename(repository / "migrations" / "0001_b.sql")
    assert run(SCRIPTS / "embed-migrations", repository)[0] == 0
    status, output = check_migrations(repository)
    assert status == 1
    assert "migrations/0001_a.sql: was added by" in output


def test_a_draft_may_change_until_it_is_none(repository):
    write(repository, "0001_a.sql", "-- draft\nSELECT 1;\n")
    commit(repository)
    write(repository, "0001_a.sql", "SELECT 2;\n")
    commit(repository)
    assert check_migrations(repository)[0] == 0
    write(repository, "0001_a.sql", "SELECT 3;\n")
    commit(repository)
    assert check_migrations(repository)[0] == 1


def test_a_draft_does_not_pass_continuous_integration(repository):
    write(repository, "0001_a.sql", "-- draft\nSELECT 1;\n")
    assert check_migrations(repository)[0] == 0
    status, output = check_migrations(repository, CI="true")
    assert status == 1
    assert "is marked as a draft" in output


def test_a_stale_embedded_copy_is_found(repository):
    write(repository, "0001_a.sql")
    write(repository, "0002_b.sql", embed=False)
    status, output = check_migrations(repository)
    assert status == 1
    assert "not up to date; run scripts/embed-migrations" in output


# Totals


def report(folder, name, *cases):
    path = folder / name
    path.write_text("<testsuites><testsuite>" + "".join(cases) + "</testsuite></testsuites>")
    return path


PASSED = '<testcase name="a" />'
FAILED = '<testcase name="b"><failure message="x" /><failure message="y" /></testcase>'
SKIPPED = '<testcase name="c"><skipped>why</skipped></testcase>'


def test_totals_add_up(tmp_path):
    one = report(tmp_path, "one.xml", PASSED, PASSED, SKIPPED)
    two = report(tmp_path, "two.xml", PASSED, FAILED)
    status, output = run(SCRIPTS / "count-tests", f"one:0:{one}", f"two:1:{two}")
    assert status == 1
    assert output.splitlines()[-3:] == ["one: 2 passed, 0 failed", "two: 1 passed, 1 failed", "3 passed, 1 failed"]


def test_what_failed_is_said_once_more_at_the_end(tmp_path):
    case = '<testcase classname="Suite" name="adds()"><failure message="Expectation failed: 1 == 2">long\ntext</failure></testcase>'
    one = report(tmp_path, "one.xml", PASSED, case, *[FAILED] * 40)
    _, output = run(SCRIPTS / "count-tests", f"one:1:{one}")
    lines = output.splitlines()
    assert lines[0] == "FAILED one: Suite adds(): Expectation failed: 1 == 2 long text"
    assert lines[-3:] == ["and 11 more", "one: 1 passed, 41 failed", "1 passed, 41 failed"]
    assert len(lines) == 33


def test_all_passed_is_success(tmp_path):
    status, output = run(SCRIPTS / "count-tests", f"one:0:{report(tmp_path, 'one.xml', PASSED)}")
    assert status == 0
    assert output.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize("status, cases", [(139, [PASSED]), (0, []), (0, [SKIPPED])])
def test_a_crash_or_an_empty_run_is_a_failure(tmp_path, status, cases):
    path = report(tmp_path, "one.xml", *cases)
    code, output = run(SCRIPTS / "count-tests", f"one:{status}:{path}")
    assert code == 1
    assert output.splitlines()[-1].endswith("1 failed")


def test_a_missing_report_is_a_failure(tmp_path):
    assert run(SCRIPTS / "count-tests", f"one:0:{tmp_path / 'none.xml'}")[0] == 1
