"""How often planted effects are recovered, and how often nothing is called a difference: 1,000 data sets of each kind.

    python -m tests.benchmarks.effects_recovery [--trials 1000] [-o docs/measurements/effects-recovery.json]

The same seed gives the same figures on every machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.analysis.recovery import KINDS, Alarms, Recovery, alarms, recovery

SEED = 7
RUNS_A_CAMPAIGN = 10


def figures(trials: int) -> dict[str, Any]:
    """Shares in percent beside the counts they come from. A quarter of the trials goes to what nobody demands."""
    fewer = max(1, trials // 4)
    recovery(24, 1, SEED)  # what is imported now need not be searched for garbage in every trial
    gc.freeze()
    return {
        "seed": SEED,
        "interval": "95 %",
        "effects": [_recovered(recovery(24, trials, SEED)), _recovered(recovery(60, fewer, SEED))],
        "a_against_a": [_alarmed(alarms(kind, RUNS_A_CAMPAIGN, trials, SEED)) for kind in KINDS],
        "b_has_5_percent_more_gpu_energy": [
            _alarmed(alarms(kind, RUNS_A_CAMPAIGN, fewer, SEED, more_energy=0.05)) for kind in KINDS
        ],
    }


def _recovered(found: Recovery) -> dict[str, Any]:
    share = {what: 100 * count / found.trials for what, count in found.inside.items()}
    called = {what: 100 * count / found.trials for what, count in found.significant.items()}
    told = {
        "runs_a_mode": found.runs,
        "trials": found.trials,
        "truth_inside_interval_percent": share,
        "called_significant_percent": called,
        "share_of_significant_effects_that_do_not_exist_percent": 100 * found.false_share,
    }
    print(json.dumps(told), file=sys.stderr, flush=True)
    return told


def _alarmed(found: Alarms) -> dict[str, Any]:
    told = {
        **asdict(found),
        "campaigns_called_different_percent": 100 * found.alarmed / found.trials,
        "figures_called_different_percent": 100 * found.different / found.tests,
    }
    print(json.dumps(told), file=sys.stderr, flush=True)
    return told


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, help="write the figures to this file too")
    options = parser.parse_args(arguments)
    text = json.dumps(figures(options.trials), indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
