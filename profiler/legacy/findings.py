"""Declares everything an import can find wrong in old data: name, verdict's reason, meaning, what is done about it.

`docs/import.md` is made from it. It detects nothing; each finding is seen in the module that reads the matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from profiler.reasons import REASONS, Level


@dataclass(frozen=True)
class Kind:
    """One finding: what it means and what the import does about it. `reason`: what it is in the run's verdict."""

    name: str
    meaning: str
    handling: str
    reason: str = "imported"

    @property
    def level(self) -> Level:
        return REASONS[self.reason].level


@dataclass(frozen=True)
class Seen:
    """A finding that holds for a run, and what was seen."""

    name: str
    evidence: str

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise ValueError(f"no finding {self.name!r}; there are {', '.join(KINDS)}")

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


_ALL = (
    # what the record says of the end
    Kind(
        "record_missing",
        "experiment.json is missing or damaged and no summary has the run: nothing says how it ended",
        "the folder's name gives repo and model, the energy files are kept, everything else is null",
        "imported_unproven",
    ),
    Kind(
        "record_damaged",
        "experiment.json is missing or damaged, but a row of a summary has the run",
        "the row speaks for the run",
    ),
    Kind("recorded_failure", "the record says training_success false", "kept: the run is failed", "imported_failure"),
    Kind(
        "failure_contradicted",
        "the record says failure although the primary metric is there; the older tool's flag could be wrong",
        "the run stays failed: nothing proves the opposite",
    ),
    Kind(
        "success_without_metric",
        "the record says success, but holds no primary metric (a success flag may be false)",
        "the run is failed; its energies are kept",
        "metric_missing",
    ),
    Kind(
        "success_message_as_error",
        "error_message reads like a success",
        "error_message is empty; the text is kept in extra",
    ),
    Kind(
        "failed_attempts_lost",
        "the run was retried; the older tool kept nothing of the attempts before",
        "attempt is retries + 1; time and energy of the earlier attempts are not known",
    ),
    # who it was
    Kind(
        "repository_only_in_foreground",
        "a parallel record without top-level repository and model",
        "taken from `foreground`",
    ),
    Kind("repository_from_id", "repository and model are blank", "taken from the experiment id, where it names them"),
    Kind("id_repeated", "the same experiment id belongs to several runs", "each run gets an id of its own"),
    Kind(
        "unknown_model",
        "no manifest here knows the model, so nothing says which metric a success must have",
        "names, values and metrics stay as they are; the run is failed; import again once there is a manifest",
        "imported_unproven",
    ),
    # values
    Kind(
        "values_not_confirmed",
        "the record holds the values of the command line; no trainer reported what it used",
        "effective_source is argv",
        "effective_unknown",
    ),
    Kind(
        "values_incomplete",
        "the record holds only some of the hyperparameters",
        "the others are left out, not filled with defaults",
    ),
    Kind(
        "mode_inferred",
        "old records do not say whether values were mutated",
        "values that differ from the defaults count as mutated",
    ),
    Kind(
        "parameter_not_applied",
        "the recorded value is known not to be the one the old trainer used",
        "left out of hyperparameters, kept in requested_hyperparameters; the run is failed",
        "parameter_not_applied",
    ),
    Kind(
        "value_rounded",
        "the older tool passed values with 6 decimals: the trainer got another value than the record says",
        "hyperparameters has the rounded value, requested_hyperparameters the recorded one",
    ),
    Kind("unknown_parameter", "the model has no hyperparameter of that name", "kept under the recorded name"),
    # metrics
    Kind(
        "metric_is_a_count",
        "a number of right answers stands where a ratio should be (the numerator was read from the log)",
        "left out of metrics, kept in imported_figures; as the primary metric it is missing",
        "metric_out_of_range",
    ),
    Kind(
        "metric_out_of_range",
        "a metric lies outside the range of its manifest",
        "left out of metrics, kept in imported_figures",
        "metric_out_of_range",
    ),
    Kind("metric_in_percent", "a ratio was recorded in percent", "divided by 100; imported_figures has the percent"),
    Kind(
        "best_is_last_epoch",
        "best_val_accuracy is the value of the last epoch, not of the best",
        "left out of metrics, kept in imported_figures",
    ),
    Kind(
        "loss_printed_as_zero",
        "a loss of exactly 0: the old trainers printed few decimals",
        "left out of metrics, kept in imported_figures",
    ),
    # energy
    Kind(
        "gpu_joules_are_a_sum",
        "recorded GPU joules are a sum of samples taken as 1 s each, while the sampler took longer",
        "gpu_energy_integral_j is the trapezoid over the time stamps; imported_figures has the sum",
    ),
    Kind(
        "gpu_joules_unverifiable",
        "recorded GPU joules without a trace to recompute them from; they are known to be too low",
        "gpu_energy_j is null; imported_figures has the recorded value",
    ),
    Kind("zero_means_missing", "a recorded 0 where no 0 can be", "null; imported_figures has the 0"),
    Kind(
        "cpu_energy_is_system_wide",
        "CPU joules are those of the whole machine, though described as the process's",
        "the columns have always meant the whole node; the figure is taken over",
    ),
    Kind(
        "cpu_energy_inconsistent",
        "the record, cpu_energy.txt and the words of perf do not agree, or the total is not the sum",
        "the columns have what perf printed",
    ),
    Kind(
        "figure_differs_from_trace",
        "a recorded figure is not what the energy files give",
        "the columns have what the files give; imported_figures has the recorded value",
    ),
    Kind(
        "trace_has_holes",
        "the sampler was held up: samples are missing",
        "holes are bridged by straight lines; over 5 % of the run in one hole, gpu_energy_j is null",
    ),
    Kind(
        "trace_shorter_than_run",
        "the trace covers less than 90 % of the run's duration",
        "gpu_energy_j is null; gpu_energy_integral_j covers only the trace",
        "too_short",
    ),
    Kind("damaged_files", "lines or cells of the energy files are torn", "they are absent; the rest is used"),
    # background and conditions
    Kind(
        "background_never_used_gpu",
        "the background was no load on the GPU: its model computed on the CPU",
        "the run is not safe",
        "background_idle",
    ),
    Kind(
        "background_hardly_used_gpu",
        "alone, the model of the background used the GPU only a few percent of the time",
        "told, no more: it may be the load that was wanted",
    ),
    Kind(
        "background_started_late",
        "the GPU was idle at the start of the trace, when the background should have been at work",
        "told, no more",
    ),
    Kind(
        "background_unknown",
        "the record of a parallel run does not name its background",
        "the background's columns are null; the run is not safe",
        "conditions_unknown",
    ),
    Kind(
        "computed_on_cpu",
        "alone, the training hardly used the GPU although the model has a GPU trainer",
        "told, no more: its energies are those of a training on the CPU",
    ),
    Kind(
        "conditions_not_recorded",
        "the older tool contained nothing and recorded nobody else on the GPU",
        "the run is not safe, unless you vouch for it with --trust-conditions",
        "conditions_unknown",
    ),
    Kind(
        "left_out_of_safe_summary",
        "a hand-made safe summary leaves the run out",
        "the run is not safe",
        "conditions_unknown",
    ),
    # time and files
    Kind(
        "local_time",
        "times are local and name no zone",
        "the zone comes from the epoch seconds of the trace, else started_at and ended_at are null",
    ),
    Kind("summary_differs", "a summary says something else than experiment.json", "experiment.json speaks"),
    Kind(
        "summary_cut",
        "the summary ends without a line end right after this run: its last cell may have been cut",
        "taken over as it stands",
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every finding, by subject."""


def names_of(seen: Iterable[Seen]) -> list[str]:
    """The names that occur, in declared order."""
    there = {one.name for one in seen}
    return [name for name in KINDS if name in there]
