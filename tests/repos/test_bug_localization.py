"""The bug localiser: words, features, the original's table, git histories, ranking, and what each option does."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from _kit.errors import DataError

from tests.repos.trainings import REPOS, Training, check_effective, collect, start, train_many, undeclared_metrics

pytest.importorskip("sklearn")
REPO = "bug-localization-by-dnn-and-rvsm"
sys.path.append(str(REPOS / REPO))
bug_projects, bug_sets, candidates, feature_table, generated_project, git_project, localizer, report_words = (
    importlib.import_module(name)
    for name in (
        "bug_projects",
        "bug_sets",
        "candidates",
        "feature_table",
        "generated_project",
        "git_project",
        "localizer",
        "report_words",
    )
)

PRELOADED = ("sklearn.neural_network", "sklearn.model_selection", "sklearn.feature_extraction.text")
BASE = (
    "--max-iter",
    "4",
    "--kfold",
    "3",
    "--seed",
    "5",
    "--learning-rate",
    "0.0012345678912345678",
    "--alpha",
    "7e-06",
)
REQUESTED = {
    "max_iter": 4,
    "kfold": 3,
    "alpha": 7e-06,
    "learning_rate": 0.0012345678912345678,
    "batch_size": 200,
    "seed": 5,
    "size": "full",
}
CHANGES: dict[str, tuple[str, object]] = {
    "max_iter": ("--max-iter", 6),
    "kfold": ("--kfold", 4),
    "alpha": ("--alpha", 0.05),
    "learning_rate": ("--learning-rate", 0.002),
    "batch_size": ("--batch-size", 32),
    "seed": ("--seed", 6),
}


def write_table(folder: Path, reports: int = 12, wrong: int = 50) -> None:
    """A features.csv and its list of reports, in the original's columns."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(3)
    lines = ["report_id,file,rVSM_similarity,collab_filter,classname_similarity,bug_recency,bug_frequency,match"]
    for report in range(reports):
        for row in range(1 + wrong):
            right = int(row == 0)
            values = draws.random(5) * 0.5 + np.array([0.4, 0.3, 0, 0.1, 0]) * right
            lines.append(f"{1000 + report},bundles/a{row}.java,{','.join(map(str, values))},{right}")
    (folder / "features.csv").write_text("\n".join(lines) + "\n")
    head = "id\tbug_id\tsummary\tdescription\treport_time\treport_timestamp\tstatus\tcommit\tcommit_timestamp\tfiles"
    rows = [f"{n}\t{1000 + n}\tit\tis wrong\t2010-01-01 00:00:00\t1\tfixed\tabc\t2\ta{n}.java" for n in range(reports)]
    (folder / "AspectJ.txt").write_text("\n".join([head, *rows]) + "\n")


def git(folder: Path, *arguments: str, day: int = 1) -> None:
    stamp = f"2020-01-{day:02d}T00:00:00Z"
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    fixed = {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp, "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, env={**os.environ, **names, **fixed})


def make_history(folder: Path, fixes: int = 24, files: int = 25) -> None:
    """A repository of `files` Java files with `fixes` fixing commits and as many that only add."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for number in range(files):
        (folder / f"Thing{number}.java").write_text(f"class Thing{number} {{ int apple{number}; String pearName; }}\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "begin")
    for number in range(fixes):
        changed = folder / f"Thing{number % files}.java"
        changed.write_text(changed.read_text() + f"// {number}\n")
        git(folder, "commit", "-q", "-a", "-m", f"Fix a crash of apple{number % files}", day=1 + number)
        git(folder, "commit", "-q", "--allow-empty", "-m", f"Add more, no {number}", day=1 + number)


def test_words_split_compound_names_and_drop_what_says_nothing() -> None:
    text = "The XMLParser crashed: getFileName() returned null; parsers_list in HTTPServer2"
    found = report_words.words(text)
    assert {"xml", "pars", "crash", "get", "fil", "nam", "serv", "http"} <= set(found), found
    assert not {"the", "null", "in"} & set(found)


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [("crashed", "crash"), ("settings", "sett"), ("bus", "bus"), ("files", "fil"), ("file", "fil"), ("is", "is")],
)
def test_stems_keep_three_letters(word: str, stemmed: str) -> None:
    assert report_words.stem(word) == stemmed


def test_features_of_a_small_project_by_hand() -> None:
    texts = [["apple", "pear"], ["apple", "apple", "plum"], ["plum", "fig"]]
    files = {"a/Orchard.java": 0, "b/Cellar.java": 1, "c/Kitchen.java": 2}
    first = bug_projects.Report("1", 0.0, ["pear"], frozenset({"a/Orchard.java"}), files)
    second = bug_projects.Report("2", 30.4, ["pear", "orchard"], frozenset({"a/Orchard.java"}), files)
    found = candidates.find_candidates(bug_projects.Project("by hand", [first, second], texts), seed=1)
    assert found.right.tolist() == [True, False, False] * 2
    assert found.report.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.features[0, 1:].tolist() == [0, 0, 0, 0]
    rvsm, collab, named, recency, frequency = found.features[3]
    assert 0 < rvsm < 1
    assert collab == pytest.approx(1.0)
    assert (named, recency, frequency) == (7.0, pytest.approx(0.5), 1.0)
    assert found.features[4, 1:].tolist() == [0, 0, 0, 0]


def test_a_rank_counts_ties_against_the_right_file() -> None:
    right = np.array([True, False, False, True, True, False, False])
    table = candidates.Candidates(np.zeros((7, 5)), right, np.array([0, 0, 0, 1, 1, 1, 1]))
    scores = np.array([0.5, 0.5, 0.1, 0.2, 0.9, 0.3, 0.1])
    ranks = localizer.best_ranks(table, scores, np.array([0, 1]))
    assert ranks.tolist() == [2, 1]
    assert localizer.top(ranks, 1) == 0.5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the overflow that is wanted here
def test_a_network_that_diverges_has_no_finite_result_instead_of_an_error_or_perfect_ranks() -> None:
    data = bug_sets.load_bug_set(None, "generated", "reduced", seed=1)
    table = data.candidates
    assert np.isnan(localizer.best_ranks(table, np.full(len(table.right), np.nan), np.array([0]))).all()
    options = Namespace(alpha=0.0, batch_size=None, learning_rate=100.0, max_iter=20, seed=1)
    folds = [(np.arange(50), np.arange(50, 60))]
    run = SimpleNamespace(step=lambda: None, check_stop=lambda: None)
    result = localizer.train_fold(localizer.Job(localizer.make_network(options), table, folds, run), 0)
    assert np.isnan(localizer.top(result.ranks, 1)) and np.isnan(result.loss)
    assert localizer.top(result.rvsm_ranks, 20) > 0.5
    assert 1 <= result.epochs <= 20


def test_the_generated_project_is_the_same_every_time_and_text_alone_is_not_enough() -> None:
    first, second = (generated_project.generate("reduced") for _ in range(2))
    assert first == second
    assert len(first.reports) == 100 and len(first.texts) == 120
    found = candidates.find_candidates(first, seed=1)
    ranks = localizer.best_ranks(found, found.features[:, 0], np.arange(100))
    assert 0.2 < localizer.top(ranks, 1) < 0.8


def test_the_originals_table_is_read(tmp_path: Path) -> None:
    write_table(tmp_path / "bug-localization")
    found = bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)
    assert found.provenance.source == "features.csv/AspectJ reports=12 rows=612"
    assert found.candidates.right.sum() == 12
    assert found.candidates.features.shape == (612, 5)


@pytest.mark.parametrize("match", ["0.5", "2", "-1", "inf", "nan"])
def test_a_match_is_0_or_1(match: str, tmp_path: Path) -> None:
    write_table(tmp_path)
    path = tmp_path / "features.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], f"{lines[-1][:-2]},{match}"]) + "\n")
    with pytest.raises(DataError, match=f"line 613: match must be 0 or 1, not {match}"):
        bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)


def test_a_table_may_begin_with_a_byte_order_mark_and_a_match_be_written_as_a_float(tmp_path: Path) -> None:
    write_table(tmp_path)
    for path in (tmp_path / "features.csv", tmp_path / "AspectJ.txt"):
        text = re.sub(r",([01])$", r",\1.0", path.read_text(), flags=re.M)
        path.write_text(text, encoding="utf-8-sig")
    found = bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)
    assert found.provenance.source == "features.csv/AspectJ reports=12 rows=612"


def test_a_report_may_be_long(tmp_path: Path) -> None:
    write_table(tmp_path)
    path = tmp_path / "AspectJ.txt"
    path.write_text(path.read_text().replace("is wrong", "is wrong " * 20_000))
    assert bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1).candidates.reports == 12


def test_a_list_of_reports_without_its_table_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "bug-localization")
    (tmp_path / "bug-localization" / "features.csv").unlink()
    (tmp_path / "notes.txt").write_text("no list of reports " * 20_000)
    with pytest.raises(DataError, match=r"AspectJ\.txt is a list of reports; missing beside it: features\.csv"):
        bug_sets.load_bug_set(tmp_path, "auto", "reduced", seed=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bug_recency", "recency", "lacks the columns bug_recency"),
        ("1003,bundles/a7.java,", "1003,bundles/a7.java,x", "line 162: could not convert"),
        ("1003,bundles/a7.java,0.", "1003,bundles/a7.java,1e999", "line 162: a feature is not finite"),
        ("1003,bundles/a7.java,", "1003,bundles/a,7.java,", "line 162: the row has not as many fields"),
        ("1003,bundles/a7.java,", "1003,", "line 162: the row has not as many fields"),
        ("1003,bundles/a7.java,", "1003,bundles/a0.java,", "1003 has bundles/a0.java both as a right and as a wrong"),
        ("\n1", "\n9", "no report in common"),
        ("1003,bundles/a7.java,", f"1003,bundles/a7.java,{'x' * 200_000}", "line 162: could not convert"),
    ],
)
def test_a_damaged_table_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    write_table(tmp_path)
    path = tmp_path / "features.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)


def test_a_wrong_file_may_be_drawn_for_two_right_ones(tmp_path: Path) -> None:
    write_table(tmp_path)
    path = tmp_path / "features.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[2]]) + "\n")
    assert "rows=613" in bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1).provenance.source


def test_a_git_history_becomes_reports(tmp_path: Path) -> None:
    make_history(tmp_path / "clone")
    project = git_project.read_repository(tmp_path / "clone", "full")
    assert len(project.reports) == 24
    report = project.reports[3]
    assert report.fixed == {"Thing3.java"} and len(report.files) == 25
    assert [earlier.day < later.day for earlier, later in zip(project.reports, project.reports[1:], strict=False)]
    assert "appl" in report.words and "crash" in report.words
    assert "appl" in project.texts[report.files["Thing3.java"]]
    found = bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)
    assert found.provenance.source.startswith("git/clone@") and "reports=24" in found.provenance.source


def test_the_history_is_that_of_the_folder_whatever_repository_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_history(tmp_path / "clone")
    git(tmp_path, "init", "-q", "other")
    expected = git_project.read_repository(tmp_path / "clone", "full")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert git_project.read_repository(tmp_path / "clone", "full") == expected


def test_the_sets_own_folder_without_its_table_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bug-localization").mkdir()
    (tmp_path / "bug-localization" / "AspectJ.xml").touch()
    with pytest.raises(DataError, match=r"(?s)bug-localization holds no features\.csv\n.*layout: .*source: "):
        bug_sets.load_bug_set(tmp_path, "auto", "reduced", seed=1)
    (tmp_path / "bug-localization" / ".git").mkdir()
    assert feature_table.find_table(tmp_path) is None


def test_too_short_a_history_is_an_error(tmp_path: Path) -> None:
    make_history(tmp_path / "clone", fixes=3)
    with pytest.raises(DataError, match="3 usable fixing commits"):
        bug_sets.load_bug_set(tmp_path, "auto", "full", seed=1)


def test_without_data_the_source_says_so_and_the_original_is_not_faked(tmp_path: Path) -> None:
    assert bug_sets.load_bug_set(tmp_path, "auto", "reduced", 1).provenance.source.startswith("generated/project")
    with pytest.raises(DataError, match=r"(?s)features of the original not found.*features\.csv.*emredogan7"):
        bug_sets.load_bug_set(tmp_path, "original", "reduced", 1)


def test_a_control_keeps_the_number_of_answers_of_each_report(tmp_path: Path) -> None:
    write_table(tmp_path)
    true, control = (bug_sets.load_bug_set(tmp_path, "auto", "full", 1, shuffle) for shuffle in (False, True))
    assert not np.array_equal(true.candidates.right, control.candidates.right)
    per_report = [np.bincount(one.candidates.report, one.candidates.right) for one in (true, control)]
    assert np.array_equal(*per_report)
    assert "shuffled-labels" in control.provenance.source
    assert true.provenance.digest != control.provenance.digest


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a small table."""
    root = tmp_path_factory.mktemp("table")
    write_table(root)
    return root


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Mapping[str, Training]:
    """Base and changed trainings, forked from one process."""
    cases = {name: (*BASE, flag, repr(value)) for name, (flag, value) in CHANGES.items()}
    cases |= {"base": BASE, "again": BASE, "default": ("--kfold", "2"), "alias": (*BASE[2:], "--epochs", "4")}
    cases["too many folds"] = ("--kfold", "13")
    cases["too large a batch"] = ("--batch-size", "1000")
    cases["no GPU"] = ("--device", "cuda")
    return train_many(REPO, tmp_path_factory.mktemp("bugs"), cases, PRELOADED, PROFILER_DATA=str(table))


@pytest.mark.train
def test_the_event_contract(trainings: Mapping[str, Training]) -> None:
    training = trainings["base"]
    assert training.exit_code == 0, training.log
    assert not undeclared_metrics("bug-localization-by-dnn-and-rvsm", "default", training)
    assert [event["event"] for event in training.events] == ["config", "ready", "done"]
    assert training.event("done")["epochs"] == 4
    assert training.event("config")["facts"]["parameters"] == 2_101
    assert {path.name for path in training.folder.iterdir()} == {"checkpoint.npz", "events.jsonl", "training.log"}
    assert "Fold: 3 / 3" in training.log and "{1: 0." in training.log


@pytest.mark.train
@pytest.mark.parametrize("change", ["base", *CHANGES])
def test_effective_values_are_the_requested_ones_bit_for_bit(change: str, trainings: Mapping[str, Training]) -> None:
    wanted = REQUESTED | ({change: CHANGES[change][1]} if change in CHANGES else {})
    check_effective(trainings[change], wanted)


@pytest.mark.train
def test_every_hyperparameter_changes_the_training(trainings: Mapping[str, Training]) -> None:
    base = trainings["base"].metrics
    assert trainings["again"].metrics == base
    assert trainings["alias"].metrics == base
    for name in CHANGES:
        assert trainings[name].metrics["train_loss"] != base["train_loss"], name


@pytest.mark.train
def test_the_network_learns_and_ends_when_the_loss_stands_still(trainings: Mapping[str, Training]) -> None:
    training = trainings["default"]
    assert training.effective["max_iter"] == 10_000
    assert 30 < training.event("done")["epochs"] < 10_000
    assert training.metrics["top1_accuracy"] > 0.5


@pytest.mark.train
def test_what_cannot_work_is_said(trainings: Mapping[str, Training]) -> None:
    assert trainings["too many folds"].exit_code == 2 and "there are 12" in trainings["too many folds"].log
    batch = trainings["too large a batch"]
    assert batch.exit_code == 2 and "batch_size 1000 needs at least as many rows; a fold trains on 600" in batch.log
    assert trainings["no GPU"].exit_code == 3 and "on the CPU only" in trainings["no GPU"].log


@pytest.mark.train
def test_other_processes_and_two_threads_agree_to_the_bit(
    trainings: Mapping[str, Training], table: Path, tmp_path: Path
) -> None:
    process = start(REPO, tmp_path, *BASE, threads=2, PROFILER_DATA=str(table))
    training = collect(process.wait(timeout=120), tmp_path)
    assert training.exit_code == 0, training.log
    assert [event["event"] for event in training.events] == ["config", "ready", "done"]
    assert training.event("config")["facts"]["threads"] == 2
    assert training.metrics == trainings["base"].metrics


@pytest.mark.train
@pytest.mark.parametrize("threads", [1, 2])
def test_sigterm_ends_all_processes(threads: int, tmp_path: Path, table: Path) -> None:
    arguments = ("--max-iter", "1000000", "--learning-rate", "1e-09", "--batch-size", "1")
    process = start(REPO, tmp_path, *arguments, threads=threads, PROFILER_DATA=str(table))
    deadline = time.monotonic() + 60
    while not (tmp_path / "events.jsonl").exists() or "ready" not in (tmp_path / "events.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == (0 if threads == 1 else threads)
    process.send_signal(signal.SIGTERM)
    assert collect(process.wait(timeout=30), tmp_path).exit_code in (-signal.SIGTERM, 143)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
