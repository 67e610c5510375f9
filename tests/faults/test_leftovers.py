"""A keeper whose two halves were stopped outlives its owner: `status` calls it left over, `reap` ends it and no other.

All of it happens in a PID namespace, so that neither sees anything else of this machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.process.harness import REPO

INSIDE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
SCRIPT = """
import json, os, signal, socket, subprocess, sys, time
from profiler.process.find import find_keepers, pids_of

OWNER = '''
import sys, time
from pathlib import Path
from profiler.process.command import Command
from profiler.process.launch import start
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

where = []
if sys.argv[1] == "cluster":
    with socket.create_server(("127.0.0.1", 0)) as probe:
        where = ["--address", f"127.0.0.1:{probe.getsockname()[1]}"]
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--num-cpus=2"]
    places = ["--node-ip-address=127.0.0.1", "--port=" + where[1].split(":")[1], "--temp-dir=" + sys.argv[2]]
    options = ["--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run([*ray, *places, *options], check=True, stdout=subprocess.DEVNULL)

def tell(*words):
    command = [sys.executable, "-m", "profiler", *words, *where, "--json"]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.stdout, out.stderr
    document = json.loads(out.stdout)
    nodes = document.get("nodes", [document])
    assert len(nodes) == 1, nodes
    print(json.dumps({"code": out.returncode, **nodes[0]}), flush=True)

tell("status")
tell("reap")
tell("status")
os._exit(0)
"""


@pytest.mark.fault
@pytest.mark.parametrize("where", ["here", pytest.param("cluster", marks=pytest.mark.cluster)])
def test_reap_ends_what_has_lost_its_owner(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # on loopback; a user's token is none of its business
    if subprocess.run([*INSIDE, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray's sockets have no room for a long path
    command = [*INSIDE, sys.executable, "-c", SCRIPT, where, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPO)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    before, reaped, after = map(json.loads, done.stdout.splitlines())
    assert {entry["run"]: entry["leftover"] for entry in before["processes"]} == {"lost": True, "live": False}
    assert [entry["run"] for entry in reaped["ended"]] == ["lost"]
    assert (reaped["code"], reaped["remaining_pids"]) == (0, [])
    assert {entry["run"]: entry["leftover"] for entry in after["processes"]} == {"live": False}
