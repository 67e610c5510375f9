"""What it means for a campaign to be a job of `ray job submit`: its own modules, and a folder that Ray removes. It
submits nothing."""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from pathlib import Path

from profiler.errors import UsageError

_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_OVERRIDE = "RAY_OVERRIDE_JOB_RUNTIME_ENV"
_UNPACKED = {"runtime_resources", "working_dir_files"}


def beside_job_modules(own: list[str], environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """The `py_modules` for `ray.init`: those that the job was submitted with, and `own`. Ray takes one list of them,
    and is told here that the driver's counts."""
    config = json.loads(environment.get(_CONFIG) or "{}")
    given = (config.get("runtime_env") or {}).get("py_modules") or []
    if given:
        environment[_OVERRIDE] = "1"
    return [*given, *own]


def check_kept(results: Path) -> None:
    """Raises UsageError when `results` lies in the copy of a working directory that Ray made for this job: it goes with
    the job."""
    if set(results.resolve().parts) >= _UNPACKED:
        raise UsageError(
            f"--results {results} is {results.resolve()}, which Ray removes after the job\n"
            "give the results an absolute folder of that machine: --results /ABSOLUTE/FOLDER"
        )
