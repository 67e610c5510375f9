"""The keeper: holds one run's processes so that the kernel ends them with it. A program that launch.py starts.

    owner ──lease pipe──► waiting half ─► guard (PID 1 of a new PID + mount namespace) ─► trainer ─► anything
          ◄─report pipe──────────────────────┘

It runs as ``python -I -S keeper.py LABEL=VALUE...`` with the spec (marshal) on descriptor 0 and the report pipe as
descriptor 2, so that even a traceback reaches the owner. The waiting half makes the namespace, forks and waits. The
guard prepares the namespace, says "ready", waits for ``g`` on the lease, starts the trainer and then watches: the
lease (end of file: the owner is gone, end everything; ``s SECONDS``: TERM, grace, KILL), the pidfds it was given, its
children, the time-out. After the trainer nothing in the namespace survives, and only then the report is written.

It does not measure, judge, retry or know what a trainer is. The code is in keeperlib/, so that its compiled form is
cached: compiling it anew in each run would cost more than all that it does.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # last: it must hide nothing of the standard library
    from keeperlib.program import main  # type: ignore[import-not-found]

    main()
    os._exit(0)
