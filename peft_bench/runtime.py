"""What a run ran on: versions, device, memory, time. No torch import until asked for."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

PACKAGES = (
    "peft-bench",
    "lm-eval",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "trl",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that scores depend on; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_rss_bytes() -> int | None:
    """The most memory that this process has held resident so far, in bytes; None where unknown."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def total_memory_bytes() -> int | None:
    """The machine's memory in bytes; None where it cannot be told."""
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def peak_device_bytes() -> int | None:
    """Peak memory in bytes: CUDA's ``max_memory_allocated`` on a GPU, else the resident set's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_rss_bytes()


def processes() -> int:
    """How many processes train together, as ``accelerate launch`` and ``torchrun`` tell."""
    import os

    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def is_main() -> bool:
    """Whether this process is the one that writes."""
    import os

    return os.environ.get("RANK", "0") == "0"


def join() -> None:
    """Joins the processes that train together, each on its own GPU; nothing where it is alone."""
    if processes() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def wait() -> None:
    """Until all processes that train together are here."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def keep_freed_memory() -> None:
    """Tells glibc's allocator to keep what a training step frees for the next step.

    By default it maps each large tensor anew, and the kernel clears its pages every time: on a
    CPU a few hundredths of a step's time. Other C libraries go on as they do.
    """
    import ctypes

    largest_mapped, trim, mmap = 2**30, -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap, largest_mapped)
        mallopt(trim, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_of_the_machine(error: BaseException) -> bool:
    """Whether memory or device failed, and not what was computed."""
    import torch

    device = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
    return isinstance(error, device) or is_out_of_memory(error)
