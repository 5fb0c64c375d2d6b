"""What a run could leave behind: taken before and after, and compared."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench_process import descendants, resident_bytes

_SEGMENTS = ("shm", "sem", "msg")
# What a caller may grow over a hundred thousand programs: the allocator's own slack.
_GROWTH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class State:
    """What a run could leave behind."""

    processes: int
    descriptors: int
    temporary: frozenset[str]
    shared_memory: frozenset[str]
    segments: frozenset[str]
    resident_bytes: int

    @classmethod
    def now(cls) -> State:
        """Of this process, its temporary folder and the machine's shared memory."""
        folder = Path(tempfile.gettempdir())
        segments = {
            f"{kind} {line.split()[1]}"
            for kind in _SEGMENTS
            for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        }
        return cls(
            processes=len(descendants()),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            temporary=frozenset(str(path.relative_to(folder)) for path in folder.rglob("*")),
            shared_memory=frozenset(path.name for path in Path("/dev/shm").iterdir()),
            segments=frozenset(segments),
            resident_bytes=resident_bytes(),
        )

    def leaks_since(self, before: State) -> list[str]:
        """What is there now that was not."""
        found = []
        for what in ("processes", "descriptors"):
            more = getattr(self, what) - getattr(before, what)
            if more > 0:
                found.append(f"{more} {what}")
        for what in ("temporary", "shared_memory", "segments"):
            new = sorted(getattr(self, what) - getattr(before, what))
            if new:
                found.append(f"{len(new)} in {what}: {', '.join(new[:5])}")
        grown = self.resident_bytes - before.resident_bytes
        if grown > _GROWTH_BYTES:
            found.append(f"{grown / 1e6:.0f} MB of the caller's memory")
        return found
