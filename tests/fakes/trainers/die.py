"""die.py HOW: ends in one of the ways that a supervisor has to tell apart.

HOW is an exit code, or: abort (SIGABRT by libc), segv (a real bad access), kill (SIGKILL to itself), term, memory
(allocates past a limit of its own and is refused: exit 1 with a MemoryError).
"""

import ctypes
import os
import resource
import signal
import sys


def main() -> None:
    how = sys.argv[1]
    if how == "abort":
        os.abort()
    elif how == "segv":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
        bytearray(1 << 30)
    else:
        sys.exit(int(how))


if __name__ == "__main__":
    main()
