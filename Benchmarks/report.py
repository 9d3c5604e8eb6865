"""The figures of all rounds as one table: medians with the least and the greatest."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from measurement import Run

# A round in which the control strays further than this from its own median measured the neighbours.
LARGEST_DEVIATION = 0.25
FEWEST_VALID_ROUNDS = 3


@dataclass(frozen=True)
class Round:
    """The proxy and the gateway one after the other, in either order."""

    nginx: Run
    gateway: Run


@dataclass(frozen=True)
class Series:
    """All rounds of one upstream at one number of connections."""

    upstream: str
    connections: int
    rounds: list[Round]

    def valid(self) -> list[Round]:
        """The rounds in which the control kept near its median; all of them where too few did."""
        middle = median(entry.nginx.requests_per_second for entry in self.rounds)
        kept = [
            entry
            for entry in self.rounds
            if abs(entry.nginx.requests_per_second - middle) <= LARGEST_DEVIATION * middle
        ]
        return kept if len(kept) >= FEWEST_VALID_ROUNDS else self.rounds

    def figure(self, read: Callable[[Round], float], digits: int = 0) -> str:
        values = [read(entry) for entry in self.valid()]
        return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}-{max(values):,.{digits}f}]"

    def row(self) -> list[str]:
        def cpu(name: str) -> Callable[[Round], float]:
            return lambda entry: entry.gateway.cpu_microseconds[name]

        return [
            self.upstream,
            str(self.connections),
            f"{len(self.valid())}/{len(self.rounds)}",
            self.figure(lambda entry: entry.nginx.requests_per_second),
            self.figure(lambda entry: entry.gateway.requests_per_second),
            self.figure(lambda entry: entry.gateway.requests_per_second / entry.nginx.requests_per_second, 2),
            self.figure(lambda entry: entry.nginx.cpu_microseconds["nginx"], 1),
            self.figure(cpu("gateway"), 1),
            self.figure(
                lambda entry: entry.gateway.cpu_microseconds["gateway"] / entry.nginx.cpu_microseconds["nginx"], 2
            ),
            self.figure(cpu("postgres"), 1),
            self.figure(
                lambda entry: (
                    (entry.gateway.cpu_microseconds["gateway"] + entry.gateway.cpu_microseconds["postgres"])
                    / entry.nginx.cpu_microseconds["nginx"]
                ),
                2,
            ),
            self.figure(lambda entry: entry.nginx.p50_microseconds / 1000, 2),
            self.figure(lambda entry: entry.gateway.p50_microseconds / 1000, 2),
            self.figure(lambda entry: entry.gateway.p99_microseconds / 1000, 2),
        ]


COLUMNS = [
    "upstream",
    "conns",
    "valid",
    "nginx req/s",
    "gateway req/s",
    "req/s ratio",
    "nginx CPU us",
    "gateway CPU us",
    "**CPU ratio**",
    "postgres CPU us",
    "CPU ratio with postgres",
    "nginx p50 ms",
    "gateway p50 ms",
    "gateway p99 ms",
]


def table(series: list[Series]) -> str:
    """Markdown, padded so that it reads as plain text too."""
    rows = [COLUMNS, *(entry.row() for entry in series)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
