"""Run programs nobody vouches for, and say what became of them.

    from peft_bench_sandbox import AssertTest, Program, run_all

    program = Program("add", "def add(a, b): return a + b", (AssertTest("assert add(1, 2) == 3"),))
    [verdict] = run_all([program])
    assert verdict.status == "passed" and verdict.judge == "split"

Each test runs in a sealed process of its own; the code of an assert test runs in another.
sandbox/README.md says what is promised, and what not. Python's standard library alone; Linux on
x86-64 and aarch64 (elsewhere `run_all` raises SandboxUnavailable).

Raises, over the whole package: SandboxUnavailable (the level asked for is not to be had),
BadProgram (a program or test that cannot be run as given; a ValueError), ValueError (limits,
profile, workers, level, or an output file that does not fit), OSError (files of `exec_jsonl`).
What a program does is never an exception here: it is a Verdict.
"""

from .pool import run_all
from .probe import Layer, Probe, best_level, probe
from .settle import Settled, settle
from .stream import BadLine, StreamSummary, exec_jsonl
from .types import (
    AssertTest,
    BadProgram,
    CallTest,
    Level,
    Limits,
    Program,
    SandboxUnavailable,
    Status,
    StdinTest,
    Test,
    Verdict,
    WeakSandboxWarning,
)
from .wire import program_from_json, program_to_json, verdict_from_json, verdict_to_json

__all__ = [
    "AssertTest",
    "BadLine",
    "BadProgram",
    "CallTest",
    "Layer",
    "Level",
    "Limits",
    "Probe",
    "Program",
    "SandboxUnavailable",
    "Settled",
    "Status",
    "StdinTest",
    "StreamSummary",
    "Test",
    "Verdict",
    "WeakSandboxWarning",
    "best_level",
    "exec_jsonl",
    "probe",
    "program_from_json",
    "program_to_json",
    "run_all",
    "settle",
    "verdict_from_json",
    "verdict_to_json",
]
