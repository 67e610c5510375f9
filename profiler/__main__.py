"""``python -m profiler``: the same as the ``profiler`` command."""

from __future__ import annotations

import sys

from profiler.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
