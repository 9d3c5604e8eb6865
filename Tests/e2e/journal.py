"""Files that a test and a process of its own share while both run."""

import os
from pathlib import Path


def whole_lines(journal: Path) -> list[str]:
    """What is behind the last newline is still being written."""
    return journal.read_text().split("\n")[:-1] if journal.exists() else []


def set_word(file: Path, word: str) -> None:
    """In one step: who reads meanwhile sees the old word or the new one, never an empty file."""
    fresh = file.with_name(f"{file.name}.fresh")
    fresh.write_text(word)
    os.replace(fresh, file)
