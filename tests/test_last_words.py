"""What the end of a log says of memory: logs as torch, numpy and Python leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.last_words import SHOWN, TAIL_BYTES, out_of_memory

TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB "
    "of which 10.94 GiB is free. Process 1 has 68.16 GiB memory in use."
)
TRACE = 'Traceback (most recent call last):\n  File "train.py", line 7, in <module>\n    main()\n'


def log(folder: Path, text: str) -> Path:
    (folder / "log").write_text(text)
    return folder / "log"


@pytest.mark.parametrize(
    "line",
    [
        TORCH,
        "torch.cuda.OutOfMemoryError: CUDA out of memory.",
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory.",
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)",
        "MemoryError",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
    ],
)
def test_the_last_exception_says_so(line: str, tmp_path: Path) -> None:
    said = out_of_memory(log(tmp_path, f"Epoch 1\n{TRACE}{line}\nsome hint behind it\n"))
    assert said is not None and line.startswith(said) and len(said) <= SHOWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Epoch 1: loss 0.5\n",
        f"{TRACE}ValueError: no such file\n",
        f"{TRACE}{TORCH}\n\nDuring handling of the above exception, another one occurred:\n\n{TRACE}KeyError: 1\n",
        "caught CUDA out of memory, halving the batch\n" + f"{TRACE}ValueError: batch of 0\n",
        "caught CUDA out of memory, halving the batch\n",
        f"{TRACE}RuntimeError: CUDA error: an illegal memory access was encountered\n",
        TORCH + "\n" + "Epoch 2\n" * 60,
        TORCH + "\n" + "." * TAIL_BYTES,
    ],
)
def test_another_end_does_not(text: str, tmp_path: Path) -> None:
    assert out_of_memory(log(tmp_path, text)) is None


def test_without_a_log_nothing_is_said(tmp_path: Path) -> None:
    assert out_of_memory(tmp_path / "log") is None
    (tmp_path / "log").mkdir()
    assert out_of_memory(tmp_path / "log") is None


def test_bytes_that_are_no_text_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe 10%\r20%\r\nMemoryError\r\n")
    assert out_of_memory(tmp_path / "log") == "MemoryError"


LAUNCHER = """
E1123 02:00:00.000000 77 torch/distributed/elastic/multiprocessing/api.py:988] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
"""


def test_the_words_of_a_launcher_and_of_a_shutdown_behind_it_are_not_the_trainers(tmp_path: Path) -> None:
    assert out_of_memory(log(tmp_path, f"[rank0]: {TORCH}\n{LAUNCHER}")) is not None
    assert (
        out_of_memory(log(tmp_path, f"{TORCH}\nsubprocess.CalledProcessError: Command 'x' returned 1.\n")) is not None
    )
    shutdown = f"{TORCH}\nException ignored in: <function Pool.__del__ at 0x7f>\n{TRACE}AttributeError: gone\n"
    assert out_of_memory(log(tmp_path, shutdown)) is not None
    assert out_of_memory(log(tmp_path, f"\x1b[31m{TORCH}\x1b[0m\n")) == TORCH[:SHOWN]
    assert out_of_memory(log(tmp_path, f"{TRACE}ValueError: 1\n{LAUNCHER}")) is None
