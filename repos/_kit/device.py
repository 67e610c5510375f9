"""Chooses the torch device and makes torch repeatable on it (needs torch); it moves no model and no data."""

import os
import random
import sys

import numpy as np
import torch

from _kit.errors import CannotRunError

# cuBLAS reads it when it makes its first handle; without it torch refuses deterministic matrix products on a GPU.
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; CannotRunError when cuda was asked for and there is none."""
    available = torch.cuda.is_available() if name != "cpu" else False
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if name == "cuda" and not available:
        raise CannotRunError(
            f"--device cuda: torch {torch.__version__} sees no CUDA device (CUDA_VISIBLE_DEVICES={visible!r}); "
            "install a CUDA build of torch or use --device cpu"
        )
    if name == "auto" and visible and not available:
        print(f"warning: CUDA_VISIBLE_DEVICES={visible}, but torch {torch.__version__} sees no CUDA device; "
              "training on the CPU", file=sys.stderr, flush=True)  # fmt: skip
    return torch.device("cuda" if available else "cpu")


def facts(device: torch.device) -> dict[str, object]:
    """What every training tells of where it runs."""
    return {"device": device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}


def seed_everything(seed: int, device: torch.device, threads: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch. On a CPU every run then repeats to the bit; on a GPU only if `deterministic`.

    A GPU's deterministic kernels are slower, so they are a choice there: the default measures what people run.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    if deterministic and device.type == "cuda":
        os.environ.setdefault(*CUBLAS_WORKSPACE)
    # Not torch.use_deterministic_algorithms: that imports the compiler, which takes seconds and is never used here.
    torch.set_deterministic_debug_mode("error" if deterministic or device.type == "cpu" else "default")
    # Filling fresh memory with NaN finds bugs; here it would only cost time and joules.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator of its own for one purpose (`stream`), so that one purpose's draws never shift another's."""
    return torch.Generator().manual_seed((seed * 1_000_003 + stream) % 2**63)


def seed_worker(_worker: int) -> None:
    """`worker_init_fn` of a DataLoader: numpy and random follow the seed that torch gave the worker."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
