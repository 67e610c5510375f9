"""Tests that failed beside others, once more and alone: `python -m tests.alone` after a run of pytest.

Many tests measure in real seconds, and those beside them take the CPU from them. What is wrong fails alone too. More
than a few failures are not looked at again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

MOST: Final = 3
LAST_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    """The exit code: 0 where every test that failed passes now."""
    try:
        failed = sorted(json.loads(LAST_FAILED.read_text()))
    except (OSError, ValueError):
        failed = []
    if not 0 < len(failed) <= MOST:
        return 1
    print(f"\nFailed beside others ({len(failed)}); now alone:", *failed, sep="\n  ", flush=True)
    code = subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode
    how = "passed alone: they lack the CPU where others run, or are wrong now and then" if code == 0 else "failed alone"
    print(f"\n{len(failed)} of the tests above failed beside others and {how}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
