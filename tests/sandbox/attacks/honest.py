"""Honest programs that run between the attacks: what an attack does must not harm them."""

from __future__ import annotations

from peft_bench_sandbox import AssertTest, CallTest, Program, StdinTest

# Uses what attacks go for: files, time, threads, random numbers, signals, standard streams.
_SOURCE = """
import json, math, os, random, signal, sys, tempfile, threading, time
def area(r): return round(math.pi * r * r, 3)
def keep(text):
    assert os.getcwd() != '/' and os.listdir('.') == [], os.listdir('.')
    with tempfile.TemporaryFile('w+') as file:
        file.write(text)
        file.seek(0)
        first = file.read()
    os.mkdir('made')
    with open('made/kept.txt', 'w') as file: file.write(first)
    with open('made/kept.txt') as file: return json.loads(file.read())
def together(n):
    told = []
    threads = [threading.Thread(target=told.append, args=[i]) for i in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sorted(told)
def clean():
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL and sys.gettrace() is None
    return all([True]) and abs(-2) == 2
if __name__ == '__main__':
    print(*together(int(input())), area(2))
"""
_TESTS = (
    AssertTest("assert area(2) == 12.566 and together(3) == [0, 1, 2] and clean()", "area"),
    StdinTest("4\n", "0 1 2 3 12.566\n"),
    CallTest("together", [2], [0, 1]),
)
# These need a directory to work in.
_FILE_TESTS = (
    AssertTest("def check(f): assert f('[1, 2]') == [1, 2]\ncheck(keep)", "keep"),
    CallTest("keep", ['{"a": [1.5]}'], {"a": [1.5]}),
)


def honest(number: int, *, files: bool) -> Program:
    """The honest program of this number: the kind of its test changes from one to the next."""
    tests = (*_TESTS, *_FILE_TESTS) if files else _TESTS
    return Program(f"honest {number}", _SOURCE, (tests[number % len(tests)],))
