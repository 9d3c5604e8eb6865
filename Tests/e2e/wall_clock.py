"""A wall clock that can be set for one process while it runs, as an administrator or a bad time server does."""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """Give `environment` to the process, then `shift` its clock."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("clang") or shutil.which("cc")
        assert compiler is not None, "no C compiler, although Swift comes with one"
        self._library = folder / "wall_clock.so"
        self._offset = folder / "wall_clock.offset"
        if not self._library.exists():
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(self._library), str(SOURCE)],
                check=True,
            )
        self._offset.write_bytes(struct.pack("=q", 0))

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_OFFSET_FILE": str(self._offset)}

    def shift(self, seconds: int) -> None:
        """From now on the clock is off by so much. Writes over the file, because it is mapped."""
        with open(self._offset, "r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))
