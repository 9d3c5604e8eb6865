"""One run of wrk against one target, and the processor time that everybody spent in it."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parent / "predict.lua"


@dataclass(frozen=True)
class Target:
    """What is asked, and whose time counts: a name for each group of processes and how to read its seconds."""

    url: str
    model: str
    meters: dict[str, Callable[[], float]]


@dataclass(frozen=True)
class Run:
    requests: int
    requests_per_second: float
    p50_microseconds: int
    p99_microseconds: int
    # Answers that were not 2xx, and requests that had none.
    failed: int
    broken: int
    # Processor time per request, by group of processes.
    cpu_microseconds: dict[str, float]


def measure(target: Target, key: str, connections: int, seconds: float, threads: int = 2) -> Run:
    before = {name: read() for name, read in target.meters.items()}
    environment = {
        **os.environ,
        "BENCH_KEY": key,
        "BENCH_BODY": json.dumps({"model": target.model, "features": [5.1, 3.5, 1.4, 0.2]}),
    }
    done = subprocess.run(
        [
            "wrk",
            f"-t{min(threads, connections)}",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--timeout",
            "10s",
            "-s",
            str(SCRIPT),
            target.url,
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    after = {name: read() for name, read in target.meters.items()}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    requests = result["requests"]
    if requests == 0:
        raise RuntimeError(f"no request was answered by {target.url}: {done.stdout}")
    return Run(
        requests=requests,
        requests_per_second=requests / (result["microseconds"] / 1e6),
        p50_microseconds=result["p50"],
        p99_microseconds=result["p99"],
        failed=result["failed"],
        broken=result["broken"],
        cpu_microseconds={name: (after[name] - before[name]) * 1e6 / requests for name in target.meters},
    )
