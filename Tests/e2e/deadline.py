"""Waiting for conditions, never for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], what: str, seconds: float = 15.0, every: float = 0.02) -> Result:
    """Calls `condition` until it returns something true, and returns that.

    An exception inside `condition` counts as "not yet"; the last one is the cause of the failure at the deadline.
    """
    end = time.monotonic() + seconds
    last_error: Exception | None = None
    last_value: object = None
    while True:
        try:
            last_value = value = condition()
            last_error = None
            if value:
                return value
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the deadline decides
            last_error = error
        if time.monotonic() >= end:
            message = (
                f"not within {seconds:g} s: {what} (last: {last_error!r})"
                if last_error
                else (f"not within {seconds:g} s: {what} (last value: {last_value!r})")
            )
            raise AssertionError(message) from last_error
        time.sleep(every)
