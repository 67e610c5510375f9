"""The ways a trainer ends early, each with its exit code; it handles none of them (`_kit.run` does)."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_RUN = 3
EXIT_OUT_OF_MEMORY = 12


class TrainerError(Exception):
    """Something the user can put right; its text goes to stderr without a traceback."""

    exit_code = EXIT_FAILED
    kind = "error"


class UsageError(TrainerError):
    """An option has a value that cannot work with the others or with the data."""

    exit_code = EXIT_USAGE
    kind = "usage"


class CannotRunError(TrainerError):
    """The machine lacks what was asked for: a device, a package, a data set."""

    exit_code = EXIT_CANNOT_RUN
    kind = "cannot_run"


class DataError(CannotRunError):
    """A data set is missing or is not in the layout it should have."""

    kind = "data_missing"


class StoppedError(Exception):
    """The trainer was asked to stop (SIGTERM, Ctrl-C); raised between two steps, so the model is consistent."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
