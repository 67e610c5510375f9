"""What a program that ended badly said at the end of its log: that memory had run out. For code that tells no events.

Only the last exception counts, and only among the last lines, as Python prints it when it ends a program: one that was
caught and told of earlier has not ended it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

EXCEPTION_EXIT_CODE: Final = 1  # with another end, what the log says of memory was got over
TAIL_BYTES: Final = 64 * 1024
LAST_LINES: Final = 60  # hints and the words of a launcher may follow
SHOWN: Final = 300

# "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. ..."
_EXCEPTION = re.compile(r"(?:\[rank\d+\]:\s*)?(?P<name>[A-Za-z_][\w.]*(?:Error|Exception))(?::\s*(?P<text>.*))?")
_OF_LAUNCHERS: Final = frozenset({"ChildFailedError", "CalledProcessError"})
_UNRAISABLE: Final = "Exception ignored in"
TERMINAL_CODE: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_NAMES: Final = frozenset({"OutOfMemoryError", "MemoryError", "_ArrayMemoryError", "ResourceExhaustedError"})
_SIGNS: Final = (
    "CUDA out of memory",
    "RESOURCE_EXHAUSTED",
    "CUDA error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)


def out_of_memory(log: Path) -> str | None:
    """The line in which the program's last exception says that memory ran out, cut to 300 characters; None if it does
    not, or there is no log."""
    text = TERMINAL_CODE.sub("", _tail(log)).partition(_UNRAISABLE)[0]
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    exceptions = [match for line in lines if (match := _EXCEPTION.match(line)) and _simple(match) not in _OF_LAUNCHERS]
    if not exceptions:
        return None
    last = exceptions[-1]
    told = _simple(last) in _NAMES or any(sign in (last["text"] or "") for sign in _SIGNS)
    return last.group()[:SHOWN] if told else None


def _simple(exception: re.Match[str]) -> str:
    return exception["name"].rpartition(".")[2]


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
