"""Which device a program computes on, and in what precision it is fast there."""

import ctypes
import gc
import sys
from functools import cache

import torch

from vln_clip.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device of ``--device``; ``auto`` takes a GPU where there is one."""
    _spare_collections()
    _keep_freed_memory()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        usable = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    except RuntimeError:
        usable = False
    if not usable:
        gpus = torch.cuda.device_count()
        raise InputError(f"--device must be auto, cpu or one of this machine's {gpus} GPUs (cuda:N), got {name!r}")
    return device


@cache
def _spare_collections() -> None:
    """Tell the garbage collector that what is imported by now stays.

    Else it looks through all of PyTorch's modules again and again while episodes are read: a fifth of that time.
    """
    gc.freeze()


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed; other C libraries go on as they are.

    Else every large tensor is handed back to the kernel, which clears its pages for the next one: a sixth of
    the time of an evaluation on a CPU.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def product_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return what training multiplies in by ``--precision``; None for the type of the weights.

    Raises:
        InputError: bfloat16 is no faster on this device.
    """
    if precision == "float32":
        return None
    if not has_fast_bfloat16(device):
        raise InputError(
            f"--precision must be float32 on this {device.type}, got {precision!r}: it has no bfloat16 products "
            "(AVX512_BF16 or AMX on a CPU, compute capability 8.0 on a GPU), or this PyTorch does not say so"
        )
    return torch.bfloat16


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 faster than float32; False where this PyTorch cannot tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
