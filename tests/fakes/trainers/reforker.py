"""reforker.py [SECONDS]: a daemon that moves to a new PID every 30 ms, for SECONDS (300), while the trainer goes on.

Whoever looks for it by PID finds a dead one. The trainer itself sleeps as long.
"""

import os
import sys
import time

from daemons import become_daemon

PERIOD_S = 0.03


def wander(until: float) -> None:
    while time.monotonic() < until:
        time.sleep(PERIOD_S)
        if os.fork():
            os._exit(0)
        os.setsid()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    child = os.fork()
    if child == 0:
        become_daemon()
        wander(time.monotonic() + seconds)
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(seconds)


if __name__ == "__main__":
    main()
