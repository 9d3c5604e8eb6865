"""What must never be in a binary that serves."""

import subprocess
from pathlib import Path

from installation import binary

ROOT = Path(__file__).resolve().parents[2]
CONDITION = "WEIR_UNMETERED_BASELINE"
# Asked for by such a build, and so in its text; put together here, so that this file is not found by its own search.
CONFIRMATION = b"WEIR_BENCHMARK_SERVES" + b"_WITHOUT_QUOTA"


def building_files() -> list[Path]:
    """Everything that says what is built, or is built."""
    folders = [ROOT / name for name in ("Sources", "Benchmarks", "scripts", ".ci")]
    found = [path for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    return [path for path in [ROOT / "Package.swift", ROOT / "Makefile", *found] if path.is_file()]


def test_only_the_benchmark_builds_without_metering() -> None:
    naming = {str(path.relative_to(ROOT)) for path in building_files() if CONDITION.encode() in path.read_bytes()}
    assert "Benchmarks/admission" in naming
    others = {name for name in naming if not name.startswith("Sources/")}
    assert others == {"Benchmarks/admission", "Benchmarks/README.md"}, "a build defines the condition"
    for name in naming:
        if name.startswith("Sources/"):
            lines = [line.strip() for line in (ROOT / name).read_text().splitlines() if CONDITION in line]
            assert all(line == f"#if {CONDITION}" or '"' in line for line in lines), (name, lines)


def test_the_binary_under_test_meters() -> None:
    assert CONFIRMATION not in Path(binary()).read_bytes()
    refused = subprocess.run([binary(), "measure-admission"], capture_output=True, timeout=30, check=False)
    assert refused.returncode == 64, refused.stderr
