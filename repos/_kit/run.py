"""One training from the outside: its events, its progress lines, its way to end; it trains nothing itself.

`main(train)` runs `train(run)` and turns what happens into an exit code: 0 after `done`, 2 usage, 3 cannot run here,
12 out of memory (with an `oom` event), 1 anything else (with its traceback), death by the signal when stopped.
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from _kit.data import Provenance
from _kit.errors import EXIT_FAILED, EXIT_OUT_OF_MEMORY, StoppedError, TrainerError
from _kit.events import Events, plain, rank
from _kit.stopping import StopRequest, end_by_signal

T = TypeVar("T")
REPEAT_VARIABLE = "PROFILER_BACKGROUND_REPEAT"
CUDA_SIGNS = (
    "CUDA out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA_ERROR_OUT_OF_MEMORY",
)
HOST_SIGNS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


class Run:
    """What a training tells the world. The order is: config, step ... (ready), epoch ..., done."""

    def __init__(self, events: Events, stop: StopRequest, loaded: list[Any] | None = None) -> None:
        self._events = events
        self._stop = stop
        self._loaded = [] if loaded is None else loaded
        self._loads = 0
        self._ready = False
        self.epochs_done = 0
        self.save_checkpoint: Callable[[], object] | None = None

    def load(self, read: Callable[..., T], *arguments: Any) -> T:
        """The data that `read(*arguments)` gives, which no training may change: in a process that trains again, the
        first call of the next training has what the first call of this one had, and so on."""
        if self._loads == len(self._loaded):
            with _no_garbage_collection():
                self._loaded.append((read, read(*arguments)))
        data: T
        before, data = self._loaded[self._loads]
        if before is not read:
            raise ValueError(f"load {self._loads + 1} of this training is {read}, that of the first was {before}")
        self._loads += 1
        return data

    def config(self, hyperparameters: Mapping[str, Any], data: Provenance, **facts: Any) -> None:
        """Report the effective hyperparameters (read back from the real objects), the data and further facts."""
        values = ", ".join(f"{name}={value!r}" for name, value in {**hyperparameters, **facts}.items())
        self.say(f"Config: {values}")
        self.say(f"Data: {data.source} ({data.digest})")
        self._events.emit(
            "config",
            hyperparameters=dict(hyperparameters),
            data_source=data.source,
            data_hash=data.digest,
            facts=facts,
        )

    def step(self) -> None:
        """Call after each optimiser step: the first one is reported as `ready`; raises StoppedError when asked to."""
        if not self._ready:
            self._ready = True
            self._events.emit("ready")
        self._stop.check()

    def check_stop(self) -> None:
        """Raise StoppedError if asked to stop; for loops that take no optimiser step (loading, evaluation)."""
        self._stop.check()

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Report the end of one more epoch, counted here, with its metrics."""
        self.epochs_done += 1
        self._events.emit("epoch", epoch=self.epochs_done, metrics=plain(metrics))
        self._stop.check()

    def done(self, metrics: Mapping[str, float], epochs: int | None = None) -> None:
        """Save the checkpoint, then report the final metrics and the number of epochs that really ran.

        `epochs` is for trainers whose epochs run inside a library, unseen by `epoch`.
        """
        if epochs is not None:
            self.epochs_done = epochs
        if self.save_checkpoint is not None:
            self.save_checkpoint()
        shown = ", ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        self.say(f"Done: {self.epochs_done} epochs, {shown}")
        self._events.emit("done", metrics=plain(metrics), epochs=self.epochs_done)

    def out_of_memory(self, where: str, message: str) -> None:
        """Report that memory ran out on "cuda" or "host"."""
        self._events.emit("oom", where=where, message=message[:500])

    def failed(self, error: TrainerError) -> None:
        """Report an error that the user can put right, by its kind."""
        self._events.emit("error", kind=error.kind, message=str(error)[:500])

    @staticmethod
    def say(line: str) -> None:
        """Print one progress line at once."""
        print(line, flush=True)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Reading makes millions of objects that stay, and the collector would look through them again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def out_of_memory_place(error: BaseException) -> str | None:
    """ "cuda" or "host" when the error means that memory ran out there, else None."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in CUDA_SIGNS):
        return "cuda"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in HOST_SIGNS)):
        return "host"
    return None


def main(train: Callable[[Run], None]) -> int:
    """Run `train` and return the process's exit code; after a stop signal the process ends by that signal instead.

    With PROFILER_BACKGROUND_REPEAT=1 it runs `train` afresh each time it has ended well: a warm process that loads its
    device until it is stopped. Only the data stay (`Run.load`).
    """
    if rank() != 0:  # process 0 of a team speaks for all (see `_kit.team`)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    events, stop = Events.from_environment(), StopRequest()
    stop.install()
    loaded: list[Any] = []
    status = _train(train, Run(events, stop, loaded))
    while status == 0 and os.environ.get(REPEAT_VARIABLE) == "1":
        status = _train(train, Run(events, stop, loaded))
    return status


def _train(train: Callable[[Run], None], run: Run) -> int:
    try:
        train(run)
    except StoppedError as stopped:
        return _end_stopped(run, stopped.signum)
    except TrainerError as error:
        run.failed(error)
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except (RuntimeError, MemoryError) as error:
        return _end_failed(run, error)
    return 0


def _end_stopped(run: Run, signum: int) -> int:
    run.say(f"Stopped by signal {signum} after {run.epochs_done} epochs")
    try:
        if run.save_checkpoint is not None:
            run.save_checkpoint()
    finally:
        end_by_signal(signum)
    return 128 + signum


def _end_failed(run: Run, error: RuntimeError | MemoryError) -> int:
    place = out_of_memory_place(error)
    if place is None:
        traceback.print_exc()
        return EXIT_FAILED
    run.out_of_memory(place, str(error) or type(error).__name__)
    print(f"error: out of memory ({place}): {error}", file=sys.stderr, flush=True)
    return EXIT_OUT_OF_MEMORY
