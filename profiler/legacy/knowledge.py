"""What is known of the older tool's own trainers and cannot be seen in a record of theirs. Facts only; no code."""

from __future__ import annotations

from typing import Any

Model = tuple[str, str]

OLD_DEFAULTS: dict[Model, dict[str, Any]] = {
    ("Person_reID_baseline_pytorch", "pcb"): {"learning_rate": 0.05},
    ("examples", "mnist_forward_forward"): {"batch_size": 32},
}
"""Defaults of the older tool that are not those of the manifests here."""

NOT_APPLIED: dict[Model, dict[str, str]] = {
    ("Person_reID_baseline_pytorch", "pcb"): {
        "learning_rate": "a preset of the old trainer overrode the command line; its logs say 0.02 whatever the record"
    },
    ("examples", "mnist_forward_forward"): {"batch_size": "the old trainer took it for the size of the training set"},
}
"""Hyperparameters whose recorded value the old trainer did not use, and how that is known."""

CPU_ONLY: dict[Model, str] = {
    ("examples", "mnist_rnn"): "its old trainer computed on the CPU",
    ("bug-localization-by-dnn-and-rvsm", "default"): "it trains on the CPU only",
}
"""Models that never used the GPU in the older tool: as a background they are no load on it."""

COUNTED: dict[Model, frozenset[str]] = {("MRT-OAST", "default"): frozenset({"accuracy"})}
"""Metrics for which the old log reader took the numerator of `right / all`, a count."""

DECIMALS = 6
"""The older tool wrote values to the command line with that many decimals."""
