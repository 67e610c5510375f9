"""The program as a user meets it: real processes, exit codes, what is on stdout and what on stderr."""

from __future__ import annotations

import csv
import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profiler.cli.summary import closing_summary
from profiler.driver_lock import driver_lock
from profiler.store.layout import SessionFolder
from tests.cli.program import profiler, profiler_as
from tests.cli.sessions import CONTAMINATED, FAILED, make_session

pytestmark = pytest.mark.slow

HEAVY = ("ray", "pandas", "pyarrow", "torch", "rich", "pydantic")
NOBODY = 65534
NOT_RUN = [{"verdict": None}]
ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_open_code = pytest.mark.skipif(
    not all(folder.stat().st_mode & stat.S_IXOTH for folder in [ROOT, *ROOT.parents]),
    reason="the code lies where other users may not look",
)


def test_ctrl_c_while_the_program_is_still_loaded_is_told_in_words() -> None:
    text = (
        "import os, runpy, signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'profiler.cli.parser':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "sys.argv = ['profiler', 'list']\n"
        "runpy.run_module('profiler', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("line", [["--help"], [], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(line: list[str]) -> None:
    text = (
        "import sys\nfrom profiler.cli.main import main\n"
        f"try:\n    code = main({line!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr == "[] 0\n"
    assert ended.stdout


def test_the_installed_command_is_this_program() -> None:
    command = Path(sys.executable).with_name("profiler")
    if not command.exists():
        pytest.skip("the project is not installed in this environment")
    ended = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout == profiler("--version").out


def test_a_bare_line_shows_the_help_with_examples() -> None:
    ended = profiler()
    assert (ended.code, ended.err) == (0, "")
    assert "profiler run configs/quickstart.yaml" in ended.out
    assert "exit codes" in ended.out


def test_a_wrong_line_ends_with_2_and_says_why() -> None:
    ended = profiler("rnu")
    assert (ended.code, ended.out) == (2, "")
    assert "did you mean 'run'" in ended.err
    ended = profiler("run", "-n", "0", "--json")
    assert ended.code == 2
    assert "-n/--runs" in ended.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["run"], ["config file", "-r REPO -m MODEL -mt PARAMS"]),
        (["run", "-r", "examples", "-m", "mnist_cnn"], ["-mt/--mutate missing", "all"]),
        (["run", "-m", "mnist_cnn", "-mt", "all"], ["-r/--repo missing"]),
        (["run", "c.yaml", "-r", "examples"], ["exclude each other"]),
        (["run", "c.yaml", "-ec", "c.yaml"], ["once"]),
        (["run", "c.yaml", "-s", "7"], ["--set seed=7"]),
        (["run", "-ec", "c.yaml", "-n", "3"], ["--set runs_per_config=3", "--set experiments.0.runs_per_config=3"]),
        (["run", "c.yaml", "-mr", "0"], ["--set max_retries=0", "--set experiments.0.max_retries=0"]),
        (["run", "c.yaml", "-mt", "all"], ["-mt"]),
    ],
)
def test_a_mixture_of_the_two_ways_is_refused(line: list[str], words: list[str]) -> None:
    ended = profiler(*line)
    assert (ended.code, ended.out) == (2, "")
    for word in words:
        assert word in ended.err


# -- list ------------------------------------------------------------------------------------------------------------


def test_list_knows_every_repository() -> None:
    document = profiler("list", "--json").json()
    repos = {repo["repo"]: {model["model"]: model for model in repo["models"]} for repo in document["repos"]}
    assert {"examples", "VulBERTa", "MRT-OAST"} <= set(repos)
    cnn = repos["examples"]["mnist_cnn"]
    assert cnn["primary_metric"] == "test_accuracy"
    rate = cnn["hyperparameters"]["learning_rate"]
    assert {"type", "default", "range", "distribution"} <= set(rate)
    assert (rate["type"], rate["distribution"], len(rate["range"])) == ("float", "log_uniform", 2)


@pytest.mark.parametrize("line", [["list"], ["-l"], ["run", "-l"], ["run", "--list"]])
def test_list_for_people(line: list[str]) -> None:
    ended = profiler(*line)
    assert (ended.code, ended.err) == (0, "")
    assert "mnist_forward_forward (mnist_ff)" in ended.out
    assert "\x1b" not in ended.out


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "workload.yaml").write_text("models: 3\n")
    ended = profiler("list", "--json", environment={"PROFILER_REPOS": str(tmp_path)})
    assert ended.code == 2
    assert "workload.yaml" in ended.json()["errors"][0]["file"]


# -- plan and dry runs -----------------------------------------------------------------------------------------------

CONFIG = """\
name: small
seed: 7
experiments:
  - {repo: examples, model: mnist, mode: default}
  - {repo: examples, model: mnist_cnn, mode: mutation, mutate: [learning_rate, epochs], runs_per_config: 2}
  - mode: parallel
    foreground: {repo: examples, model: mnist_rnn, mode: mutation, mutate: [epochs]}
    background: {repo: examples, model: mnist_ff}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_plan_shows_every_run(config: Path) -> None:
    ended = profiler("plan", config, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = ended.json()
    assert document["seed"] == 7
    keys = {"index", "experiment_id", "repo", "model", "mode", "hyperparameters", "mutated", "background"}
    assert all(keys <= set(run) for run in document["runs"])
    assert [run["experiment_id"] for run in document["runs"]] == [
        "examples_mnist_cnn_001",
        "examples_mnist_cnn_002",
        "examples_mnist_cnn_003",
        "examples_mnist_rnn_004_parallel",
    ]
    background = document["runs"][3]["background"]
    assert (background["repo"], background["model"]) == ("examples", "mnist_forward_forward")
    assert document["runs"][0]["background"] is None


def test_plan_for_people(config: Path) -> None:
    ended = profiler("plan", config)
    assert (ended.code, ended.err) == (0, "")
    assert "examples_mnist_rnn_004_parallel" in ended.out
    assert "4 runs" in ended.out
    assert "seed 7" in ended.out


def test_overrides_change_the_plan(config: Path) -> None:
    document = profiler("plan", config, "--set", "seed=8", "--json").json()
    assert document["seed"] == 8


def test_the_same_options_give_the_same_plan(tmp_path: Path) -> None:
    line = ["run", "-r", "examples", "-m", "mnist_cnn", "-mt", "learning_rate,epochs", "-n", "3", "-s", "7"]
    first, second = (profiler(*line, "--dry-run", "--json", cwd=tmp_path) for _ in range(2))
    assert first.code == 0
    assert first.out == second.out
    assert len(first.json()["runs"]) == 3
    assert list(tmp_path.iterdir()) == []


BAD_CONFIGS = {
    "absent": (None, ["bad.yaml"]),
    "empty": ("", ["empty"]),
    "unknown key": ("name: x\nexperimets: []\n", ["experimets", "experiments"]),
    "wrong type": (
        "name: x\nruns_per_config: two\nexperiments: [{repo: examples, model: mnist}]\n",
        ["runs_per_config", "two"],
    ),
    "unknown repo": ("name: x\nexperiments: [{repo: exmples, model: mnist}]\n", ["exmples", "examples"]),
    "no yaml": ("{", ["bad.yaml"]),
    "binary": ("\x00\x01", ["bad.yaml"]),
}


def bad_config(folder: Path, name: str) -> Path:
    path = folder / "bad.yaml"
    content, _words = BAD_CONFIGS[name]
    if content is not None:
        path.write_text(content)
    return path


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_config_ends_with_2(name: str, tmp_path: Path) -> None:
    ended = profiler("plan", bad_config(tmp_path, name))
    assert (ended.code, ended.out) == (2, "")
    assert all(word in ended.err for word in BAD_CONFIGS[name][1]), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", [["plan"], ["run"], ["run", "-ec"], ["run", "--dry-run"]])
def test_a_bad_config_in_json_is_one_document_and_starts_nothing(command: list[str], tmp_path: Path) -> None:
    ended = profiler(*command, bad_config(tmp_path, "unknown key"), "--json", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "")
    entries = ended.json()["errors"]
    assert all(set(entry) == {"file", "path", "value", "message", "suggestion"} for entry in entries)
    assert "experiments" in [entry["suggestion"] for entry in entries]
    assert not (tmp_path / "results").exists()


def test_every_fault_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nsed: 1\ngovernor: fast\nexperiments: [{repo: examples, model: mnis}]\n")
    ended = profiler("plan", path)
    assert len(ended.err.splitlines()) == 3
    assert all(line.startswith("error: ") for line in ended.err.splitlines())
    assert len(profiler("plan", path, "--json").json()["errors"]) == 3


def test_a_directory_is_no_config(tmp_path: Path) -> None:
    ended = profiler("plan", tmp_path)
    assert ended.code == 2
    assert str(tmp_path) in ended.err


@needs_root
def test_an_unreadable_config_is_refused(config: Path) -> None:
    with _public_folder() as folder:
        path = folder / "secret.yaml"
        path.write_text(CONFIG)
        path.chmod(0)
        ended = profiler_as(NOBODY, ["plan", str(config)], "plan", path)
    assert (ended.code, ended.out) == (2, "")
    assert "Permission denied" in ended.err


def test_plan_without_anything_to_plan_is_refused() -> None:
    ended = profiler("plan")
    assert (ended.code, ended.out) == (2, "")
    assert "CONFIG" in ended.err and "profiler plan --help" in ended.err


@needs_root
@needs_open_code
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_unwritable_results_end_with_3(as_json: list[str], config: Path) -> None:
    with _public_folder() as folder:
        path = folder / "small.yaml"
        path.write_text(CONFIG)
        line = ["run", path, "--results", folder / "results", *as_json]
        ended = profiler_as(NOBODY, ["plan", str(config)], *line)
        assert not (folder / "results").exists()
    assert ended.code == 3, ended.err
    assert "--results" in (ended.out if as_json else ended.err)
    assert "Traceback" not in ended.err


@contextmanager
def _public_folder() -> Iterator[Path]:
    """A folder that every user may read and only root may write."""
    with tempfile.TemporaryDirectory(prefix="profiler-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


# -- show and export -------------------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Four planned runs: safe, failed, contaminated, not run."""
    return make_session(tmp_path / "results", {1: {"gpu_energy_j": 1234.5}, 2: FAILED, 3: CONTAMINATED}, planned=4).root


def test_show_gives_one_typed_object_a_planned_run(session: Path) -> None:
    ended = profiler("show", session, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = ended.json()
    assert document["session_id"] == session.name
    runs = document["runs"]
    assert [run["verdict"] for run in runs] == ["valid", "failed", "contaminated", None]
    assert runs[0]["hyperparameters"] == {"epochs": 2, "learning_rate": 0.30000000000000004}
    assert isinstance(runs[0]["hyperparameters"]["epochs"], int)
    assert runs[0]["gpu_energy_j"] == 1234.5
    assert runs[1]["gpu_energy_j"] is None
    assert runs[0]["null_reasons"]["cpu_package_energy_j"] == "no_rapl_zones"
    assert runs[0]["started_at"].startswith("2026-01-02T03:04:05")
    assert runs[3]["null_reasons"]["duration_s"] == "not_run"


def test_show_safe_gives_only_safe_runs(session: Path) -> None:
    document = profiler("show", session, "--safe", "--json").json()
    assert [run["experiment_id"] for run in document["runs"]] == ["examples_mnist_cnn_001"]


def test_show_for_people(session: Path) -> None:
    ended = profiler("show", session)
    assert (ended.code, ended.err) == (0, "")
    for word in ("examples_mnist_cnn_004", "not run", "1.234 kJ", "throttled", "4 runs, 2 valid, 1 safe"):
        assert word in ended.out
    assert "\x1b" not in ended.out


def test_export_writes_the_old_columns(session: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    ended = profiler("export", session, "--csv", target, "--safe")
    assert (ended.code, ended.out.strip()) == (0, str(target))
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["experiment_id"] for row in rows] == ["examples_mnist_cnn_001"]
    assert rows[0]["hyperparam_learning_rate"] == "0.30000000000000004"
    assert rows[0]["energy_gpu_total_joules"] == "1234.5"
    assert rows[0]["energy_cpu_pkg_joules"] == ""


def test_export_to_a_place_that_cannot_be_written(session: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "out.csv"
    ended = profiler("export", session, "--csv", target)
    assert ended.code == 3
    assert str(target) in ended.err
    assert "Traceback" not in ended.err


def test_without_a_valid_run_no_time_is_promised(tmp_path: Path) -> None:
    root = make_session(tmp_path / "results", {1: FAILED}, planned=1).root
    ended = profiler("coverage", root)
    assert ended.code == 0
    assert "runs are missing; how long they train is not known, no past run tells" in ended.out
    assert "about -" not in ended.out


def test_a_hint_for_a_shell_quotes_what_it_must(tmp_path: Path) -> None:
    plain, spaced = (make_session(tmp_path / name, {1: FAILED}, planned=1).root for name in ("plain", "two words"))
    assert f"profiler resume {plain} --retry-failed" in closing_summary(NOT_RUN, str(plain))
    assert f"profiler resume '{spaced}' --retry-failed" in closing_summary(NOT_RUN, str(spaced))
    assert f"profiler show '{spaced}'" in profiler("report", spaced, "--trace", "none").err


def test_two_exports_into_one_file_are_refused(session: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    ended = profiler("export", session, "--csv", target, "--json", tmp_path / "x" / ".." / "out")
    assert (ended.code, ended.out) == (2, "")
    assert "name the same one" in ended.err
    assert not target.exists()


@pytest.mark.parametrize("command", [["show"], ["export", "--csv", "x.csv"], ["status"]])
def test_what_is_no_session_ends_with_2(command: list[str], tmp_path: Path) -> None:
    for place in (tmp_path / "absent", tmp_path):
        ended = profiler(*command, place)
        assert (ended.code, ended.out) == (2, "")
        assert str(place) in ended.err
    document = profiler("show", tmp_path, "--json")
    assert document.code == 2
    assert document.json()["errors"]


@pytest.mark.parametrize("command", ["show", "status", "coverage", "report", "import", "resume", "reprocess"])
def test_a_path_that_no_file_can_have_ends_with_2(command: str) -> None:
    ended = profiler(command, "x" * 300)
    assert (ended.code, ended.out) == (2, "")
    assert "x" * 300 in ended.err and "name too long" in ended.err


def test_a_damaged_session_is_named(session: Path) -> None:
    damaged = next((session / "dataset" / "runs").glob("*.parquet"))
    damaged.write_bytes(b"PAR1")
    ended = profiler("show", session)
    assert ended.code == 2
    assert damaged.name in ended.err


@needs_root
@needs_open_code
@pytest.mark.parametrize("command", ["show", "coverage"])
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_another_user_may_not_read_is_not_called_damaged(command: str, closed: str) -> None:
    with _public_folder() as folder:
        root = make_session(folder / "results", {1: {}}, planned=1).root
        path = root / "dataset" / "runs"
        if closed == "file":
            (path,) = path.glob("*.parquet")
        line = [command, str(root)]
        path.chmod(0)  # root, who loads the modules, reads it all the same
        ended = profiler_as(NOBODY, line, *line)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"error: cannot read {path}: Permission denied; check owner and permissions\n"


def test_a_reader_that_goes_away_is_no_error(session: Path) -> None:
    line = f"{sys.executable} -m profiler show {session} --json | head -c 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_of_a_campaign_between_two_trainings(session: Path) -> None:
    here = f"process {os.getpid()} on "
    with driver_lock(SessionFolder(session)):
        assert f"\ndriven by {here}" in profiler("status", session).out
        assert profiler("status", session, "--json").json()["driver"]["pid"] == os.getpid()
        assert f"\n{session} is driven by {here}this machine\n" in profiler("status").out
    ended = profiler("status", session)
    assert "no process drives it now\nno training of it is in work on this machine\n" in ended.out
    assert str(session) not in profiler("status").out


# -- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_here(tmp_path: Path) -> None:
    ended = profiler("doctor", "--json", "--results", tmp_path / "results")
    document = ended.json()
    assert ended.code == (0 if document["ok"] else 3)
    assert document["containment"] in ("pid_namespace", "cgroup", None)
    for source in document["sources"]:
        assert {"name", "available", "reason", "fix"} <= set(source)
        assert source["available"] or source["reason"]
    assert document["ray"]["ok"] is True
    assert isinstance(document["sampler"]["sched_fifo"], bool)
    assert not (tmp_path / "results").exists()


def test_doctor_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    text = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('ray', 'torch', 'pandas'): raise ModuleNotFoundError(name, name=name)\n"
        "    def find_distributions(self, context): return []\n"
        "sys.meta_path[:] = [Gone(), *[f for f in sys.meta_path]]\n"
        "from importlib import metadata\n"
        "real = metadata.version\n"
        "from profiler.cli.main import main\n"
        "sys.exit(main(['doctor', '--json']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["sources"]


def test_doctor_sees_a_torch_that_every_trainer_would_have_to_compile(tmp_path: Path) -> None:
    package = tmp_path / "site packages" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    barred = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}

    def torch(**environment: str) -> tuple[bool, str, str | None]:
        ended = profiler("doctor", "--json", environment={**barred, **environment})
        found = ended.json()["torch"]
        assert ended.code == 0, "campaigns can run all the same"
        return found["ok"], found["detail"], found["fix"]

    ok, detail, fix = torch()
    assert (ok, "without bytecode" in detail) == (False, True)
    assert fix is not None
    assert fix in profiler("doctor", environment=barred).out
    assert torch(PYTHONDONTWRITEBYTECODE="") == (True, f"installed in {package}; the first trainer compiles it", None)
    subprocess.run(shlex.split(fix), check=True, cwd=tmp_path)
    assert torch() == (True, f"installed in {package}", None)
    os.utime(package / "__init__.py", (0, 0))  # Python takes it for changed
    assert torch()[0] is False


def test_doctor_for_people_names_the_fix(tmp_path: Path) -> None:
    ended = profiler("doctor", cwd=tmp_path, environment={"PROFILER_SYSFS_ROOT": str(tmp_path)})
    assert ended.err == ""
    assert "containment" in ended.out
    assert "no_rapl_zones" in ended.out
    assert "fix" in ended.out
    assert "sudo modprobe intel_rapl_msr" in ended.out


def test_doctor_refuses_a_place_for_results_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = profiler("doctor", "--json", "--results", tmp_path / "file" / "results")
    assert ended.code == 3
    assert ended.json()["ok"] is False
    assert "--results" in ended.json()["disk"]["fix"]


# -- status and reap -------------------------------------------------------------------------------------------------


def test_status_shows_a_run_in_work_and_reap_leaves_it_alone() -> None:
    measuring = subprocess.Popen(
        [sys.executable, "-m", "profiler", "measure", "--", "sh", "-c", "echo up; sleep 30"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert measuring.stdout is not None
        assert measuring.stdout.readline() == "up\n"
        seen = [one for one in profiler("status", "--json").json()["processes"] if one["owner_pid"] == measuring.pid]
        assert len(seen) == 1
        assert (seen[0]["role"], seen[0]["leftover"]) == ("measure", False)
        assert len(seen[0]["pids"]) >= 2
        assert "measure" in profiler("status").out
        assert measuring.poll() is None
    finally:
        measuring.terminate()
        assert measuring.wait(timeout=30) == 130
        if measuring.stdout is not None:
            measuring.stdout.close()
