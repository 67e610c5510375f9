"""Energy by shape of load on a real GPU, this project and its peers in the same run: counter against integral.

    python -m tests.hardware.shapes OUT.json [--seconds 12] [--peers zeus,codecarbon] [--shapes steady,idle]

Every tool measures the same load at the same time, through the drivers of tests/conformance, each in an environment of
its own (made on first use, which needs a network). What a tool took into its window beside the load, some tenths of a
second of an idle GPU, differs a little from tool to tool, so that each window's length stands beside its energy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from profiler.energy.nvml import Nvml, open_nvml
from tests.conformance import stage
from tests.conformance.environments import PINS, ROOT, peers, prepare
from tests.conformance.tools import Tool, of_peer, own

LOAD = Path(__file__).with_name("load.py")
SHAPES = {
    "steady": ("steady",), "light": ("light",), "idle": ("idle",), "burst2": ("burst2",), "burst5": ("burst5",),
    "burst10": ("burst10",), "ramp": ("ramp",), "two": ("steady", "light"),
}  # fmt: skip
LEAD_S = 1.5  # from the word to begin until the load does: a tool takes some tenths of a second to begin
READY_S, ANSWER_S = 90.0, 30.0


def chosen_tools(wanted: str) -> list[Tool]:
    """This project's window, and the newest version of each peer that is wanted."""
    newest = {peer.name: peer for peer in peers(PINS.read_text())}
    tools = [own()[0]]
    for name in filter(None, wanted.split(",")):
        error = prepare(newest[name])
        if error is not None:
            raise SystemExit(f"{name}: {error}")
        tools += [tool for tool in of_peer(newest[name]) if "gpu" in tool.devices]
    return tools


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args}: no {path.name}; see its last words above")
        time.sleep(0.01)


def start(stack: ExitStack, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def measured(shape: str, seconds: float, tools: list[Tool]) -> dict[str, Any]:
    """What each tool says of one load of `shape`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loads = [start(stack, [sys.executable, str(LOAD), part, str(seconds)], {}) for part in SHAPES[shape]]
        running = []
        for number, tool in enumerate(tools):
            place = folder / str(number)
            place.mkdir()
            command = [str(tool.python), "-m", f"tests.conformance.drivers.{tool.driver}", str(place), "gpu"]
            together = {"CONFORMANCE_TOGETHER": "1", "HOME": str(place)}
            running.append((tool, place, start(stack, [*command, str(seconds)], together)))
        for load in loads:
            assert load.stdout is not None
            if load.stdout.readline() != "ready\n":
                raise SystemExit(f"the load {shape} did not start (is torch with CUDA installed?)")
        for _, place, process in running:
            wait_for(place / "ready", process, READY_S)
        begin(loads, [place for _, place, _ in running])
        for _, place, process in running:
            wait_for(place / "answer.json", process, LEAD_S + seconds + ANSWER_S)
        answers = [told(tool, json.loads((place / "answer.json").read_text())) for tool, place, _ in running]
        return {"shape": shape, "products": [load.communicate()[0].strip() for load in loads], "tools": answers}


def begin(loads: list[subprocess.Popen[str]], places: list[Path]) -> None:
    """The tools at once, the load LEAD_S later."""
    start_ns = time.monotonic_ns() + round(LEAD_S * 1e9)
    for place in places:
        stage.place(place / "go", start_ns)
    time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9))
    for load in loads:
        assert load.stdin is not None
        print(file=load.stdin, flush=True)


def told(tool: Tool, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer in one line: energy, the window from the middle of its beginning to the middle of its end, and more
    where it is this project."""
    began, open_, end, closed = answer["window_ns"]
    window_s = (end + closed - began - open_) / 2e9
    energy_j = answer["energy_j"]
    line = {"tool": tool.name, "version": tool.version, "energy_j": energy_j, "window_s": window_s,
            "mean_w": None if energy_j is None else energy_j / window_s, "reason": answer["reason"]}  # fmt: skip
    if tool.ours:
        integral_j = answer["raw"]["gpu_energy_integral_j"]
        known = energy_j is not None and integral_j is not None
        line |= {
            "integral_j": integral_j,
            "integral_against_counter_percent": 100 * (integral_j / energy_j - 1) if known else None,
            "uncertainty_j": answer["raw"]["uncertainty_j"],
        }
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each load (12)")
    parser.add_argument("--peers", default="zeus,codecarbon", help="names; empty: this project alone")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="some of: %(default)s")
    options = parser.parse_args()
    nvml = open_nvml()
    if not isinstance(nvml, Nvml):
        raise SystemExit(f"no GPU to load: {nvml}")
    found: dict[str, Any] = {"device": nvml.devices[0].uuid, "name": nvml.devices[0].name}
    found |= {"driver": nvml.driver_version, "seconds": options.seconds, "shapes": []}
    nvml.close()
    tools = chosen_tools(options.peers)
    for shape in options.shapes.split(","):
        found["shapes"].append(measured(shape, options.seconds, tools))
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        for line in found["shapes"][-1]["tools"]:
            figures = " ".join(
                f"{line[name]:10.2f}" for name in ("energy_j", "window_s", "mean_w") if line[name] is not None
            )
            print(
                f"{shape:<8}{line['tool']:<20}{figures} {line.get('integral_against_counter_percent', '')}", flush=True
            )


if __name__ == "__main__":
    main()
