"""Processes: started so that they cannot outlive the tests, watched and ended by pid."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from deadline import wait_until


class StartFailure(AssertionError):
    pass


def clean_environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that configures Weir, and what is given."""
    configuring = ("WEIR_", "DATABASE_", "REDIS_", "PG", "DB_", "CACHE_", "QUERY_", "INFERENCE_", "ENABLE_METRICS")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(configuring) or name == "WEIR_BINARY"
    }
    return {**kept, **(more or {})}


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return _state(pid) not in (None, "Z", "X")


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _state(pid: int) -> str | None:
    fields = _stat_fields(pid)
    return fields[0] if fields else None


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks; tells a process from a later one with the same pid."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far."""
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def exited_children_seconds(pid: int) -> float:
    """User and system time of those children of the process that have ended and been waited for."""
    fields = _stat_fields(pid)
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, not itself."""
    children: dict[int, list[int]] = {}
    for other in all_pids():
        fields = _stat_fields(other)
        if fields:
            children.setdefault(int(fields[1]), []).append(other)
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes_in(folder: Path) -> list[int]:
    """Living processes that work in the folder or name it in their command line."""
    found = []
    for pid in all_pids():
        if pid == os.getpid() or not is_running(pid):
            continue
        try:
            works_there = Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
        except OSError:
            works_there = False
        if works_there or any(str(folder) in argument for argument in command_line(pid)):
            found.append(pid)
    return found


def send_signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class ManagedProcess:
    """A child whose output goes to files and which the kernel ends when the tests end."""

    def __init__(
        self,
        arguments: list[str],
        log_folder: Path,
        name: str,
        environment: dict[str, str],
        directory: Path | None = None,
        death_signal: str = "KILL",
    ) -> None:
        """`death_signal` is what the kernel sends when the tests end without a word; something gentler than KILL where
        the
        process has children to stop."""
        self.name = name
        self.stdout_path = log_folder / f"{name}.out"
        self.stderr_path = log_folder / f"{name}.err"
        # The pid stays the same: setpriv replaces itself.
        guard = ["setpriv", "--pdeathsig", death_signal]
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self._process = subprocess.Popen(
                (guard if shutil.which("setpriv") else []) + arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=directory or log_folder,
            )
        self.pid = self._process.pid

    @property
    def return_code(self) -> int | None:
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code; fails with the end of the log where the process does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} ({self.pid}) did not end within {seconds:g} s\n{self.tail()}") from None

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait(10)

    def stop(self, seconds: float = 15.0, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Asks the process to end, and kills it where it does not; returns its exit code, `None` where it had to be
        killed.
        """
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def tail(self, count: int = 40) -> str:
        text = self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""
        return f"--- end of {self.stderr_path}\n" + "\n".join(text.splitlines()[-count:])

    def wait_ready(self, condition, what: str, seconds: float) -> None:
        """Waits for the condition; fails at once where the process ends first."""

        def ready_or_ended() -> bool:
            if not self.is_alive:
                return True
            return bool(condition())

        try:
            wait_until(ready_or_ended, what, seconds)
        except AssertionError as error:
            raise StartFailure(f"{error}\n{self.tail()}") from error
        if not self.is_alive:
            raise StartFailure(f"{self.name} ended with {self.return_code} before {what}\n{self.tail()}")


def end_all(pids: list[int], grace: float = 5.0) -> list[int]:
    """Ends what is left of a group of processes, gently and then for certain; returns the pids still there."""
    left = [pid for pid in pids if is_running(pid)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            send_signal(pid, signal.SIGCONT)
            send_signal(pid, number)
        end = time.monotonic() + grace
        while time.monotonic() < end and any(is_running(pid) for pid in left):
            time.sleep(0.02)
    return left
