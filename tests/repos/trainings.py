"""Runs trainers for tests: one as a process of its own, or many variants forked from one process (torch loads once)."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOS = Path(__file__).resolve().parents[2] / "repos"


@dataclass(frozen=True)
class Training:
    """What a training left behind: exit code (minus the signal's number when it died of one), events, log."""

    exit_code: int
    events: list[dict[str, Any]]
    log: str
    folder: Path

    def event(self, name: str) -> dict[str, Any]:
        """The only event of that name."""
        found = [event for event in self.events if event["event"] == name]
        assert len(found) == 1, f"{len(found)} events {name!r}\n{self.log}"
        return found[0]

    @property
    def effective(self) -> dict[str, Any]:
        """The hyperparameters that the trainer said it used."""
        return dict(self.event("config")["hyperparameters"])

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics."""
        return dict(self.event("done")["metrics"])

    def curve(self, metric: str) -> list[float]:
        """The values of one metric, epoch by epoch."""
        return [event["metrics"][metric] for event in self.events if event["event"] == "epoch"]


def check_effective(training: Training, wanted: Mapping[str, Any]) -> None:
    """The trainer used exactly these values, types included."""
    effective = training.effective
    assert effective == wanted
    assert [type(effective[name]) for name in wanted] == [type(value) for value in wanted.values()]


def undeclared_metrics(repo: str, model: str, training: Training) -> set[str]:
    """Metrics that the training reported and the manifest does not declare."""
    from profiler.workloads import load_catalog  # this file is also the program of the forked trainings

    reported = {name for event in training.events for name in event.get("metrics", {})}
    return reported - load_catalog().resolve(repo, model).metrics.keys()


def environment(folder: Path, threads: int = 1, **more: str) -> dict[str, str]:
    """The environment that a trainer gets: no inherited data root, no GPU."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROFILER_")}
    fixed = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    return {**kept, **fixed, "PROFILER_EVENTS": str(folder / "events.jsonl"), **more}


def start(repo: str, folder: Path, *arguments: str, threads: int = 1, **more: str) -> subprocess.Popen[bytes]:
    """Start repos/<repo>/train.py in `folder` with stdin closed; its output goes to training.log."""
    command = [sys.executable, str(REPOS / repo / "train.py"), *arguments]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder, threads, **more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def train(repo: str, folder: Path, *arguments: str, threads: int = 1, **more: str) -> Training:
    """Run one training to its end in a process of its own."""
    return collect(start(repo, folder, *arguments, threads=threads, **more).wait(timeout=240), folder)


def collect(exit_code: int, folder: Path) -> Training:
    """What the training in `folder` left behind."""
    path = folder / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return Training(exit_code, events, (folder / "training.log").read_text(), folder)


# The slowest imports of a trainer; torch's first optimiser would load the second part of torch.
PRELOADED = ("torch._dynamo",)


def train_many(
    repo: str, folder: Path, cases: Mapping[str, Sequence[str]], preloaded: Sequence[str] = PRELOADED, **more: str
) -> dict[str, Training]:
    """Run the trainings `cases` (name to arguments) one after the other, each forked from a process that has imported
    the modules `preloaded`."""
    for name in cases:
        (folder / name).mkdir(parents=True)
    text = json.dumps({name: list(arguments) for name, arguments in cases.items()})
    command = [sys.executable, __file__, str(REPOS / repo / "train.py"), text, *preloaded]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder, **more), stdin=subprocess.DEVNULL, capture_output=True, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()
    codes = json.loads(done.stdout)
    return {name: collect(codes[name], folder / name) for name in cases}


def outputs_of_processes(repo: str, code: str) -> list[str]:
    """What `code` prints in two processes whose sets have different orders, among the modules of a repository."""
    command = [sys.executable, "-c", code]
    path = f"{REPOS / repo}{os.pathsep}{REPOS}"
    outputs = []
    for seed in ("1", "2"):
        variables = {**environment(REPOS, PYTHONHASHSEED=seed, PYTHONPATH=path), "PROFILER_EVENTS": ""}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return outputs


def _fork_cases(script: Path, cases: Mapping[str, Sequence[str]], preloaded: Sequence[str]) -> dict[str, int]:
    sys.path[:0] = [str(script.parent), str(script.parents[1])]
    spec = importlib.util.spec_from_file_location("train", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in preloaded:
        importlib.import_module(name)
    codes = {}
    for name, arguments in cases.items():
        child = os.fork()
        if child == 0:
            _run_case(module, Path(name), list(arguments))
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return codes


def _run_case(module: Any, folder: Path, arguments: list[str]) -> None:
    """Become the trainer: working directory, output and events as a real start would have them; never returns."""
    code = 70
    try:
        os.chdir(folder)
        os.environ["PROFILER_EVENTS"] = str(Path.cwd() / "events.jsonl")
        log = os.open("training.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        chosen = module.parse_options(arguments)
        threads = module.threads.fix_threads()
        code = module.main(lambda run: module.run_model(chosen, threads, run))
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    print(json.dumps(_fork_cases(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])))
