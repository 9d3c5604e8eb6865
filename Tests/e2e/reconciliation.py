"""Three independent records of the same traffic, compared: the client's, the worker's, the database's."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from books import Entry, RequestRow, bare
from record import Outcome, Verdict


class Fault(StrEnum):
    LOST = "answered with 200 and has no ledger entry"
    DOUBLE = "has more than one ledger entry"
    DIFFERENT_TOKENS = "answered with other tokens than the ledger holds"
    REFUSED_BUT_BILLED = "answered with an error and has a ledger entry"
    NO_REQUEST_ROW = "has a ledger entry and no request row"
    NOT_COMPLETED = "has a ledger entry and a request row that is not completed"
    NO_WORKER_CALL = "has a ledger entry and never reached the worker"
    UNEXPLAINED = "ledger entries that neither an answer nor a lost answer explains"
    UNBILLED_WORK = "worker calls that no bill, no refusal and no lost answer explains"
    ANSWERED_TWICE = "one request id in two answers"


@dataclass(frozen=True)
class Violation:
    fault: Fault
    subject: str


@dataclass(frozen=True)
class Reconciliation:
    violations: list[Violation]
    acknowledged: int
    refused: int
    unknown: int
    entries: int
    # Work done by the worker that nobody paid for: lost in a crash, or failed.
    orphan_calls: int

    def faults(self) -> set[Fault]:
        return {violation.fault for violation in self.violations}

    def __str__(self) -> str:
        counts = Counter(violation.fault for violation in self.violations)
        found = "; ".join(f"{count} x {fault.value}" for fault, count in counts.items()) or "no violation"
        first = ", ".join(f"{violation.fault.name} {violation.subject}" for violation in self.violations[:5])
        return (
            f"{self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} unknown, "
            f"{self.entries} entries, "
            f"{self.orphan_calls} worker calls unbilled: {found}" + (f" (first: {first})" if first else "")
        )


def reconcile(
    outcomes: Iterable[Outcome], worker_calls: Mapping[str, int], entries: Iterable[Entry], rows: Iterable[RequestRow]
) -> Reconciliation:
    """Compares the records of one tenant's traffic after everything has come to rest.

    Every request that was answered with 200 has exactly one entry with equal tokens; none that was refused has one;
    no entry lacks its completed request row or its worker call; and the entries left over are no more than the
    requests whose answer was lost, each of which may have one or none.
    """
    outcomes, entries, rows = list(outcomes), list(entries), list(rows)
    violations: list[Violation] = []
    by_request: dict[str, list[Entry]] = {}
    for entry in entries:
        by_request.setdefault(bare(entry.request_id), []).append(entry)
    row_of = {bare(row.request_id): row for row in rows}

    def add(fault: Fault, subject: str) -> None:
        violations.append(Violation(fault, subject))

    answered = Counter(
        bare(outcome.request_id) for outcome in outcomes if outcome.verdict != Verdict.UNKNOWN and outcome.request_id
    )
    for request_id, count in answered.items():
        if count > 1:
            add(Fault.ANSWERED_TWICE, request_id)

    acknowledged = {bare(o.request_id): o for o in outcomes if o.verdict == Verdict.ACK and o.request_id}
    for request_id, outcome in acknowledged.items():
        own = by_request.get(request_id, [])
        if not own:
            add(Fault.LOST, request_id)
        elif (own[0].input_tokens, own[0].output_tokens) != (outcome.input_tokens, outcome.output_tokens):
            add(Fault.DIFFERENT_TOKENS, request_id)

    refused = {bare(o.request_id) for o in outcomes if o.verdict == Verdict.REJECT and o.request_id}
    for request_id in refused & by_request.keys():
        add(Fault.REFUSED_BUT_BILLED, request_id)

    for request_id, own in by_request.items():
        if len(own) > 1 or own[0].requests != 1:
            add(Fault.DOUBLE, request_id)
        row = row_of.get(request_id)
        if row is None:
            add(Fault.NO_REQUEST_ROW, request_id)
        elif row.status != "completed":
            add(Fault.NOT_COMPLETED, request_id)
        if worker_calls.get(request_id, 0) == 0:
            add(Fault.NO_WORKER_CALL, request_id)

    unknown = sum(1 for outcome in outcomes if outcome.verdict == Verdict.UNKNOWN)
    left_over = by_request.keys() - acknowledged.keys() - refused
    if len(left_over) > unknown:
        add(Fault.UNEXPLAINED, f"{len(left_over)} entries, {unknown} lost answers")

    orphans = [request_id for request_id in worker_calls if request_id not in by_request]
    if len(orphans) > unknown + len(refused):
        add(Fault.UNBILLED_WORK, f"{len(orphans)} calls, {unknown} lost answers, {len(refused)} refusals")

    return Reconciliation(
        violations=violations,
        acknowledged=len(acknowledged),
        refused=len(refused),
        unknown=unknown,
        entries=len(entries),
        orphan_calls=len(orphans),
    )
