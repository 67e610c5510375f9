"""``profiler run``: a campaign from a config file or from options. Drives nothing itself; the driver does."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from profiler import _own
from profiler.cli import campaign_run
from profiler.cli.plan import print_plan
from profiler.errors import UsageError

if TYPE_CHECKING:
    from profiler.config import Campaign

# option -> the config key that says the same in a file
_ONLY_WITH_OPTIONS = {
    "model": None,
    "mutate": None,
    "runs": "runs_per_config",
    "governor": "governor",
    "max_retries": "max_retries",
    "seed": "seed",
    "checkout": "experiments.0.checkout",
    "python": "experiments.0.python",
}
_SHORT = {
    "repo": "-r",
    "model": "-m",
    "mutate": "-mt",
    "runs": "-n",
    "governor": "-g",
    "max_retries": "-mr",
    "seed": "-s",
    "checkout": "--checkout",
    "python": "--python",
}


def execute(options: Namespace) -> int:
    """Runs the campaign, or with ``--dry-run`` only shows its plan. The exit code says how the runs ended."""
    campaign = campaign_of(options)
    if options.dry_run:
        return print_plan(campaign, as_json=options.json)
    driver = _own.driver()
    return campaign_run.conduct(
        lambda observer: driver.run_campaign(
            campaign,
            results=options.results,
            address=options.address,
            observer=observer,
            governor_optional=options.governor_optional,
            allow_uncontained=options.allow_uncontained,
            require=options.require,
        ),
        as_json=options.json,
    )


def campaign_of(options: Namespace) -> Campaign:
    """The campaign that the command line means. UsageError for a mixture of the two ways, or neither."""
    from profiler import config

    file = _config_file(options)
    if file is not None:
        _refuse_options_beside(options, file)
        return config.load(Path(file), options.overrides)
    _require_options(options)
    given = {name: value for name in ("runs", "max_retries") if (value := getattr(options, name)) is not None}
    return config.campaign_from_options(
        options.repo,
        options.model,
        options.mutate,
        governor=options.governor,
        seed=options.seed,
        overrides=options.overrides,
        checkout=options.checkout,
        python=options.python,
        **given,
    )


def _config_file(options: Namespace) -> str | None:
    if options.config is not None and options.experiment_config is not None:
        raise UsageError("give the config file once: as CONFIG or with -ec, not both")
    chosen: str | None = options.config if options.config is not None else options.experiment_config
    return chosen


def _refuse_options_beside(options: Namespace, file: str) -> None:
    if options.repo is not None:
        raise UsageError(
            f"a config file ({file}) and -r exclude each other: the file says what runs\n"
            "try: profiler run CONFIG, or profiler run -r REPO -m MODEL -mt PARAMS"
        )
    for name, key in _ONLY_WITH_OPTIONS.items():
        value = getattr(options, name)
        if value is None:
            continue
        hint = _in_a_config(key, value) if key else "say it in the config file"
        raise UsageError(f"{_SHORT[name]} goes with -r, not with a config file ({file})\n{hint}")


def _in_a_config(key: str, value: object) -> str:
    """How a config campaign is told the same."""
    from profiler.config.keys import levels_of

    hint = f"in a config campaign use: --set {key}={value}"
    if "E" in levels_of(key):
        hint += f"\nan item that says its own keeps it; for the first one: --set experiments.0.{key}={value}"
    return hint


def _require_options(options: Namespace) -> None:
    missing = [name for name in ("repo", "model", "mutate") if getattr(options, name) is None]
    if len(missing) == 3:
        raise UsageError(
            "what shall run? give a config file, or -r REPO -m MODEL -mt PARAMS\n"
            "example: profiler run configs/quickstart.yaml\n"
            "example: profiler run -r examples -m mnist_cnn -mt learning_rate,epochs"
        )
    if missing:
        wanted = " and ".join(f"{_SHORT[name]}/--{name}" for name in missing)
        hint = "\n-mt names the hyper-parameters to mutate, comma-separated, or all" if "mutate" in missing else ""
        raise UsageError(f"{wanted} missing: -r, -m and -mt go together{hint}\nnames: profiler list")
