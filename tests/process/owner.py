"""A run's owner as a process of its own: starts one contained command and does what its stdin says.

The first line of stdin is the command as JSON (fields of `Command`, and `tier`, `watch_pids`, `allow_uncontained`).
Answers, one JSON line each: what `start` gave or the error; then to `release`: {}, to `poll`, `wait [SECONDS]` and
`stop [SECONDS]`: the report or null, to `fork`: the PID of a fork that never execs, to `child`: that of a child
program. At the end of its stdin it ends, like any process, without stopping anything.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from profiler.errors import ProfilerError
from profiler.process.command import Command
from profiler.process.contained import ContainedProcess
from profiler.process.launch import start


def begin(order: dict) -> ContainedProcess:
    how = {name: order.pop(name) for name in ("tier", "watch_pids", "allow_uncontained") if name in order}
    order["argv"], order["cwd"] = tuple(order["argv"]), Path(order["cwd"])
    if isinstance(order.get("stdout"), str):
        order["stdout"] = Path(order["stdout"])
    return start(Command(**order), **how)


def obey(process: ContainedProcess, word: str, number: float | None) -> object:
    if word == "release":
        process.release()
        return {}
    if word == "fork":
        child = os.fork()
        if child == 0:
            for fd in (0, 1, 2):
                os.close(fd)
            time.sleep(60)
            os._exit(0)
        return child
    if word == "child":
        quiet = subprocess.DEVNULL
        return subprocess.Popen(["sleep", "60"], stdin=quiet, stdout=quiet, stderr=quiet, close_fds=False).pid
    report = {"poll": process.poll, "wait": lambda: process.wait(number), "stop": lambda: process.stop(number)}[word]()
    return None if report is None else asdict(report)


def main() -> None:
    try:
        process = begin(json.loads(sys.stdin.readline()))
    except ProfilerError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return
    names = ("pid", "guard_pid", "enclosure", "containment")
    print(json.dumps({name: getattr(process, name) for name in names}), flush=True)
    for line in iter(sys.stdin.readline, ""):
        word, _, number = line.strip().partition(" ")
        print(json.dumps(obey(process, word, float(number) if number else None)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
