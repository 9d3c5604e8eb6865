"""The documents agree with one another and with the contract."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TABLE_ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if "://" not in link and not (document.parent / link.split("#")[0]).exists():
            broken.append(link)
    assert broken == []


def test_every_decision_is_listed_and_has_its_parts():
    folder = ROOT / "docs" / "adr"
    decisions = sorted(path for path in folder.glob("[0-9]*.md"))
    overview = (folder / "README.md").read_text()
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        text = path.read_text()
        assert f"]({path.name})" in overview, path.name
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Motivation", "Decision", "Alternatives", "Consequences"], path.name


def test_variables_are_sorted_and_unique():
    text = (ROOT / "docs" / "configuration.md").read_text()
    names = []
    for section in text.split("\n## ")[1:]:
        rows = [row[0] for row in TABLE_ROW.findall(section)]
        assert rows == sorted(rows), section.splitlines()[0]
        names += rows
    assert len(names) == len(set(names)) > 20


def test_the_example_environment_has_every_variable():
    table = {name: default for name, _, default, _ in TABLE_ROW.findall((ROOT / "docs/configuration.md").read_text())}
    example = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(example) == set(table)
    assert [name for name, default in table.items() if default != "none" and example[name] != default] == []


def test_the_error_table_and_the_contracts_have_the_same_codes():
    documented = set(re.findall(r"^\| (\d{3}) \| `(\w+)` ", (ROOT / "docs/api/errors.md").read_text(), re.MULTILINE))
    promised = set()
    for name in ["weir.yaml", "weir-admin.yaml"]:
        contract = yaml.safe_load((ROOT / "openapi" / name).read_text())
        components = contract["components"]["responses"]
        for path in contract["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if status == "default" or int(status) < 400 or "$ref" not in response:
                        continue
                    description = components[response["$ref"].rsplit("/", 1)[1]]["description"]
                    promised |= {(status, code) for code in re.findall(r"`([a-z_]+)`", description)}
        other = components.get("OtherError", {}).get("description", "")
        promised |= set(re.findall(r"(\d{3})\s+`(\w+)`", other))
    promised = {(status, code) for status, code in promised if code not in {"resets_at", "errors"}}  # members
    assert promised == documented
