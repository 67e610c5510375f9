"""``python -m profiler``: the same as the ``profiler`` command, and hears Ctrl-C from the first moment on."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line of this process; returns the exit code."""
    try:
        from profiler.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
