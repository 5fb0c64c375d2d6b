from __future__ import annotations

import copy
import pickle

import pytest

from peft_bench.errors import Faults, MissingError, PeftBenchError, UsageError


def test_parts_make_one_tidy_sentence() -> None:
    error = PeftBenchError(place="a.yaml: ", problem=" epochs is -1.", remedy="Give 1 or more")
    assert str(error) == "a.yaml: epochs is -1. Give 1 or more."


@pytest.mark.parametrize(
    ("place", "problem", "remedy", "said"),
    [
        ("a", "b", "", "a: b"),
        ("", "b", "c", "b. c."),
        ("a", "", "c", "a. c."),
        ("a", "b", "Did you mean c?", "a: b. Did you mean c?"),
        ("", "", "c", "c."),
    ],
)
def test_absent_parts_leave_no_punctuation(
    place: str, problem: str, remedy: str, said: str
) -> None:
    assert str(PeftBenchError(place=place, problem=problem, remedy=remedy)) == said


def test_exit_codes_tell_the_kinds_apart() -> None:
    assert [kind.exit_code for kind in (PeftBenchError, UsageError, MissingError)] == [1, 2, 3]


def test_errors_survive_pickling_and_copying() -> None:
    faults = Faults("a.yaml")
    faults.add(place="x", problem="is 1", remedy="Give 2")
    faults.add(place="y", problem="is 3")
    with pytest.raises(UsageError) as caught:
        faults.raise_if_any()
    for error in (caught.value, MissingError(place="p", problem="q", remedy="r")):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert again.args == error.args
            assert again.exit_code == error.exit_code


def test_no_fault_raises_nothing() -> None:
    faults = Faults("a.yaml")
    faults.raise_if_any()
    assert len(faults) == 0


def test_one_fault_reads_as_one_line() -> None:
    faults = Faults("a.yaml")
    faults.add(place="epochs", problem="is -1", remedy="Give 1 or more")
    with pytest.raises(UsageError) as caught:
        faults.raise_if_any()
    assert str(caught.value) == "a.yaml: epochs: is -1. Give 1 or more."
    assert caught.value.faults == ()


def test_several_faults_are_told_at_once_one_a_line() -> None:
    faults = Faults("a.yaml")
    faults.add(place="epochs", problem="is -1", remedy="Give 1 or more")
    faults.add(place="model", problem="is missing")
    with pytest.raises(UsageError) as caught:
        faults.raise_if_any()
    assert str(caught.value).splitlines() == [
        "a.yaml: 2 faults",
        "  epochs: is -1. Give 1 or more.",
        "  model: is missing",
    ]
    assert [fault.place for fault in caught.value.faults] == ["epochs", "model"]
