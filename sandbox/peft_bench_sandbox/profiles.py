"""What a program can read and import: Python's standard library, and a profile's packages."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

# Imported before the first program runs, because many programs use them; every one is copied
# with every process, so there are few.
_COMMON = (
    "json", "re", "math", "collections", "functools", "itertools", "heapq", "bisect", "typing",
    "random", "string", "copy",
)  # fmt: skip
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_SYSTEM_DATA = ("/usr/share/zoneinfo", "/etc/localtime")


@dataclass(frozen=True, slots=True)
class Profile:
    """packages: what can be imported besides the standard library, with what these need.

    preload: what is imported beforehand, where it is installed.
    """

    name: str
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("stdlib", preload=_COMMON),
        Profile(
            "scientific",
            packages=("numpy", "pandas", "dateutil", "pytz", "tzdata", "six"),
            preload=(*_COMMON, "datetime", "numpy", "pandas"),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Paths:
    """readable: files and folders. hidden: folders in those that are not. added: to sys.path."""

    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    added: tuple[str, ...]


def paths_of(profile: Profile) -> Paths:
    """Where the standard library, what it links to, and the profile's packages lie here."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    libraries = Path(sys.base_prefix, "lib")
    readable = [*sorted(standard), *_SYSTEM_LIBRARIES, *_SYSTEM_DATA]
    if sys.base_prefix not in ("/usr", "/"):
        readable += sorted(str(path) for path in libraries.glob("lib*.so*"))
    hidden = [f"{path}/{name}" for path in standard for name in ("site-packages", "dist-packages")]
    hidden += [str(path) for path in Path("/usr/lib").glob("python3*/*-packages")]
    hidden += [str(path) for path in Path("/usr/local/lib").glob("python3*/*-packages")]
    added = []
    for package in profile.packages:
        found, root = _places(package)
        readable += found
        if root and root not in added:
            added.append(root)
    present = tuple(dict.fromkeys(path for path in readable if Path(path).exists()))
    covered = tuple(sorted({path for path in hidden if Path(path).is_dir()}))
    return Paths(present, covered, tuple(added))


def _places(package: str) -> tuple[list[str], str]:
    """The files and folders of an installed package, and the folder it is imported from."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return [], ""
    origin = Path(spec.origin)
    place = origin.parent if spec.submodule_search_locations else origin
    root = place.parent
    beside = [root / f"{package}.libs"]  # the shared libraries that a wheel brings along
    return [str(place), *(str(path) for path in beside if path.is_dir())], str(root)
