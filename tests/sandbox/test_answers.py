"""What a program answers, from its process to whoever compares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peft_bench_sandbox import AssertTest, CallTest, Verdict

Run = Callable[..., Verdict]

SAME = "def same(x): return x\ndef kind(x): return type(x).__name__"

PLAIN = [
    *("None", "True", "False", "0", "-7", "2**100", "10**5000", "-(10**5000)"),
    *("0.1", "1e308", "float('inf')", "-float('inf')", "2j", "complex(1, -0.5)"),
    *("''", "'é\\n\\0'", "'\\ud800'", "'\\U0001f600'", "'{\"t\": []}'", "b''", "bytes(range(256))"),
    *("[]", "()", "{}", "set()", "frozenset()", "range(0)", "range(9, -1, -2)"),
    *("[1, [2.5, ['x', None]]]", "((), [()], {(): ()})", "{1, 'a', (2, 3)}"),
    *("{1: 2, None: 3, (1, 'x'): [4], 2.5: 5, b'k': 6, frozenset({7}): {8}}", "[range(3)]"),
]


def test_every_plain_value_goes_there_and_comes_back_with_its_type(run: Run) -> None:
    tests = [
        AssertTest(
            f"x = {text}\nassert same(x) == x and type(same(x)) is type(x), same(x)\n"
            "assert kind(x) == type(x).__name__, kind(x)"
        )
        for text in PLAIN
    ]
    verdict = run(SAME, *tests)
    assert verdict.status == "passed", verdict.message


def test_not_a_number_and_the_zero_below_zero_go_there_and_back(run: Run) -> None:
    test = AssertTest(
        "import math\nx = same([float('nan'), -0.0])\n"
        "assert math.isnan(x[0]) and math.copysign(1, x[1]) == -1"
    )
    assert run(SAME, test).status == "passed"


def test_arguments_go_by_place_and_by_name(run: Run) -> None:
    source = "def f(a, *b, c=0, **d): return [a, b, c, d]"
    test = AssertTest("assert f(1, 2, 3, c=4, e=[5]) == [1, (2, 3), 4, {'e': [5]}]")
    assert run(source, test).status == "passed"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Counter('aab')", "{'a': 2, 'b': 1}"),
        ("OrderedDict([('b', 1), ('a', 2)])", "{'b': 1, 'a': 2}"),
        ("defaultdict(list, {'a': [1]})", "{'a': [1]}"),
        ("namedtuple('P', 'x y')(1, [2])", "(1, [2])"),
        ("IntEnum('C', 'RED').RED", "1"),
        ("type('S', (str,), {'__str__': lambda self: 'lie'})('x')", "'x'"),
        ("type('I', (int,), {'__index__': lambda self: 42})(7)", "7"),
        ("type('L', (list,), {'__iter__': lambda self: iter('lie')})([1])", "[1]"),
        ("type('D', (dict,), {'items': lambda self: [(0, 'lie')]})(a=1)", "{'a': 1}"),
        ("type('E', (dict,), {'__eq__': lambda *_: True, '__hash__': None})(a=1)", "{'a': 1}"),
    ],
)
def test_a_subclass_arrives_as_its_base(run: Run, value: str, told: str) -> None:
    source = f"from collections import *\nfrom enum import IntEnum\ndef f(): return {value}"
    same = f"assert f() == {told} and type(f()) is type({told}), f()"
    verdict = run(source, AssertTest(same), AssertTest(f"assert f() != {told}"))
    assert (verdict.passed, verdict.status) == (1, "wrong"), verdict.message
    assert verdict.message.startswith("test 2 of 2")


def test_an_ordered_dictionary_keeps_the_order_it_was_given(run: Run) -> None:
    source = (
        "from collections import OrderedDict\n"
        "def f():\n    d = OrderedDict(a=1, b=2)\n    d.move_to_end('a')\n    return d"
    )
    verdict = run(source, AssertTest("assert list(f()) == ['b', 'a'], list(f())"))
    assert verdict.status == "passed", verdict.message


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("object()", "object"),
        ("lambda: 0", "function"),
        ("abs", "builtin_function_or_method"),
        ("Mine", "type"),
        ("Mine()", "Mine"),
        ("[1, {'a': object()}]", "object"),
        ("bytearray(1)", "bytearray"),
        ("loop", "list"),
        ("deep", "list"),
    ],
)
def test_what_is_not_plain_is_wrong_whatever_the_test_makes_of_it(
    run: Run, value: str, kind: str
) -> None:
    source = (
        "class Mine:\n    __eq__ = lambda *_: True\n"
        "loop = []\nloop.append(loop)\ndeep = []\nfor _ in range(10**5): deep = [deep]\n"
        f"def f(): return {value}"
    )
    for code in ("f()", "try: f()\nexcept BaseException: pass"):
        verdict = run(source, AssertTest(code))
        assert verdict.status == "wrong", verdict.message
        assert verdict.message.startswith("f gave ") and kind in verdict.message


def test_a_long_answer_is_bounded_by_the_output(run: Run) -> None:
    source, code = "def f(n): return 'x' * n", "assert len(f({0})) == {0}"
    assert run(source, AssertTest(code.format(9000)), output_bytes=10_000).status == "passed"
    verdict = run(source, AssertTest(code.format(11_000)), output_bytes=10_000)
    assert verdict.status == "output" and "a message of 11003 bytes" in verdict.message


@pytest.mark.parametrize("judge", ["split", "split-arguments"])
def test_what_a_test_gives_is_not_the_programs_output(run: Run, judge: Any) -> None:
    source = "def f(x): return len(x)\ndef many(): return 9 << 20"
    given = "assert f('x' * (2 << 20)) == 2 << 20\nassert f([*range(300_000)]) == 300_000"
    assert run(source, AssertTest(given, judge=judge)).status == "passed"
    assert run(source, AssertTest(given, judge=judge), output_bytes=100).status == "passed"
    # Too much is the test's fault, unless it may be the program's doing.
    tight = {"memory_bytes": 128 << 20}
    verdict = run(source, AssertTest("f('x' * (9 << 20))", judge=judge), **tight)
    assert verdict.status == "harness_error" and "raise that" in verdict.message
    verdict = run(source, AssertTest("f('x' * many())", judge=judge), **tight)
    assert verdict.status == "output", verdict.message


def test_a_test_that_has_no_room_for_what_it_gives_is_not_the_programs_memory(run: Run) -> None:
    source, tight = "def f(x): return 1 << 28", {"memory_bytes": 128 << 20}
    for code in (
        "f(bytes(1 << 28))",
        "f([[n] for n in range(1_500_000)])",
        "x = bytes(1 << 28)\nf(x)",
    ):
        verdict = run(source, AssertTest(code), **tight)
        assert verdict.status == "harness_error" and "ran out of memory" in verdict.message
    verdict = run(source, AssertTest("bytes(f(1))"), **tight)
    assert verdict.status == "memory", verdict.message


def test_arguments_that_a_program_has_no_room_for_are_its_memory(run: Run) -> None:
    source = "def f(x): return len(x)\nheld = bytearray(85 << 20)"
    verdict = run(source, AssertTest("f([*range(10**6)])"), memory_bytes=128 << 20)
    assert verdict.status == "memory", verdict.message


def test_megabytes_go_there_and_back(run: Run) -> None:
    test = AssertTest(
        "x = [*range(300_000)]\nassert same(x) == x\nassert same('é' * 10**6)[-1] == 'é'"
    )
    verdict = run(SAME, test, output_bytes=32 << 20)
    assert verdict.status == "passed", verdict.message


@pytest.mark.parametrize(
    "value",
    [
        "{1, 2}",
        "b'x'",
        "1j",
        "object()",
        "(n for n in 'ab')",
        "lambda: 0",
        "{(1, 2): 3}",
        "[object()]",
        "loop",
    ],
)
def test_what_json_cannot_say_is_wrong_for_a_call(run: Run, value: str) -> None:
    source = f"loop = []\nloop.append(loop)\ndef f(): return {value}"
    verdict = run(source, CallTest("f", [], 1))
    assert verdict.status == "wrong" and "not plain data" in verdict.message


def test_a_value_whose_own_methods_fail_is_an_exception(run: Run) -> None:
    source = (
        "class Hostile(dict):\n    def items(self): raise LookupError('boo')\n"
        "def f(): return Hostile(a=1)"
    )
    verdict = run(source, CallTest("f", [], {"a": 1}))
    assert verdict.status == "exception" and "LookupError: boo" in verdict.message


def test_a_value_nested_too_deep_is_wrong_for_a_call(run: Run) -> None:
    source = (
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "def f(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x"
    )
    deep = run(source, CallTest("f", [5000], []))
    assert deep.status == "wrong", deep.message
    assert run(source, CallTest("f", [2], [[[]]])).status == "passed"


def test_an_object_equal_to_everything_fools_a_shared_judge_alone(run: Run) -> None:
    source = "class E:\n    __eq__ = lambda *_: True\ndef f(): return E()"
    tests: dict[str, Any] = {
        "passed": AssertTest("assert f() == 42", judge="shared"),
        "wrong": AssertTest("assert f() == 42"),
    }
    for status, test in tests.items():
        assert (run(source, test).status, run(source, test).judge) == (status, test.judge)
    held = run(source, CallTest("f", [], 42))
    assert (held.status, held.judge) == ("wrong", "split")
    assert "returned E, not plain data" in held.message
