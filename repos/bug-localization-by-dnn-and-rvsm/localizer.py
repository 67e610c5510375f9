"""Ranks files for bug reports with a small network, tested by k-fold cross-validation (scikit-learn).

Every fold trains on the other folds' reports and ranks the files of its own. Folds run side by side in as many
processes as there are threads; each is the same whatever their number.
"""

import math
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import sklearn
from _kit import array_checkpoint
from _kit.errors import UsageError
from _kit.run import Run
from bug_sets import BugSet
from candidates import Candidates
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

HIDDEN = (300,)
PATIENCE, TOLERANCE = 30, 1e-4
POSITIVE_COPIES = 10
LARGEST_AUTO_BATCH = 200
BEST = range(1, 21)
REPORTED = (1, 5, 10, 20)
POLL_S = 0.05


class WatchedRegressor(MLPRegressor):
    """scikit-learn's regressor that calls `on_epoch` after each epoch.

    It hooks into the method that scikit-learn calls to decide on early stopping, the only one between two epochs. If a
    later version renames it, trainings still work, but tell nothing before a fold's end.
    """

    on_epoch: Callable[[], None] | None = None

    def _update_no_improvement_count(self, *arguments: Any, **named: Any) -> None:
        super()._update_no_improvement_count(*arguments, **named)
        if self.on_epoch is not None:
            self.on_epoch()


@dataclass(frozen=True)
class FoldResult:
    """For each report of a fold the rank (from 1) of its best right file by network and by rVSM; epochs, last loss.
    Of a network that diverged ranks and loss are NaN."""

    ranks: np.ndarray
    rvsm_ranks: np.ndarray
    epochs: int
    loss: float
    weights: list[np.ndarray]


@dataclass(frozen=True)
class Job:
    """Everything that the folds share."""

    network: WatchedRegressor
    candidates: Candidates
    folds: list[tuple[np.ndarray, np.ndarray]]
    run: Run


def train(options: Namespace, run: Run, data: BugSet, threads: int) -> None:
    """Cross-validate and report top-1, 5, 10 and 20 accuracy (ratios) over all reports."""
    candidates = data.candidates
    if options.kfold > candidates.reports:
        raise UsageError(f"kfold {options.kfold} needs at least as many reports; there are {candidates.reports}")
    splitter = KFold(options.kfold, shuffle=True, random_state=options.seed)
    folds = list(splitter.split(np.arange(candidates.reports)))
    job = Job(make_network(options), candidates, folds, run)
    fewest = fewest_training_rows(job)
    if options.batch_size and options.batch_size > fewest:
        raise UsageError(f"batch_size {options.batch_size} needs at least as many rows; a fold trains on {fewest}")
    run.config(
        {**effective_values(job), "kfold": splitter.get_n_splits(), "size": data.size},
        data.provenance,
        parameters=sum(a * b + b for a, b in zip((candidates.features.shape[1], *HIDDEN), (*HIDDEN, 1), strict=True)),
        optimizer="SGD",
        device="cpu",
        threads=threads,
        scikit_learn=sklearn.__version__,
    )
    results: list[FoldResult] = []
    if not options.no_checkpoint:
        run.save_checkpoint = lambda: array_checkpoint.save(_all_weights(results))
    for result in run_folds(job, min(threads, len(folds))):
        results.append(result)
        run.say(f"Fold: {len(results)} / {len(folds)}\tepochs {result.epochs}\tloss {result.loss:.6f}")
    ranks = np.concatenate([result.ranks for result in results])
    rvsm_ranks = np.concatenate([result.rvsm_ranks for result in results])
    run.say(str({k: round(top(ranks, k), 3) for k in BEST}))
    run.say(str({k: round(top(rvsm_ranks, k), 3) for k in BEST}))
    metrics = {f"top{k}_accuracy": top(ranks, k) for k in REPORTED}
    metrics |= {f"rvsm_top{k}_accuracy": top(rvsm_ranks, k) for k in REPORTED}
    metrics["train_loss"] = float(np.mean([result.loss for result in results]))
    run.done(metrics, epochs=max(result.epochs for result in results))


def make_network(options: Namespace) -> WatchedRegressor:
    """The network as the options want it; untrained."""
    return WatchedRegressor(
        hidden_layer_sizes=HIDDEN,
        solver="sgd",
        alpha=options.alpha,
        batch_size=options.batch_size or "auto",
        learning_rate_init=options.learning_rate,
        max_iter=options.max_iter,
        n_iter_no_change=PATIENCE,
        tol=TOLERANCE,
        random_state=options.seed,
    )


def effective_values(job: Job) -> dict[str, int | float]:
    """The hyperparameters read back from the network; batch_size "auto" as the number that it comes to."""
    set_to = job.network.get_params()
    auto = min(LARGEST_AUTO_BATCH, fewest_training_rows(job))
    return {
        "max_iter": set_to["max_iter"],
        "alpha": set_to["alpha"],
        "learning_rate": set_to["learning_rate_init"],
        "batch_size": auto if set_to["batch_size"] == "auto" else set_to["batch_size"],
        "seed": set_to["random_state"],
    }


def fewest_training_rows(job: Job) -> int:
    """The fewest rows that a fold trains on; scikit-learn would cut a larger batch to them."""
    return min(len(_training_rows(job, fold)) for fold in range(len(job.folds)))


def run_folds(job: Job, processes: int) -> Iterator[FoldResult]:
    """The results of all folds in order; in this process if `processes` is 1."""
    if processes == 1:
        for fold in range(len(job.folds)):
            yield train_fold(job, fold)
        return
    with get_context("fork").Pool(processes, initializer=_receive, initargs=(job,)) as pool:
        for pending in [pool.apply_async(_train_received, (fold,)) for fold in range(len(job.folds))]:
            while not pending.ready():
                pending.wait(POLL_S)
                job.run.check_stop()
            yield pending.get()


def train_fold(job: Job, fold: int) -> FoldResult:
    """Train on the reports outside the fold, rank the files of those in it."""
    network = make_copy(job.network)
    # The first fold tells that training has begun; the others only listen for a stop.
    network.on_epoch = job.run.step if fold == 0 else job.run.check_stop
    candidates, rows = job.candidates, _training_rows(job, fold)
    low = candidates.features[rows].min(axis=0)
    spread = np.ptp(candidates.features[rows], axis=0)
    features = (candidates.features - low) / np.where(spread > 0, spread, 1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is a choice here, not an accident
        diverged = not fitted(network, features[rows], candidates.right[rows].astype(float))
        scores = np.full(len(features), np.nan) if diverged else network.predict(features)
    tested = job.folds[fold][1]
    return FoldResult(
        best_ranks(candidates, scores, tested),
        best_ranks(candidates, candidates.features[:, 0], tested),
        network.n_iter_,
        math.nan if diverged else float(network.loss_),
        [*network.coefs_, *network.intercepts_],
    )


def fitted(network: WatchedRegressor, features: np.ndarray, right: np.ndarray) -> bool:
    """Train the network; False if it diverged, which scikit-learn tells by an error without a type of its own."""
    try:
        network.fit(features, right)
    except ValueError:
        if all(np.isfinite(weights).all() for weights in getattr(network, "coefs_", ())):
            raise
        return False
    return True


def make_copy(network: WatchedRegressor) -> WatchedRegressor:
    """An untrained network with the same parameters."""
    return WatchedRegressor(**network.get_params())


def best_ranks(candidates: Candidates, scores: np.ndarray, reports: np.ndarray) -> np.ndarray:
    """For each of `reports` the rank, from 1, of its best right file; ties count against it. NaN where a score
    is NaN, which no other is above."""
    ranks = []
    for report in reports:
        of_report = candidates.report == report
        right = candidates.right[of_report]
        best = scores[of_report][right].max()
        above = np.sum(scores[of_report][~right] >= best)
        ranks.append(math.nan if np.isnan(scores[of_report]).any() else 1 + int(above))
    return np.array(ranks)


def top(ranks: np.ndarray, k: int) -> float:
    """The share of reports with a right file among the first k; NaN if a rank is."""
    return math.nan if np.isnan(ranks).any() else float(np.mean(ranks <= k))


def _training_rows(job: Job, fold: int) -> np.ndarray:
    """Row numbers of the reports outside the fold; right answers several times, since they are one in fifty."""
    rows = np.flatnonzero(np.isin(job.candidates.report, job.folds[fold][0]))
    right = rows[job.candidates.right[rows]]
    return np.concatenate([rows, np.repeat(right, POSITIVE_COPIES - 1)])


def _all_weights(results: list[FoldResult]) -> dict[str, np.ndarray]:
    return {f"fold{n}_{m}": array for n, result in enumerate(results) for m, array in enumerate(result.weights)}


_job: Job | None = None


def _receive(job: Job) -> None:
    global _job
    _job = job


def _train_received(fold: int) -> FoldResult:
    if _job is None:
        raise RuntimeError("this process was not given a job")
    return train_fold(_job, fold)
