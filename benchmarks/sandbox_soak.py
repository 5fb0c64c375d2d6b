"""Long runs: nothing is lost, nothing is left behind, and the verdicts stay what they are.

    python benchmarks/sandbox_soak.py [--mixed 10000] [--trivial 100000] [--stability]

The exit status is 1 if anything is not as it must be; times are printed, never asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench_mixture import LIMITS, PATIENT, mixture, some_of_each, trivial
from bench_process import become_reaper, reap_all
from bench_state import State
from bench_table import Table, machine
from peft_bench_sandbox import (
    Status,
    Verdict,
    WeakSandboxWarning,
    exec_jsonl,
    program_to_json,
    run_all,
    verdict_from_json,
)

_BATCH = 10_000
_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked, print, and return the exit status."""
    options = _parser().parse_args(arguments)
    if options.execute:
        return _execute(options)
    warnings.simplefilter("ignore", WeakSandboxWarning)
    become_reaper()
    print(Table("Machine", ("what", "value"), list(machine().items())).markdown(), flush=True)
    faults: list[str] = []
    with _own_temporary():
        if options.mixed:
            faults += mixed(options.mixed, options.require)
        if options.trivial:
            faults += leaks(options.trivial, options.require)
        if options.stability:
            faults += stability(options.require)
    for fault in faults[:_SHOWN]:
        print(f"fault: {fault}", file=sys.stderr)
    if len(faults) > _SHOWN:
        print(f"and {len(faults) - _SHOWN} more faults", file=sys.stderr)
    return 1 if faults else 0


def mixed(count: int, require: str) -> Iterator[str]:
    """A file of mixed programs through `exec_jsonl`, killed in the middle and taken up again."""
    programs, ends = mixture(count)
    folder = Path(tempfile.mkdtemp())
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for program in programs:
            file.write(json.dumps(program_to_json(program)) + "\n")
    target.touch()
    before = State.now()
    began = time.monotonic()
    done = _run_and_kill(source, target, require, count // 2)
    alive = reap_all()
    if alive:
        yield f"{alive} processes live on, 5 s after their caller was killed"
    litter = [leak for leak in State.now().leaks_since(before) if "temporary" in leak]
    subprocess.run(_command(source, target, require), check=True)
    wall_s = time.monotonic() - began
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    if [line["id"] for line in lines] != [program.id for program in programs]:
        yield "the verdicts are not those of the input, in its order"
    yield from _wrong_ends(ends, [verdict_from_json(line) for line in lines])
    reap_all()
    yield from (f"mixed: {leak}" for leak in State.now().leaks_since(before) if leak not in litter)
    counts = Counter(line["status"] for line in lines)
    rows: list[list[object]] = [
        ["programs", len(lines)],
        ["killed after", done],
        ["wall s", f"{wall_s:.1f}"],
        ["left in the temporary folder by the kill", "; ".join(litter) or "nothing"],
    ]
    rows += [[f"verdict {status}", number] for status, number in counts.most_common()]
    print(Table("Mixed programs through a file", ("what", "value"), rows).markdown(), flush=True)


def leaks(count: int, require: str) -> Iterator[str]:
    """Trivial programs in numbers; what is there afterwards that was not there before."""
    run_all(trivial(min(count, _BATCH)), require=require)
    before, began = State.now(), time.monotonic()
    for start in range(0, count, _BATCH):
        verdicts = run_all(trivial(min(_BATCH, count - start)), require=require, progress=True)
        failed = [verdict for verdict in verdicts if verdict.status is not Status.PASSED]
        if failed:
            yield f"{len(failed)} trivial programs did not pass, first: {failed[0]}"
        del verdicts
    wall_s, after = time.monotonic() - began, State.now()
    yield from (f"after {count} trivial programs: {leak}" for leak in after.leaks_since(before))
    rows = [
        [name, _size(getattr(before, name)), _size(getattr(after, name))]
        for name in State.__dataclass_fields__
    ]
    note = f"{count} programs in {wall_s:.0f} s, {count / wall_s:.0f} a second."
    table = Table("Left behind by trivial programs", ("what", "before", "after"), rows, note)
    print(table.markdown(), flush=True)


def stability(require: str) -> Iterator[str]:
    """The same programs in other orders, with other numbers of workers, on a crowded machine."""
    programs, ends = some_of_each()
    rows = []
    for workers in range(1, 9):
        shuffled = random.Random(workers).sample(programs, len(programs))
        began = time.monotonic()
        verdicts = run_all(shuffled, limits=PATIENT, workers=workers, require=require)
        yield from _wrong_ends(ends, verdicts, f"{workers} workers: ")
        rows.append([f"shuffled, {workers} workers", f"{time.monotonic() - began:.1f}"])
    for width in (None, 8):
        with _crowd(4):
            began = time.monotonic()
            verdicts = run_all(programs, limits=PATIENT, workers=width, require=require)
            rows.append(
                [f"crowded, {width or 'default'} workers", f"{time.monotonic() - began:.1f}"]
            )
        yield from _wrong_ends(ends, verdicts, f"crowded, {width or 'default'} workers: ")
    note = f"{len(programs)} programs a run; crowded: four endless loops a CPU beside it."
    print(Table("Stability", ("run", "wall s"), rows, note).markdown(), flush=True)


def _wrong_ends(
    wanted: Mapping[str, Status], verdicts: Sequence[Verdict], where: str = ""
) -> Iterator[str]:
    got = {verdict.id: verdict for verdict in verdicts}
    if len(got) != len(wanted) or len(verdicts) != len(wanted):
        yield f"{where}{len(verdicts)} verdicts on {len(got)} programs, must be {len(wanted)}"
    for name, verdict in got.items():
        if verdict.status is not wanted[name]:
            told = f"{verdict.status.value} ({verdict.message[:100]})"
            yield f"{where}program {name!r} is {told}, must be {wanted[name].value}"


def _run_and_kill(source: Path, target: Path, require: str, after: int) -> int:
    """Start a run, kill it once it has so many verdicts, return how many it had."""
    process = subprocess.Popen(_command(source, target, require))
    done = 0
    while process.poll() is None and done < after:
        time.sleep(0.02)
        if target.exists():
            done = target.read_bytes().count(b"\n")
    process.kill()
    process.wait()
    return done


def _command(source: Path, target: Path, require: str) -> list[str]:
    here = str(Path(__file__).resolve())
    return [sys.executable, here, "--require", require, "--execute", str(source), str(target)]


def _execute(options: argparse.Namespace) -> int:
    """The process that is killed: one call of `exec_jsonl`."""
    warnings.simplefilter("ignore", WeakSandboxWarning)
    source, target = options.execute
    exec_jsonl(source, target, limits=LIMITS, require=options.require, progress=True)
    return 0


@contextlib.contextmanager
def _own_temporary() -> Iterator[None]:
    """A temporary folder of this run's own, for its children too."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        yield


@contextlib.contextmanager
def _crowd(each: int) -> Iterator[None]:
    """So many endless loops a CPU."""
    command = [sys.executable, "-c", "while True: pass"]
    count = each * len(os.sched_getaffinity(0))
    crowd = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in crowd:
            process.kill()
            process.wait()


def _size(value: object) -> object:
    return len(value) if isinstance(value, frozenset) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--mixed", type=int, default=0, metavar="N", help="N mixed programs")
    parser.add_argument("--trivial", type=int, default=0, metavar="N", help="N trivial programs")
    parser.add_argument("--stability", action="store_true", help="orders, workers, a crowd")
    parser.add_argument("--require", default="strong", help="sandbox level (default strong)")
    parser.add_argument("--execute", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
