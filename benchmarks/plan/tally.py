"""A plugin of pytest that counts outcomes in a JSON file while the tests run.

`-p benchmarks.plan.tally` with the file in ROBUSTJAX_TALLY.
"""

import os
import time
from collections import Counter
from typing import Any

import pytest

from benchmarks import results

VARIABLE = "ROBUSTJAX_TALLY"

_EVERY = 1.0
"""Seconds between two writings."""


class Tally:
    """Writes one row: how many tests passed, failed and were skipped, and which failed."""

    def __init__(self, path: str) -> None:
        self._path, self._written = path, 0.0
        self._outcomes: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        self._environment: dict[str, Any] | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test: once, or where its preparation failed or skipped it."""
        if report.when != "call" and report.outcome == "passed":
            return
        self._outcomes[report.outcome] += 1
        if report.failed:
            self._failures[report.nodeid] = str(report.longreprtext).strip()[-300:]
        if time.monotonic() - self._written > _EVERY:
            self._write()

    def pytest_sessionfinish(self) -> None:
        """Writes the last count."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._environment is None:
            self._environment = results.environment()
        results.write(
            self._path,
            self._environment,
            [{**self._outcomes, "failures": self._failures}],
        )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the tally in the process that all reports come to."""
    path = os.environ.get(VARIABLE)
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tally(path))
