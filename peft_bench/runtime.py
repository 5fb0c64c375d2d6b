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
