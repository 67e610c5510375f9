"""nasty.py [SECONDS]: everything at once, for SECONDS (300): a trainer that does all it can to outlive its supervisor.

It ignores TERM, starts three daemons without environment (see daemons.py), two that move to a new PID every 30 ms, a
child in its own session that holds shared memory, and burns a little CPU meanwhile. Says "up" when all are there.
"""

import os
import sys
import time
from pathlib import Path
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal

from daemons import LIFETIME, MARK, become_daemon
from reforker import wander

DAEMONS, WANDERERS = 3, 2


def spawn(action: str, until: float) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    become_daemon()
    if action == "wander":
        wander(until)
        os._exit(0)
    os.execve("/bin/sleep", ["sleep", LIFETIME], {})


def main() -> None:
    until = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 300.0)
    for number in (SIGTERM, SIGINT, SIGHUP):
        signal(number, SIG_IGN)
    for _ in range(DAEMONS):
        spawn("sleep", until)
    for _ in range(WANDERERS):
        spawn("wander", until)
    if os.fork() == 0:
        os.setsid()
        Path(f"/dev/shm/nasty-{MARK}-{os.getpid()}").write_bytes(bytes(1000))
        time.sleep(300)
    print("up", flush=True)
    while time.monotonic() < until:
        time.sleep(0.01)
    os._exit(0)


if __name__ == "__main__":
    main()
