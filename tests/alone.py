"""Tests that failed beside others, once more and alone: `python -m tests.alone CODE`, the exit code of that pytest.

Many tests measure in real seconds, and those beside them take the CPU from them. What is wrong fails alone too. More
than a few failures are not looked at again, nor any run that ended otherwise than with failed tests: who was not
collected, or was still to come when it was ended, has not passed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

MOST: Final = 3
LAST_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")


class Passed:
    """The tests that passed; one that was skipped did not."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.add(report.nodeid)


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 where every test that failed passes now."""
    code = int(argv[0])
    if code != pytest.ExitCode.TESTS_FAILED:
        return code
    try:
        failed = sorted(json.loads(LAST_FAILED.read_text()))
    except (OSError, ValueError):
        failed = []
    if not 0 < len(failed) <= MOST or not all("::" in name for name in failed):
        return code
    print(f"\nFailed beside others ({len(failed)}); now alone:", *failed, sep="\n  ", flush=True)
    passed = Passed()
    code = int(pytest.main([*failed], plugins=[passed]))  # it adds its options to the list
    if code == 0 and not passed.names.issuperset(failed):
        code = int(pytest.ExitCode.TESTS_FAILED)
    how = "passed alone: they lack the CPU where others run, or are wrong now and then" if code == 0 else "failed alone"
    print(f"\n{len(failed)} of the tests above failed beside others and {how}.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
