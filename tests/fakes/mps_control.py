"""A stand-in for `nvidia-cuda-mps-control`: the same ways to be called, one server process, nothing to do with CUDA.

`-f` runs the daemon: it starts a server and serves its FIFO in CUDA_MPS_PIPE_DIRECTORY until `quit`. Without options it
passes the lines of stdin to the daemon and prints its answers. FAKE_MPS=broken: the daemon ends at once; no_server: no
client ever came to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])


def daemon() -> int:
    if os.environ.get("FAKE_MPS") == "broken":
        print("no device for MPS", flush=True)
        return 1
    server = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)", "fake-mps-server"])
    (FOLDER / "server").write_text(f"{server.pid}\n")
    (FOLDER / "daemon").write_text(f"{os.getpid()}\n")
    (FOLDER / "seen").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while not (FOLDER / "quit").exists():
        time.sleep(0.05)
    server.kill()
    server.wait()
    return 0


def ask() -> int:
    if not (FOLDER / "daemon").exists():
        print("Cannot find MPS control daemon process", file=sys.stderr)
        return 1
    for line in sys.stdin:
        if line.strip() == "get_server_list" and os.environ.get("FAKE_MPS") != "no_server":
            print((FOLDER / "server").read_text(), end="")
        elif line.strip() == "quit":
            (FOLDER / "quit").touch()
    return 0


if __name__ == "__main__":
    sys.exit(daemon() if "-f" in sys.argv else ask())
