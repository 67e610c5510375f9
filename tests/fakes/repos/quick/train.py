"""A trainer of known behaviour; see workload.yaml beside it. Standard library only, so that it starts at once."""

import os
import sys

if __name__ == "__main__":  # before anything else: whoever counts executions misses none that was killed while it began
    os.write(1, f"executed {os.environ.get('PROFILER_RUN_ID')} {sys.argv[1:]}\n".encode())

import argparse
import json
import signal
import time
from pathlib import Path


class OutOfMemoryError(RuntimeError):
    """Named as torch's is, and printed as torch's is by a program that does not catch it."""

    __module__ = "torch"


def tell(**event):
    path = os.environ.get("PROFILER_EVENTS")
    if path:
        with Path(path).open("a") as stream:
            stream.write(json.dumps({**event, "t_ns": time.monotonic_ns()}) + "\n")


def daemon(marker):
    """A process in a session of its own that ignores TERM and outlives everybody who lets it."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(300)", marker])


def unleash(marker):
    """Ignore TERM, and start daemons without environment and others that move to a new PID every 30 ms."""
    os.environ["TEST_MARK"] = marker
    sys.path.append(str(Path(__file__).parents[2] / "trainers"))
    from nasty import DAEMONS, WANDERERS, spawn

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for action in ["sleep"] * DAEMONS + ["wander"] * WANDERERS:
        spawn(action, time.monotonic() + 300)


def exhaust_memory():
    """Allocate until the kernel's out-of-memory killer comes, inside a small control group of our own (root only).

    Ends by itself with 9 where no such group can be made, or where its limit does not hold."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        if (Path(root) / "cgroup.procs").exists():
            group = Path(root) / f"quick-{time.monotonic_ns()}"
            group.mkdir()
            (group / limit).write_text(str(64 << 20))
            (group / "cgroup.procs").write_text("0")
            hoard = [os.urandom(1 << 20) for _ in range(256)]
            sys.exit(9 if hoard else 0)
    sys.exit(9)


def work(seconds):
    """Keep one CPU busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epoch-seconds", type=float)
    parser.add_argument("--behaviour")
    parser.add_argument("--marker")
    given = vars(parser.parse_args())
    print("nice", os.nice(0), flush=True)
    mps = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
    print("places", Path.cwd(), os.environ.get("TMPDIR"), os.environ.get("PROFILER_EVENTS"), flush=True)
    print("mps", *(os.environ.get(name) for name in mps), flush=True)
    behaviour = given["behaviour"]
    if behaviour == "ignore_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "nasty":
        unleash(given["marker"])
    if behaviour == "daemon":
        daemon(given["marker"])
    if behaviour == "fail_once" and not Path(given["marker"]).exists():
        Path(given["marker"]).touch()
        sys.exit(7)
    if behaviour == "oom_at_start":
        time.sleep(1.0)
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if behaviour == "slow_start":
        time.sleep(1.0)
    if behaviour == "never_ready":
        time.sleep(300)
    if behaviour == "wrong_rate":
        given = {**given, "learning_rate": given["learning_rate"] * 2}
    train(given, behaviour)
    while os.environ.get("PROFILER_BACKGROUND_REPEAT") == "1":
        train(given, behaviour)


def train(given, behaviour):
    if behaviour == "no_data":
        tell(event="error", kind="data_missing", message="no such folder: digits")
        sys.exit(1)
    if behaviour != "silent":
        tell(event="config", hyperparameters=given)
    metrics = {} if behaviour == "no_metric" else {"accuracy": 1.5 if behaviour == "out_of_range" else 0.75}
    for epoch in range(1, given["epochs"] + 1):
        spend = work if behaviour in ("work", "slow_start") else time.sleep
        if behaviour != "slow_until_marked" or not Path(given["marker"]).exists():
            spend(given["epoch_seconds"])
        if epoch == 1:
            tell(event="ready")
        tell(event="epoch", epoch=epoch, metrics=metrics)
        print(f"epoch {epoch} of {given['epochs']}", flush=True)
    if behaviour == "oom":
        tell(event="oom", kind="cuda", message="CUDA out of memory")
        sys.exit(1)
    if behaviour == "oom_in_its_log":
        raise OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 9.00 GiB"
        )
    if behaviour == "host_oom":
        exhaust_memory()
    if behaviour == "exit_3":
        sys.exit(3)
    if behaviour == "kill_self" or (behaviour == "killed_once" and not Path(given["marker"]).exists()):
        Path(given["marker"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour != "no_done":
        tell(event="done", metrics=metrics, epochs=given["epochs"])


if __name__ == "__main__":
    main()
