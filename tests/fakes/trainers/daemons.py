"""daemons.py COUNT [EXIT_CODE]: leaves COUNT daemons that are hard to find and hard to end, then exits.

Each daemon has its own session, was forked twice, has an empty environment, stands in /, holds no descriptor, and
ignores TERM, INT and HUP.
"""

import os
import signal
import sys
import time

MARK = os.environ.get("TEST_MARK", "0")  # digits by which a test finds survivors again
LIFETIME = f"300.{MARK}"


def become_daemon() -> None:
    """In the fork: forks again, so that nobody is its parent; returns in the daemon."""
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    os.environ.clear()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, 256)


def main() -> int:
    count = int(sys.argv[1])
    for _ in range(count):
        child = os.fork()
        if child == 0:
            become_daemon()
            # a new program with nothing in it that names the run; its environment is empty
            os.execve("/bin/sleep", ["sleep", LIFETIME], {})
        os.waitpid(child, 0)
    time.sleep(0.02)
    return int(sys.argv[2]) if len(sys.argv) > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
