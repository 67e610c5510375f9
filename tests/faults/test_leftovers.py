"""A keeper whose two halves were stopped outlives its owner: `status` calls it left over, `reap` ends it and no other.

All of it happens in a PID namespace, so that neither sees anything else of this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

INSIDE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
SCRIPT = """
import json, os, signal, subprocess, sys, time
from profiler.process.find import find_keepers, pids_of

OWNER = '''
import sys, time
from pathlib import Path
from profiler.process.contained import Command, start
labels = {"session": "s", "run": sys.argv[1], "attempt": "1", "role": "foreground"}
process = start(Command(("sleep", "300"), {"PATH": "/usr/bin:/bin"}, Path("/"), labels=labels))
process.release()
print("up", flush=True)
time.sleep(300)
'''
owners = [subprocess.Popen([sys.executable, "-c", OWNER, run], stdout=subprocess.PIPE) for run in ("lost", "live")]
for owner in owners:
    owner.stdout.readline()
lost = next(keeper for keeper in find_keepers() if keeper.labels["run"] == "lost")
for pid in (lost.pid, lost.guard_pid):
    os.kill(pid, signal.SIGSTOP)
owners[0].kill()
owners[0].wait()
time.sleep(0.2)

def tell(*words):
    out = subprocess.run([sys.executable, "-m", "profiler", *words, "--json"], capture_output=True, text=True)
    print(json.dumps({"code": out.returncode, **json.loads(out.stdout)}), flush=True)

tell("status")
tell("reap")
tell("status")
os._exit(0)
"""


@pytest.mark.fault
def test_reap_ends_what_has_lost_its_owner() -> None:
    if subprocess.run([*INSIDE, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    done = subprocess.run([*INSIDE, sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, reaped, after = map(json.loads, done.stdout.splitlines())
    assert {entry["run"]: entry["leftover"] for entry in before["processes"]} == {"lost": True, "live": False}
    assert [entry["run"] for entry in reaped["ended"]] == ["lost"]
    assert (reaped["code"], reaped["remaining_pids"]) == (0, [])
    assert {entry["run"]: entry["leftover"] for entry in after["processes"]} == {"live": False}
