"""ignore.py [SECONDS]: ignores TERM, INT and HUP and sleeps (300 s). Says "up" when it does."""

import signal
import sys
import time


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("up", flush=True)
    until = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 300.0)
    while time.monotonic() < until:
        time.sleep(1)


if __name__ == "__main__":
    main()
