"""The five features of each pair of a report and a file that it could mean (after Lam et al. 2017; numpy, scipy).

A report's candidates are the files that its fix changed and WRONG_FILES others: the most similar ones of twice as
many drawn at random. Every candidate has its own history features; taken from the right file, as some tables do, they
would tell nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bug_projects import Project, Report
from generated_project import class_name
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

FEATURES = ("rVSM_similarity", "collab_filter", "classname_similarity", "bug_recency", "bug_frequency")
WRONG_FILES = 50
DRAWN_FILES = 100
DAYS_A_MONTH = 30.4
SHORTEST_NAME = 4


@dataclass(frozen=True)
class Candidates:
    """`features` float64 [n, 5], `right` bool [n], `report` int [n]: the number of the report that a row belongs to."""

    features: np.ndarray
    right: np.ndarray
    report: np.ndarray

    @property
    def reports(self) -> int:
        """How many reports there are."""
        return int(self.report.max()) + 1


def find_candidates(project: Project, seed: int) -> Candidates:
    """The candidates of every report of a project; `seed` draws the wrong files."""
    draws = np.random.default_rng(seed)
    weights = TextWeights(project)
    history: dict[str, list[int]] = {}
    rows, right, report_numbers = [], [], []
    for number, report in enumerate(project.reports):
        paths = sorted(report.files)
        similarity = weights.rvsm(number, np.array([report.files[path] for path in paths]))
        chosen = _choose(paths, report, similarity, draws)
        for place in chosen:
            past = [earlier for earlier in history.get(paths[place], ()) if earlier < number]
            rows.append([similarity[place], *_history(project, weights, number, paths[place], past)])
            right.append(paths[place] in report.fixed)
            report_numbers.append(number)
        for path in report.fixed:
            history.setdefault(path, []).append(number)
    return Candidates(np.array(rows), np.array(right), np.array(report_numbers))


def _choose(paths: Sequence[str], report: Report, similarity: np.ndarray, draws: np.random.Generator) -> list[int]:
    fixed = [place for place, path in enumerate(paths) if path in report.fixed]
    others = np.array([place for place, path in enumerate(paths) if path not in report.fixed])
    drawn = draws.choice(others, min(DRAWN_FILES, len(others)), replace=False)
    best = drawn[np.argsort(-similarity[drawn], kind="stable")][:WRONG_FILES]
    return [*fixed, *best.tolist()]


def _history(project: Project, weights: "TextWeights", number: int, path: str, past: list[int]) -> list[float]:
    """collab_filter, classname_similarity, bug_recency and bug_frequency of one candidate."""
    report = project.reports[number]
    name = class_name(path)
    named = float(len(name)) if len(name) >= SHORTEST_NAME and name in weights.word_sets[number] else 0.0
    if not past:
        return [0.0, named, 0.0, 0.0]
    months = (report.day - project.reports[past[-1]].day) / DAYS_A_MONTH
    return [weights.likeness(number, past), named, 1 / (max(months, 0.0) + 1), float(len(past))]


class TextWeights:
    """tf-idf weights of all texts and reports of a project."""

    def __init__(self, project: Project) -> None:
        vectorizer = CountVectorizer(analyzer=lambda words: words)
        texts = vectorizer.fit_transform(project.texts)
        frequency = np.bincount(texts.indices, minlength=texts.shape[1])
        rarity = sparse.diags(np.log(texts.shape[0] / frequency))
        reports = vectorizer.transform([report.words for report in project.reports])
        self._texts = _unit(_dampened(texts) @ rarity)
        self._reports = _unit(_dampened(reports) @ rarity)
        self._length = np.asarray(texts.sum(axis=1)).ravel().astype(float)
        self._alike = (self._reports @ self._reports.T).toarray()
        self.word_sets = [set(report.words) for report in project.reports]

    def rvsm(self, report: int, texts: np.ndarray) -> np.ndarray:
        """rVSM similarity of a report to texts [n]: the cosine, times 1/2 for the shortest to 0.73 for the longest."""
        cosine = (self._texts[texts] @ self._reports[report].T).toarray().ravel()
        length = self._length[texts]
        spread = float(np.ptp(length)) or 1.0
        return cosine / (1 + np.exp(-(length - length.min()) / spread))

    def likeness(self, report: int, past: list[int]) -> float:
        """The cosine of a report and the sum of earlier ones."""
        norm = float(np.sqrt(self._alike[np.ix_(past, past)].sum()))
        return float(self._alike[report, past].sum()) / norm if norm else 0.0


def _dampened(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    weights = counts.astype(float)
    weights.data = 1 + np.log(weights.data)
    return weights


def _unit(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    weights = sparse.csr_matrix(weights)
    norm = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(norm > 0, norm, 1)) @ weights)
