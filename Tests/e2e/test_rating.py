"""Rating: an independent program computes the golden amounts and thousands of random months, to the micro-unit as the product does."""

import collections
import json
import os
import subprocess
from pathlib import Path

import pytest

import rating_cases
import rating_oracle
from installation import binary

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "rating.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
# Another seed tries other months: WEIR_TEST_SEED=7 pytest test_rating.py
SEED = int(os.environ.get("WEIR_TEST_SEED", "20260401"))
DIFFERENTIAL_CASES = 3_000


def rated_by_weir(cases: list[dict], folder: Path) -> list[dict]:
    path = folder / "cases.json"
    path.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    done = subprocess.run([binary(), "rate", path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def normalised(outcome: dict) -> dict:
    """Weir leaves out what is null."""
    return {
        key: [{name: value for name, value in line.items() if value is not None} for line in value] if key == "lines" else value
        for key, value in outcome.items()
        if value is not None
    }  # fmt: skip


def test_the_golden_cases_are_many_and_some_are_reckoned_by_hand() -> None:
    assert len(CASES) >= 40
    assert sum("by_hand" in case for case in CASES) >= 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_oracle_reckons_the_golden_amounts(case: dict) -> None:
    assert rating_oracle.rate(case) == case["expected"]


def test_weir_rates_the_golden_cases(tmp_path: Path) -> None:
    for case, outcome in zip(CASES, rated_by_weir(CASES, tmp_path), strict=True):
        assert normalised(outcome) == normalised(case["expected"]), case["name"]


@pytest.mark.timeout(900)
def test_weir_and_the_oracle_agree_about_random_months(tmp_path: Path) -> None:
    cases = rating_cases.cases(SEED, DIFFERENTIAL_CASES)
    seen: collections.Counter[str] = collections.Counter()
    for case, outcome in zip(cases, rated_by_weir(cases, tmp_path), strict=True):
        expected = rating_oracle.rate(case)
        assert normalised(outcome) == normalised(expected), json.dumps(case)
        seen.update({line["kind"] for line in expected.get("lines", [])} | {expected.get("failure", "rated")})
        seen.update({f"band {line['band']}" for line in expected.get("lines", []) if line["band"]})
    # A comparison of empty bills would prove nothing.
    for kind in ["base_fee", "usage", "included", "trial", "minimum_commitment", "rated", "mixed_currencies", "band 5"]:
        assert seen[kind] >= 10, seen
