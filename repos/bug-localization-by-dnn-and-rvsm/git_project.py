"""Makes a project from the history of a git repository: fixing commits are the reports, their parents the files.

It runs the `git` command and changes nothing. A report's words are the commit's message; what its fix changed are the
source files that the commit modified.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from _kit.errors import DataError
from bug_projects import Project, Report
from report_words import words

FIX = re.compile(r"\b(fix(es|ed|ing)?|bugs?|defects?|faults?|crash(es|ed)?|errors?|broken|wrong|incorrect)\b", re.I)
SUFFIXES = {
    ".c",
    ".cc",
    ".cpp",
    ".cs",
    ".go",
    ".h",
    ".hpp",
    ".java",
    ".js",
    ".kt",
    ".php",
    ".py",
    ".rb",
    ".rs",
    ".scala",
    ".ts",
}
REPORTS = {"full": 500, "reduced": 100}
LONGEST_FILE = 200_000
FEWEST_REPORTS, FEWEST_FILES = 20, 20
MOST_FIXED = 10
DAY_S = 86_400
FIELD, RECORD = "\x1f", "\x1e"


def find_repository(folder: Path) -> Path | None:
    """`folder` or the first folder in it (by name) that is a git repository, else None."""
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
    return next((path for path in candidates if (path / ".git").exists() or (path / "HEAD").is_file()), None)


def read_repository(folder: Path, size: str) -> Project:
    """The latest fixing commits of a repository; DataError when there are too few or git cannot read it."""
    head = _git(folder, "rev-parse", "HEAD").strip()
    commits = _fixing_commits(folder)[: REPORTS[size]]
    trees = {commit[0]: _tree(folder, f"{commit[0]}^") for commit in commits}
    blobs = sorted({blob for tree in trees.values() for blob in tree.values()})
    number_of = {blob: number for number, blob in enumerate(blobs)}
    reports = []
    for commit, day, message, changed in reversed(commits):
        files = {path: number_of[blob] for path, blob in trees[commit].items()}
        fixed = frozenset(changed) & files.keys()
        if 0 < len(fixed) <= MOST_FIXED and len(files) >= FEWEST_FILES:
            reports.append(Report(commit, day, words(message), fixed, files))
    if len(reports) < FEWEST_REPORTS:
        raise DataError(f"{folder} has {len(reports)} usable fixing commits; at least {FEWEST_REPORTS} are needed")
    texts = [words(text) for text in _contents(folder, blobs)]
    return Project(f"git/{folder.resolve().name}@{head[:12]}", reports, texts)


def _fixing_commits(folder: Path) -> list[tuple[str, float, str, list[str]]]:
    """(commit, day, message, modified files), the latest first."""
    shape = f"--format={RECORD}%H{FIELD}%ct{FIELD}%B{FIELD}"
    log = _git(folder, "log", "--no-merges", "--diff-filter=M", "--name-only", "-z", "--min-parents=1", shape)
    found = []
    for record in log.split(RECORD)[1:]:
        commit, stamp, message, names = record.split(FIELD, 3)
        changed = [name for name in re.split(r"[\0\n]", names) if Path(name).suffix in SUFFIXES]
        if changed and FIX.search(message):
            found.append((commit, int(stamp) / DAY_S, message, changed))
    return found


def _tree(folder: Path, commit: str) -> dict[str, str]:
    """Source files of a commit: path to blob."""
    files = {}
    for line in _git(folder, "ls-tree", "-r", "-l", "-z", commit).split("\0"):
        about, _, path = line.partition("\t")
        fields = about.split()
        if (
            len(fields) == 4
            and fields[1] == "blob"
            and Path(path).suffix in SUFFIXES
            and int(fields[3]) <= LONGEST_FILE
        ):
            files[path] = fields[2]
    return files


def _contents(folder: Path, blobs: Iterable[str]) -> list[str]:
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    raw = _git_bytes(folder, ["cat-file", "--batch"], asked)
    texts, position = [], 0
    while position < len(raw):
        end = raw.index(b"\n", position)
        length = int(raw[position:end].split()[-1])
        texts.append(raw[end + 1 : end + 1 + length].decode(errors="replace"))
        position = end + length + 2
    return texts


def _git(folder: Path, *arguments: str) -> str:
    return _git_bytes(folder, list(arguments)).decode(errors="replace")


def _git_bytes(folder: Path, arguments: list[str], given: bytes = b"") -> bytes:
    command = ["git", "-c", f"safe.directory={folder.resolve()}", "-C", str(folder), *arguments]
    # GIT_DIR and the like, as a hook of git has them, name a repository that is not this folder's.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(command, input=given, capture_output=True, check=True, env=own).stdout
    except FileNotFoundError as error:
        raise DataError("reading a git repository needs the program git") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"git cannot read {folder}: {error.stderr.decode(errors='replace').strip()}") from error
