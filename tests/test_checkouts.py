"""A user's own clone of an original: programs that imitate the originals' command lines and logs really run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler import load, plan
from profiler.checkouts import MANY_FILES, commit, problem, with_checkout, working_copy
from profiler.cli.main import main
from profiler.errors import CannotRunError, ConfigError
from profiler.events import read_events
from profiler.metrics import Outcome, collect
from profiler.preflight import check_campaign
from profiler.process.launch import start
from profiler.store.rows import complete_run
from profiler.trainer import TrainerFiles, TrainerJob, trainer_command
from profiler.workloads import ModelSpec, load_catalog, load_manifest
from tests.attempts import local_node

CATALOG = load_catalog()

RESNET = r"""
import argparse, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--arch", "-a"); parser.add_argument("--epochs", type=int)
parser.add_argument("-b", "--batch-size", type=int)
parser.add_argument("--lr", "--learning-rate", type=float); parser.add_argument("--momentum", type=float)
parser.add_argument("--weight-decay", "--wd", type=float); parser.add_argument("--save-dir")
args = parser.parse_args()
pathlib.Path(args.save_dir).mkdir(exist_ok=True); pathlib.Path(args.save_dir, "model.th").write_text("weights")
print(["resnet110", "resnet20"]); print("data", pathlib.Path("data/part").stat().st_size)
for epoch in range(args.epochs):
    print(f"current lr {args.lr:.5e}")
    loss = f"Loss 4.5410 ({2 - epoch:.4f})"
    print(f"Epoch: [{epoch}][0/391]\tTime 0.512 (0.512)\tData 0.101 (0.101)\t{loss}\tPrec@1 7.812 (7.812)")
    print("Test: [0/79]\tTime 0.1 (0.1)\tLoss 0.3421 (0.3421)\tPrec@1 89.844 (89.844)")
    print(f" * Prec@1 {50 + epoch}.250")
"""
DIGITS = r"""
import argparse
parser = argparse.ArgumentParser()
for name, kind in (("--epochs", int), ("--lr", float), ("--batch-size", int), ("--seed", int)):
    parser.add_argument(name, type=kind)
args = parser.parse_args()
for epoch in range(1, args.epochs + 1):
    print(f"Train Epoch: {epoch} [1920/4000 (48%)]\tLoss: 0.531532")
    print(f"\nTest set: Average loss: 0.0271, Accuracy: 99{epoch}2/10000 (99%)\n")
"""
FORWARD = r"""
print("training layer:  0"); print("Loss:  0.7548670768737793")
print("train error: 0.8959999978542328"); print("test error: 0.1200000002682209")
"""
BUGS = r"""
import os, sys
assert os.path.basename(os.getcwd()) == "src" and os.path.isfile("../data/features.csv") and len(sys.argv) == 1
for fold in range(1, 11):
    print(f"Fold: {fold} / 10", end="\r")
print({k: round(0.26 + k / 100, 3) for k in range(1, 21)})
print({k: round(0.28 + k / 100, 3) for k in range(1, 21)})
"""
PERSONS = r"""
import argparse, sys
parser = argparse.ArgumentParser()
for name, kind in (("--total_epoch", int), ("--lr", float), ("--batchsize", int), ("--droprate", float)):
    parser.add_argument(name, type=kind)
for name in ("--name", "--data_dir"):
    parser.add_argument(name)
for name in ("--use_dense", "--use_hr", "--PCB", "--train_all"):
    parser.add_argument(name, action="store_true")
args = parser.parse_args()
assert args.data_dir.endswith("/Market/pytorch"), args.data_dir
for epoch in range(args.total_epoch):
    print(f"Epoch {epoch}/{args.total_epoch - 1}\n----------")
    for phase, loss in (("train", 1.5 - epoch / 100), ("val", 9.0)):
        shown = f"OrderedDict([('phase', '{phase}'), ('Loss', '{loss:.4f}'), ('Acc', '0.{epoch:02d}67')])"
        print(f"\r100%|##| 1/1 [00:01<00:00, ordered_dict={shown}]", end="", file=sys.stderr)
open("trained", "w").close()
"""
RANKS = r"""
import sys
open("trained")
assert sys.argv[3] == "--test_dir", sys.argv
print("Rank@1:0.901722 Rank@5:0.961401 Rank@10:0.974169 mAP:0.740181")
"""


def clone(root: Path, **files: str) -> Path:
    """A folder with these files; `__` in a name is a slash, and .py goes behind it."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def trained(model: ModelSpec, own: Path, tmp_path: Path, python: str | None = None, **values: Any) -> Outcome:
    """Run the clone as an attempt would, in a process of its own, and read its log."""
    model = with_checkout(model, own, python)
    requested = model.defaults() | values
    files = TrainerFiles(tmp_path / "work", tmp_path / "events.jsonl", tmp_path / "training.log")
    files.prepare()
    job = TrainerJob(model, requested, threads=1, timeout_s=None, data_root=None, gpu_uuid=None)
    command = trainer_command(job, files, run_id="r", labels={}, environment=os.environ)
    with files.output_joined(), start(command) as process:
        process.release()
        report = process.wait()
    assert report is not None and report.exit_code == 0, files.log.read_text()
    assert not files.errors.exists()
    return collect(model, requested, read_events(files.events), files.log)


@pytest.fixture
def resnets(tmp_path: Path) -> Path:
    root = clone(tmp_path / "own", trainer=RESNET, resnet="")
    (root / "data").mkdir()
    (root / "data" / "part").write_bytes(bytes(2 << 20))
    return root


def test_the_residual_networks_original(resnets: Path, tmp_path: Path) -> None:
    model = CATALOG.resolve("pytorch_resnet_cifar10", "resnet20")
    before = sorted(resnets.rglob("*"))
    out = trained(model, resnets, tmp_path, epochs=3)
    assert out.finished and out.effective_source == "argv"
    assert out.metrics == {"test_accuracy": pytest.approx(0.5225), "train_loss": 0.0}
    assert "seed" not in (out.effective or {}) and (out.effective or {})["learning_rate"] == 0.1
    assert sorted(resnets.rglob("*")) == before
    assert (tmp_path / "work" / "checkout" / "saved" / "model.th").is_file()
    assert (tmp_path / "work" / "checkout" / "data" / "part").is_symlink()


def diverged(tmp_path: Path, repo: str, name: str, program: str, old: str, new: str, **values: Any) -> Outcome:
    """What the original's program comes to when it prints `new` in place of `old`."""
    assert old in program
    spec = CATALOG.resolve(repo, name).checkout
    assert spec is not None
    files = {path.removesuffix(".py").replace("/", "__"): "" for path in spec.files}
    main = next(path for path in files if path.rpartition("__")[2] in ("main", "train", "trainer"))
    own = clone(
        tmp_path / "own", **files | {main: program.replace(old, new)} | ({"test": RANKS} if "test" in files else {})
    )
    (own / "data").mkdir()
    for data in ("part", "features.csv"):
        (own / "data" / data).touch()
    return trained(CATALOG.resolve(repo, name), own, tmp_path, **values)


def test_a_figure_that_is_no_number_any_more_is_not_that_of_an_earlier_epoch(tmp_path: Path) -> None:
    late = "{0.5 if epoch < 2 else float('nan'):.4f}"
    digits = diverged(tmp_path / "1", "examples", "mnist", DIGITS, "loss: 0.0271", f"loss: {late}", epochs=3)
    assert digits.not_finite == ("test_loss",) and "test_loss" not in digits.metrics
    resnet = diverged(tmp_path / "2", "pytorch_resnet_cifar10", "resnet20", RESNET, "{50 + epoch}.250", late, epochs=3)
    assert resnet.not_finite == ("test_accuracy",) and resnet.primary_value is None
    person = ("Person_reID_baseline_pytorch", "pcb", PERSONS)
    persons = diverged(tmp_path / "3", *person, "'{loss:.4f}'", f"'{late}'", epochs=10)
    assert persons.not_finite == ("train_loss",)
    half = diverged(tmp_path / "4", *person, "'0.{epoch:02d}67'", "'0,5'", epochs=10)
    assert half.not_numbers == {"train_accuracy": "'0,5'"}
    bugs = diverged(
        tmp_path / "5", "bug-localization-by-dnn-and-rvsm", "default", BUGS, "round(0.26 + k / 100, 3)", "float('nan')"
    )
    assert bugs.not_finite == ("top1_accuracy", "top5_accuracy", "top10_accuracy", "top20_accuracy")
    forward = diverged(tmp_path / "6", "examples", "mnist_ff", FORWARD, "0.1200000002682209", "nan")
    assert forward.not_finite == ("test_accuracy",)


def test_the_progress_of_the_reidentification_original_under_later_pythons(tmp_path: Path) -> None:
    earlier = "OrderedDict([('phase', '{phase}'), ('Loss', '{loss:.4f}'), ('Acc', '0.{epoch:02d}67')])"
    later = "OrderedDict({{'phase': '{phase}', 'Loss': '{loss:.4f}', 'Acc': '0.{epoch:02d}67'}})"
    out = diverged(tmp_path, "Person_reID_baseline_pytorch", "pcb", PERSONS, earlier, later, epochs=10)
    assert (out.metrics["train_loss"], out.metrics["train_accuracy"]) == (1.41, 0.0967)


def test_the_progress_of_the_reidentification_original_without_spaces(tmp_path: Path) -> None:
    earlier = "OrderedDict([('phase', '{phase}'), ('Loss', '{loss:.4f}'), ('Acc', '0.{epoch:02d}67')])"
    out = diverged(
        tmp_path, "Person_reID_baseline_pytorch", "pcb", PERSONS, earlier, earlier.replace(", ", ","), epochs=10
    )
    assert (out.metrics["train_loss"], out.metrics["train_accuracy"]) == (1.41, 0.0967)


def test_an_original_that_ends_too_early_is_not_finished(tmp_path: Path) -> None:
    lazy = RESNET.replace("range(args.epochs)", "range(args.epochs - 1)")
    own = clone(tmp_path / "own", trainer=lazy, resnet="", data__part="")
    (own / "data" / "part").touch()
    out = trained(CATALOG.resolve("pytorch_resnet_cifar10", "resnet20"), own, tmp_path, epochs=3)
    assert not out.finished and out.unfinished == "the log shows 2 epochs, epochs is 3"


@pytest.mark.parametrize(("name", "folder"), [("mnist_cnn", "mnist"), ("siamese", "siamese_network")])
def test_the_digits_original(name: str, folder: str, tmp_path: Path) -> None:
    own = clone(tmp_path / "own", **{f"{folder}__main": DIGITS})
    out = trained(CATALOG.resolve("examples", name), own, tmp_path, epochs=2)
    assert out.finished and out.metrics == {"test_accuracy": 0.9922, "test_loss": 0.0271}


def test_an_error_rate_becomes_an_accuracy(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", mnist_forward_forward__main=FORWARD)
    out = trained(CATALOG.resolve("examples", "mnist_ff"), own, tmp_path)
    assert out.metrics["test_accuracy"] == pytest.approx(0.88) and out.metrics["train_accuracy"] == pytest.approx(0.104)
    assert set(out.effective or {}) == {"epochs", "learning_rate", "train_size"}


def test_the_bug_localization_original(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", src__main=BUGS, src__feature_extraction="")
    (own / "data").mkdir()
    (own / "data" / "features.csv").write_text("report_id\n")
    out = trained(CATALOG.resolve("bug-localization-by-dnn-and-rvsm", "default"), own, tmp_path)
    tops = {f"top{k}_accuracy": pytest.approx(0.26 + k / 100) for k in (1, 5, 10, 20)}
    assert out.metrics == tops | {f"rvsm_top{k}_accuracy": pytest.approx(0.28 + k / 100) for k in (1, 5, 10, 20)}
    assert out.finished


def test_the_bug_localization_original_that_stops_before_its_second_line_is_not_finished(tmp_path: Path) -> None:
    first, _ = BUGS.rsplit("print(", 1)
    own = clone(tmp_path / "own", src__main=first, src__feature_extraction="")
    (own / "data").mkdir()
    (own / "data" / "features.csv").write_text("report_id\n")
    out = trained(CATALOG.resolve("bug-localization-by-dnn-and-rvsm", "default"), own, tmp_path)
    assert not out.finished
    assert out.unfinished == "no done event, and 1 of 2 completion lines in the log"


@pytest.mark.parametrize("name", ["densenet121", "hrnet18", "pcb"])
def test_the_reidentification_original_trains_and_tests(name: str, tmp_path: Path) -> None:
    own = clone(tmp_path / "a clone", train=PERSONS, test=RANKS, evaluate_gpu="", model="")
    out = trained(CATALOG.resolve("Person_reID_baseline_pytorch", name), own, tmp_path, epochs=10)
    assert out.metrics == {
        "map": 0.740181, "rank1": 0.901722, "rank5": 0.961401, "rank10": 0.974169, "train_loss": 1.41,
        "train_accuracy": 0.0967,
    }  # fmt: skip
    assert not (own / "trained").exists() and out.finished
    assert ("dropout" in (out.effective or {})) == (name != "pcb")


def campaign(own: Path, **more: Any) -> dict[str, Any]:
    item = {"repo": "pytorch_resnet_cifar10", "model": "resnet20", "mode": "default", "checkout": str(own), **more}
    return {"name": "c", "seed": 1, "experiments": [item]}


def test_the_plan_holds_the_clone_and_no_parameter_that_it_cannot_be_told(resnets: Path) -> None:
    (run,) = plan(load(campaign(resnets, hyperparameters={"epochs": 2})))
    assert run.checkout == str(resnets) and "seed" not in run.hyperparameters and "size" not in run.hyperparameters
    resolved = load(campaign(resnets)).to_dict()
    assert plan(load(resolved)).digest == plan(load(campaign(resnets))).digest


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hyperparameters": {"seed": 3}}, "the original of pytorch_resnet_cifar10 has no option for `seed`"),
        ({"mode": "mutation", "mutate": ["seed"]}, "has no option for `seed`"),
        ({"checkout": "/nowhere/at/all"}, "there is no folder /nowhere/at/all"),
        ({"repo": "VulBERTa", "model": "cnn"}, "says nothing of checkouts"),
        ({"checkout": None, "python": "/usr/bin/python3"}, "is for a checkout"),
    ],
)
def test_what_a_clone_cannot_do_is_refused_before_anything_starts(
    more: dict[str, Any], message: str, resnets: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(campaign(resnets, **more))


def test_the_command_line_names_a_clone_too(resnets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["run", "-r", "pytorch_resnet_cifar10", "-m", "resnet20", "-mt", "epochs", "--dry-run", "--json"]
    assert main([*options, "--checkout", str(resnets), "--python", "python3"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["checkout"], run["python"]) == (str(resnets), "python3")
    assert main([*options, "--checkout", str(resnets / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().out
    assert main(["run", "configs/default.yaml", "--dry-run", "--checkout", str(resnets)]) == 2
    assert "--checkout goes with -r" in capsys.readouterr().err


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").touch()
    with pytest.raises(ConfigError, match=r"does not look like a clone .*: resnet\.py not there"):
        load(campaign(tmp_path))


def test_too_few_epochs_for_the_original_are_refused(tmp_path: Path) -> None:
    own = clone(tmp_path, train="", test="", evaluate_gpu="", model="")
    item = {"repo": "Person_reID_baseline_pytorch", "model": "pcb", "hyperparameters": {"epochs": 5}}
    with pytest.raises(ConfigError, match="at least 10"):
        load(campaign(own, **item))


def test_a_virtual_environment_in_the_clone_is_not_copied_file_by_file(resnets: Path, tmp_path: Path) -> None:
    (resnets / ".venv" / "lib").mkdir(parents=True)
    (resnets / ".venv" / "pyvenv.cfg").touch()
    own = with_checkout(CATALOG.resolve("pytorch_resnet_cifar10", "resnet20"), resnets, None).own_checkout
    assert own is not None
    (tmp_path / "work").mkdir()
    copy = working_copy(own, tmp_path / "work")
    assert (copy / ".venv").readlink() == resnets / ".venv"
    assert not (copy / "data").is_symlink()


def test_an_interpreter_may_be_a_command_that_starts_one_in_its_environment(resnets: Path, tmp_path: Path) -> None:
    python = f"env 'COLOUR=light blue' {sys.executable}"
    made = plan(load(campaign(resnets, python=python)))
    check_campaign(made, CATALOG)
    assert made.runs[0].python == python
    (resnets / "trainer.py").write_text("import os; assert os.environ['COLOUR'] == 'light blue'\n" + RESNET)
    model = CATALOG.resolve("pytorch_resnet_cifar10", "resnet20")
    assert trained(model, resnets, tmp_path, python, epochs=2).finished


@pytest.mark.parametrize(
    ("python", "found"),
    [
        ("bin/tool run -n old python", "/home/me/bin/tool run -n old python"),
        ("tool -p /envs/old python", "tool -p /envs/old python"),
        ("my tools/python", "/home/me/my tools/python"),
        ("python3", "python3"),
    ],
)
def test_the_program_of_an_interpreters_command_is_made_absolute(
    python: str, found: str, resnets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my tools").mkdir()
    (tmp_path / "my tools" / "python").touch()
    monkeypatch.chdir(tmp_path)
    made = plan(load(campaign(resnets, python=python)))
    assert made.runs[0].python == found.replace("/home/me", str(tmp_path))


@pytest.mark.parametrize("python", ["/nowhere/tool run python", "env 'python3"])
def test_a_command_that_cannot_be_started_is_refused(python: str, resnets: Path) -> None:
    with pytest.raises(CannotRunError, match="is no program that can be started here"):
        check_campaign(plan(load(campaign(resnets, python=python))), CATALOG)


def test_an_interpreter_that_is_none_is_refused_before_the_first_run(resnets: Path) -> None:
    made = plan(load(campaign(resnets, python="/nowhere/python")))
    with pytest.raises(CannotRunError, match="'/nowhere/python' is no program"):
        check_campaign(made, CATALOG)
    resnets.joinpath("resnet.py").unlink()
    with pytest.raises(CannotRunError, match=r"resnet\.py not there"):
        check_campaign(made, CATALOG)


TWO_STREAMS = r"""
import os
for epoch in (1, 2):
    os.write(2, b"\r 80%|###  |")
    os.write(1, f"Train Epoch: {epoch} [1920/4000 (48%)]\tLoss: 0.531532\n".encode())
    os.write(1, f"Test set: Average loss: 0.0271, Accuracy: 4{epoch}/100".encode())
    os.write(2, b"7 batches loaded\n")
    os.write(1, b" (42%)\n")
os.write(2, b"warning: the last word")
"""


def test_error_output_gets_into_no_line_of_the_output(tmp_path: Path) -> None:
    model = CATALOG.resolve("examples", "mnist_cnn")
    own = clone(tmp_path / "own", mnist__main=TWO_STREAMS)
    outcome = trained(model, own, tmp_path, epochs=2)
    assert outcome.metrics["test_accuracy"] == 0.42
    assert outcome.finished, outcome.unfinished
    log = (tmp_path / "training.log").read_text()
    assert log.partition("--- error output ---\n")[2].endswith("batches loaded\nwarning: the last word")


def test_the_copy_links_what_is_large_and_leaves_history_out(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()", data__small__one="")
    for number in range(MANY_FILES):
        (own / "data" / f"{number}.txt").touch()
    (own / "data" / "small" / "two.txt").touch()
    (own / ".git").mkdir()
    (own / "link").symlink_to("train.py")
    model = with_checkout(CATALOG.resolve("examples", "mnist"), own, None)
    assert model.own_checkout is not None
    (tmp_path / "work").mkdir()
    target = working_copy(model.own_checkout.model_copy(update={"folder": "."}), tmp_path / "work")
    assert sorted(path.name for path in target.iterdir()) == ["data", "link", "train.py"]
    assert (target / "data").is_symlink() and (target / "link").resolve() == target / "train.py"
    assert not (target / "train.py").is_symlink()


def copied(own: Path, tmp_path: Path, work: Path, *outputs: str) -> Path:
    """The copy of `own`, whose program writes `outputs`, in the work directory `work`."""
    model = with_checkout(CATALOG.resolve("examples", "mnist"), own, None)
    assert model.own_checkout is not None
    work.mkdir(parents=True)
    return working_copy(model.own_checkout.model_copy(update={"folder": ".", "outputs": outputs}), work)


def test_what_the_original_writes_is_neither_copied_nor_linked(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()", out__old="", data__0="")
    (own / "result.mat").write_bytes(bytes(2 << 20))
    (own / "disk").symlink_to(tmp_path)
    for number in range(MANY_FILES):
        (own / "data" / f"{number}.txt").touch()
    (own / "data" / "cache").write_text("old")
    target = copied(own, tmp_path, tmp_path / "work", "result.mat", "out", "disk", "data/cache", "none")
    assert not (target / "result.mat").is_symlink() and not (target / "result.mat").exists()
    for folder in (target / "out", target / "disk"):
        assert not folder.is_symlink() and list(folder.iterdir()) == []
    assert not (target / "data").is_symlink() and not (target / "data" / "cache").exists()
    assert (target / "data" / "5.txt").is_file() and not (target / "none").exists()


def test_links_lead_to_the_same_place_in_the_copy(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()", real__inner="")
    (tmp_path / "outside").mkdir()
    links = {"here": "real", "full": str(own / "real"), "away": "../outside", "gone": "nowhere", "a": "b", "b": "a"}
    for name, aim in links.items():
        (own / name).symlink_to(aim)
    target = copied(own, tmp_path, tmp_path / "work")
    assert (target / "here").resolve() == (target / "full").resolve() == target / "real"
    assert (target / "away").resolve() == tmp_path / "outside"
    assert all((target / name).is_symlink() and not (target / name).exists() for name in ("gone", "a", "b"))


@pytest.mark.parametrize("results", [".", "results", "real/results", "real"])
def test_results_that_lie_in_the_clone_stay_out_of_the_copy(results: str, tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()", real__inner="")
    session = own / results / "run_20260101_000000"
    (session / "dataset").mkdir(parents=True)
    for name in ("ledger.jsonl", "campaign.yaml"):
        (session / name).touch()
    (own / results / ".work" / "another").mkdir(parents=True)
    target = copied(own, tmp_path, own / results / ".work" / "this")
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["real/inner.py", "train.py"]
    assert not [path for path in target.rglob("*") if path.name in (".work", session.name)]


def test_folders_of_the_users_own_that_are_named_like_results_are_copied(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()", run_1__dataset__split="", work__notes="")
    (own / "work").rename(own / ".work")
    (own / "run_1" / "ledger.jsonl").touch()
    target = copied(own, tmp_path, tmp_path / "work")
    assert (target / "run_1" / "dataset" / "split.py").is_file() and (target / ".work" / "notes.py").is_file()


def test_a_copy_in_the_clone_does_not_hold_itself(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", train="print()")
    target = copied(own, tmp_path, own / "anywhere")
    assert [path.name for path in target.iterdir()] == ["train.py"]


def test_two_tests_of_the_reidentification_original_do_not_read_each_others_results(tmp_path: Path) -> None:
    ranks = RANKS.replace("print(", "open('pytorch_result.mat', 'xb').write(bytes(2 << 20))\nprint(")
    persons = PERSONS.replace("open(", "import os; os.mkdir('model/profiler')\nopen(")
    own = clone(tmp_path / "own", train=persons, test=ranks, evaluate_gpu="", model="", model__profiler__old="")
    (own / "pytorch_result.mat").write_bytes(b"mine" + bytes(2 << 20))
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        out = trained(CATALOG.resolve("Person_reID_baseline_pytorch", "pcb"), own, tmp_path / run, epochs=10)
        assert out.finished and out.primary_value == 0.740181
    assert (own / "pytorch_result.mat").read_bytes()[:4] == b"mine"


def test_the_commit_is_told_and_whether_something_was_changed(tmp_path: Path) -> None:
    assert commit(tmp_path, ("train.py",)) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "train.py").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "untracked").touch()
    assert commit(tmp_path, ("train.py",)) == head
    (tmp_path / "train.py").write_text("2")
    assert commit(tmp_path, ("train.py",)) == f"{head}-dirty"


def test_a_commit_is_that_of_the_clone_and_of_nothing_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "train.py").touch()
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "around it"]):
        subprocess.run([*git, *arguments], check=True)
    own = clone(tmp_path / "unpacked", train="")
    assert commit(own, ("train.py",)) is None
    apart = clone(tmp_path / "apart", train="")
    subprocess.run(["git", "-C", str(apart), "init", "-q"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert commit(apart, ("train.py",)) is None


def git_clone(root: Path) -> Path:
    """A clone of the residual networks' original under git, all of it tracked."""
    own = clone(root, trainer=RESNET, resnet="", data__part="")
    (own / "data" / "part").touch()
    git = ["git", "-C", str(own), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return own


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_commit_of_somebody_elses_clone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = git_clone(tmp_path / "own")
    for path in (own, *own.rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("HOME", str(tmp_path))  # without git settings of the user
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert len(commit(own, ("trainer.py",)) or "") == 40


def checked_out_run(own: Path, results: Path) -> dict[str, Any]:
    """The row of an attempt of the clone `own`, on this machine."""
    foreground = with_checkout(CATALOG.resolve("pytorch_resnet_cifar10", "resnet20"), own, None)
    (item,) = campaign(own, hyperparameters={"epochs": 1})["experiments"]
    with local_node(results) as node:
        return complete_run(node.attempt(item, foreground=foreground))


@pytest.mark.slow
def test_a_clone_whose_commit_git_did_not_tell_in_time_is_not_called_one_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = git_clone(tmp_path / "own")
    row = checked_out_run(own, tmp_path / "results")
    assert len(row["checkout_commit"]) == 40
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("profiler.checkouts.GIT_TIMEOUT_S", 0.2)
    row = checked_out_run(own, tmp_path / "results")
    assert row["valid"] and row["checkout_commit"] is None
    assert row["null_reasons"]["checkout_commit"] == "not_recorded"
    (own / ".git").rename(own / "none")
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[2])
    row = checked_out_run(own, tmp_path / "results")
    assert row["null_reasons"]["checkout_commit"] == "not_under_git"


@pytest.mark.slow
def test_a_clone_that_is_gone_meanwhile_is_a_program_that_cannot_start(tmp_path: Path) -> None:
    own = git_clone(tmp_path / "own")
    foreground = with_checkout(CATALOG.resolve("pytorch_resnet_cifar10", "resnet20"), own, None)
    (item,) = campaign(own, hyperparameters={"epochs": 1})["experiments"]
    with local_node(tmp_path / "results") as node:
        attempt = node.messages(item, foreground=foreground)
        next(attempt)  # it was there when the campaign was planned
        own.rename(tmp_path / "moved")
        (message,) = [message for message in attempt if message["kind"] == "result"]
    row = complete_run(message["row"])
    assert (row["verdict"], row["reasons"]) == ("failed", ["start_failed"]) and not message["retry_may_help"]
    assert row["evidence"]["start_failed"].startswith(f"cannot copy the clone {own}: [Errno 2] No such file")
    assert row["null_reasons"]["checkout_commit"] == "not_started"


def test_asking_for_the_commit_writes_nothing_into_the_clone(tmp_path: Path) -> None:
    own = clone(tmp_path, train="")
    git = ["git", "-C", str(own), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    os.utime(own / "train.py", (1, 1))  # git would note that in its index
    before = (own / ".git" / "index").stat()
    assert commit(own, ("train.py",)) is not None
    after = (own / ".git" / "index").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("flags: {", "flags: {nonsense: -n, ", "flags: 'nonsense' is not declared"),
        ("folder: mnist\n", "folder: ../mnist\n", "must lie inside the checkout"),
        ("folder: mnist\n", "folder: mnist\n      outputs: [../out]\n", "'../out' must be a file or folder inside"),
        ("folder: mnist\n", "folder: mnist\n      outputs: [.]\n", "'.' must be a file or folder inside the checkout"),
        ("completion_pattern: '^Test set: '", "completion_pattern: '('", "is not a regular expression"),
        ('main.py, "{hyperparameters}"]', 'main.py, "{rate}"]', "needs {hyperparameters}"),
    ],
)
def test_faults_of_a_manifest(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (CATALOG.repos["examples"].folder / "workload.yaml").read_text()
    assert old in text
    (tmp_path / "workload.yaml").write_text(f"repo: mine\n{text.replace(old, new)}")
    with pytest.raises(ConfigError) as caught:
        load_manifest(tmp_path / "workload.yaml")
    assert message in str(caught.value)


def test_a_model_without_that_section_has_no_clone(tmp_path: Path) -> None:
    model = CATALOG.resolve("MRT-OAST", "default")
    assert "says nothing of checkouts" in problem(model, tmp_path)
    with pytest.raises(ValueError, match="says nothing of checkouts"):
        with_checkout(model, tmp_path, None)
