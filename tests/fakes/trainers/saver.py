"""saver.py FILE SECONDS [helper]: on TERM it needs SECONDS to write "saved" to FILE, then exits 0. Says "up" first.

With `helper` it has a worker process that it needs for saving: without the worker's answer it writes "worker lost".
"""

import os
import signal
import sys
import time
from multiprocessing.connection import Connection, Pipe
from pathlib import Path


def worker(connection: Connection) -> None:
    while True:
        connection.send(connection.recv())


def main() -> None:
    target, seconds = Path(sys.argv[1]), float(sys.argv[2])
    mine, theirs = Pipe()
    if "helper" in sys.argv and os.fork() == 0:
        mine.close()
        worker(theirs)

    def save(number: int, frame: object) -> None:
        time.sleep(seconds)
        text = "saved"
        if "helper" in sys.argv:
            theirs.close()
            try:
                mine.send("weights")
                mine.recv()
            except (EOFError, OSError):
                text = "worker lost"
        target.write_text(text)
        os._exit(0)

    signal.signal(signal.SIGTERM, save)
    print("up", flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
