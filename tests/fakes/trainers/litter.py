"""litter.py NAME [hold]: leaves shared memory segments in /dev/shm and files in TMPDIR, all called NAME-*.

With `hold` it then sleeps, to be killed with the litter in place. Says "up" when it is there.
"""

import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    name = sys.argv[1]
    for index in range(5):
        Path(f"/dev/shm/{name}-{index}").write_bytes(bytes(100_000))
        Path(tempfile.gettempdir(), f"{name}-{index}").write_bytes(bytes(1000))
    print("up", len(list(Path("/dev/shm").glob(f"{name}-*"))), flush=True)
    if "hold" in sys.argv:
        time.sleep(300)
    os._exit(0)


if __name__ == "__main__":
    main()
