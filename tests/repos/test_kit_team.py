"""Two processes of one training: the gradients of the whole batch, one voice, and nobody else can talk to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.train

REPOS = Path(__file__).parents[2] / "repos"

PROGRAM = f"""
import json, sys
sys.path.insert(0, {str(REPOS)!r})
import psutil, torch
from _kit.events import Events, rank
from _kit.team import joined

torch.manual_seed(3)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3, affine=False, momentum=None))
rows, wanted = torch.randn(7, 4), torch.randn(7, 3)
model[1].eval()
with joined(torch.device("cpu")) as team:
    mine, goal = team.share(rows, wanted)
    shared = team.wrapped(model)
    loss = (shared(mine) - goal).square().mean()
    (loss * team.weight(len(mine), len(rows))).backward()
    model[1].running_mean.fill_(float(team.rank + 1))
    team.agree(model)
    count = team.sums(torch.tensor([float(len(mine))])).item()
    heard = sorted({{c.laddr.ip for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"}})
    Events.from_environment().emit("config", size=team.size)
    Events.from_environment().emit("oom", where=str(rank()))
    found = dict(gradient=model[0].weight.grad.tolist(), own=len(mine), count=count, heard=heard,
                 mean=model[1].running_mean.tolist())
    open(f"found-{{rank()}}.json", "w").write(json.dumps(found))
"""


def outcome(folder: Path, processes: int) -> list[dict[str, object]]:
    """What each process found out."""
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    torchrun = [
        "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}", "--rdzv-backend=c10d",
        "--rdzv-conf=store_type=file", f"--rdzv-endpoint={folder / 'rendezvous'}",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PROFILER_EVENTS": str(folder / "events")}
    command = [sys.executable, *(torchrun if processes > 1 else []), str(program)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"found-{number}.json").read_text()) for number in range(processes)]


@pytest.mark.models  # three times torch; a pair of processes in a real campaign is in tests/cluster
def test_two_are_as_one(tmp_path: Path) -> None:
    (alone,) = outcome(tmp_path / "one", 1)
    first, second = outcome(tmp_path / "two", 2)
    assert (first["own"], second["own"], first["count"]) == (4, 3, 7)
    for together in (first, second):
        for row, expected in zip(together["gradient"], alone["gradient"], strict=True):  # type: ignore[call-overload]
            assert row == pytest.approx(expected, rel=1e-5)
        assert together["mean"] == [1.0, 1.0, 1.0]
        assert all(address.removeprefix("::ffff:") in ("127.0.0.1", "::1") for address in together["heard"])  # type: ignore[attr-defined]
    told = [json.loads(line) for line in (tmp_path / "two" / "events").read_text().splitlines()]
    assert [event["event"] for event in told if event["event"] == "config"] == ["config"]
    assert sorted(event["where"] for event in told if event["event"] == "oom") == ["0", "1"]
