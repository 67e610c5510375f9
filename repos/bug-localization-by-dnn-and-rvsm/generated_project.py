"""Invents a project with modules, files and bug reports when there is no real one; the same one every time.

A file's words are its own, its module's and common ones (Zipf); a report takes words of the file it means, of its
module and of others, and sometimes its name. Files that had bugs lately are more likely to have the next one.
"""

from collections.abc import Sequence

import numpy as np
from bug_projects import Project, Report

SEED = 23
FULL, REDUCED = (40, 10, 500), (15, 8, 100)  # modules, files of each, reports
COMMON, TOPICS, OF_MODULE, OF_FILE = 600, 1500, 60, 30
FILE_WORDS, REPORT_WORDS = (120, 500), (15, 60)
FILE_SHARES = (0.2, 0.3, 0.5)  # own, the module's, common words
REPORT_SHARES = (0.06, 0.12, 0.15, 0.67)  # the meant file's, its module's, another file's, common words
DAYS_BETWEEN = 2.0
NAMED = 0.1


def generate(size: str) -> Project:
    """A project of the given size."""
    modules, files_each, reports = FULL if size == "full" else REDUCED
    draws = np.random.default_rng(SEED)
    paths = [f"module{m}/Part{_name(m * files_each + f)}.java" for m in range(modules) for f in range(files_each)]
    module_of = np.repeat(np.arange(modules), files_each)
    topics = np.array([f"topic{number}" for number in range(TOPICS)])
    own_words = [draws.choice(topics, OF_FILE, replace=False) for _ in paths]
    module_words = [draws.choice(topics, OF_MODULE, replace=False) for _ in range(modules)]
    common = np.array([f"common{number}" for number in range(COMMON)])
    words_of = [(own_words[file], module_words[module_of[file]], common) for file in range(len(paths))]
    texts = [_mixture(words, FILE_SHARES, int(draws.integers(*FILE_WORDS)), draws) for words in words_of]
    files = {path: number for number, path in enumerate(paths)}
    heat = draws.exponential(1.0, len(paths))
    day = 0.0
    made = []
    for number in range(reports):
        day += float(draws.exponential(DAYS_BETWEEN))
        heat *= 0.97
        fixed = draws.choice(len(paths), size=1 + int(draws.random() < 0.2), replace=False, p=heat / heat.sum())
        heat[fixed] += 1.5
        meant, astray = int(draws.choice(fixed)), int(draws.integers(len(paths)))
        vocabularies = (*words_of[meant][:2], own_words[astray], common)
        text = _mixture(vocabularies, REPORT_SHARES, int(draws.integers(*REPORT_WORDS)), draws)
        if draws.random() < NAMED:
            text.append(class_name(paths[meant]))
        made.append(Report(f"bug{number}", day, text, frozenset(paths[file] for file in fixed), files))
    return Project(f"generated/project files={len(paths)}", made, texts)


def _name(number: int) -> str:
    letters = "bcdfghjklmnpqrstvwxz"
    return f"{letters[number % 20]}o{letters[number // 20 % 20]}a{letters[number // 400 % 20]}"


def _mixture(
    vocabularies: Sequence[np.ndarray], shares: Sequence[float], count: int, draws: np.random.Generator
) -> list[str]:
    """`count` words, of each vocabulary its share; its first words are the most frequent (Zipf)."""
    words: list[str] = []
    for vocabulary, share in zip(vocabularies, shares, strict=True):
        weight = 1 / np.arange(1, len(vocabulary) + 1)
        words += draws.choice(vocabulary, round(count * share), p=weight / weight.sum()).tolist()
    return words


def class_name(path: str) -> str:
    """The lower-case name of the class that a file is named after."""
    return path.rsplit("/", 1)[-1].split(".", 1)[0].lower()
