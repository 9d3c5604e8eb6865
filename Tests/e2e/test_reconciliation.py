"""The judge is judged first: each fault that the crash harness looks for is planted in a small set of records and must
be found.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from books import Entry, RequestRow
from reconciliation import Fault, reconcile
from record import Outcome, Verdict

ACKNOWLEDGED = "01930000-0000-7000-8000-000000000001"
REFUSED = "01930000-0000-7000-8000-000000000002"
LEFT_OVER = "01930000-0000-7000-8000-000000000003"


class Records:
    """One acknowledged request, one refused, one whose answer was lost after its commit: all in order."""

    def __init__(self) -> None:
        self.outcomes = [
            Outcome(Verdict.ACK, "c1", f"req_{ACKNOWLEDGED}", 200, None, 4, 1),
            Outcome(Verdict.REJECT, "c2", f"req_{REFUSED}", 502, "bad_upstream"),
            Outcome(Verdict.UNKNOWN, "c3"),
        ]
        self.calls = {ACKNOWLEDGED: 1, REFUSED: 1, LEFT_OVER: 1}
        self.entries = [entry(ACKNOWLEDGED), entry(LEFT_OVER)]
        self.rows = [row(ACKNOWLEDGED), row(LEFT_OVER), replace(row(REFUSED), status="failed")]

    def faults(self) -> set[Fault]:
        return reconcile(self.outcomes, self.calls, self.entries, self.rows).faults()


def entry(request_id: str) -> Entry:
    return Entry(request_id, None, "iris", 1, 4, 1, "worker")


def row(request_id: str) -> RequestRow:
    return RequestRow(request_id, "completed", 200, None, "iris")


def test_records_in_order_have_no_violation() -> None:
    records = Records()
    result = reconcile(records.outcomes, records.calls, records.entries, records.rows)
    assert result.violations == []
    assert (result.acknowledged, result.refused, result.unknown, result.entries, result.orphan_calls) == (1, 1, 1, 2, 1)


def lose_the_entry(records: Records) -> None:
    records.entries.pop(0)


def enter_twice(records: Records) -> None:
    records.entries.append(entry(ACKNOWLEDGED))


def count_two_requests(records: Records) -> None:
    records.entries[0] = replace(records.entries[0], requests=2)


def change_the_tokens(records: Records) -> None:
    records.entries[0] = replace(records.entries[0], output_tokens=2)


def bill_the_refused(records: Records) -> None:
    records.entries.append(entry(REFUSED))


def lose_the_request_row(records: Records) -> None:
    records.rows.pop(1)


def leave_the_request_open(records: Records) -> None:
    records.rows[1] = replace(records.rows[1], status="processing")


def invent_a_call(records: Records) -> None:
    del records.calls[LEFT_OVER]


def lose_fewer_answers(records: Records) -> None:
    records.outcomes.pop(2)


def work_for_nobody(records: Records) -> None:
    records.calls.update({"01930000-0000-7000-8000-000000000004": 1, "01930000-0000-7000-8000-000000000005": 1})


def answer_twice(records: Records) -> None:
    records.outcomes.append(replace(records.outcomes[0], client_id="c4"))


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lose_the_entry, Fault.LOST),
        (enter_twice, Fault.DOUBLE),
        (count_two_requests, Fault.DOUBLE),
        (change_the_tokens, Fault.DIFFERENT_TOKENS),
        (bill_the_refused, Fault.REFUSED_BUT_BILLED),
        (lose_the_request_row, Fault.NO_REQUEST_ROW),
        (leave_the_request_open, Fault.NOT_COMPLETED),
        (invent_a_call, Fault.NO_WORKER_CALL),
        (lose_fewer_answers, Fault.UNEXPLAINED),
        (work_for_nobody, Fault.UNBILLED_WORK),
        (answer_twice, Fault.ANSWERED_TWICE),
    ],
)
def test_a_planted_fault_is_found(plant: Callable[[Records], None], fault: Fault) -> None:
    records = Records()
    plant(records)
    assert fault in records.faults()
