"""What is known of the sets' references: which fail anywhere, and which need another judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a set.

    passed: problems that pass with any judge. failures: those whose references pass with none,
    with the reason. judges: those that do not pass with the split judge, by the strictest judge
    they pass with, with the reason. third_party: how many need a module that is not there.
    """

    passed: int
    failures: Mapping[str, str]
    judges: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    third_party: int = 0

    def reason(self, name: str) -> str:
        """What is known of a reference, or ""."""
        every = [self.failures, *self.judges.values()]
        return next((known[name] for known in every if name in known), "")


_SEVERAL = "the judge accepts several answers, a plain comparison one"
_SETUP = "`root` is made by the row's test_setup_code"
_CLASSES = "the test makes objects of a class of the program's"
_FILES = "the test and the program share files"
_PATCHES = "the test replaces functions of modules in the program's process"
_STATE = "the test looks at the state of the program's process"
_OBJECTS = "functions or objects go to the program or come back"
_IN_PLACE = "the program changes an argument in place"
_SIZE = "the answer is longer than output_bytes"


def _all(set_name: str, why: Mapping[str, str]) -> dict[str, str]:
    """From reasons with ids to ids with reasons."""
    return {f"{set_name}/{name}": reason for reason, ids in why.items() for name in ids.split()}


_ODEX_MOCKS = {
    _PATCHES: (
        "14971373/1 13745648/1 3777301/1 3777301/2 19894365/1 19894365/2 3595685/1 804995/1 "
        "3964681/1 3964681/2 3964681/3 6420361/1 38081866/1"
    ),
}
_ODEX_ARGUMENTS = {_IN_PLACE: "4126227/1 3398589/1 3398589/2 3398589/3 4918425/1"}
_ODEX_FILES = {
    _FILES: (
        "7138686/1 4914277/1 2011048/1 3880399/1 4454298/1 7856296/1 39112645/1 8577137/1 "
        "12330522/1 2545397/1 2212433/2 3925614/1 8691311/1 6159900/1 6159900/2 6159900/3 "
        "5838735/1 4710067/1"
    ),
}
_ODEX_SHARED = {
    _OBJECTS: (
        "15405636/1 14858916/1 403421/1 403421/2 26441253/1 15534223/1 1807026/1 20211942/1 "
        "17438096/1 14695134/1 7011291/1"
    ),
    _STATE: "29784889/1 3108285/1",
    _SIZE: "13368659/1",
}

EXPECTED: dict[str, Expected] = {
    "humaneval": Expected(164, {}),
    "mbpp": Expected(974, {}, {"shared": _all("mbpp", {_CLASSES: "367 601 927"})}),
    "mbpp, test_list alone": Expected(
        972,
        _all("mbpp", {_SETUP: "367 927"}),
        {"shared": _all("mbpp", {_CLASSES: "601"})},
    ),
    "odex": Expected(
        266,
        {
            "odex/35622945/1": "a global flag inside a pattern, refused since Python 3.11",
            "odex/13740672/1": "the reference mixes tabs and spaces",
            "odex/7243750/1": "uses `urllib.request` without importing it",
        },
        {
            "split-mocks": _all("odex", _ODEX_MOCKS),
            "split-arguments": _all("odex", _ODEX_ARGUMENTS),
            "split-files": _all("odex", _ODEX_FILES),
            "shared": _all("odex", _ODEX_SHARED),
        },
        third_party=82,
    ),
    "apps": Expected(
        123,
        {
            "apps/train/2023": _SEVERAL,
            "apps/train/2036": "the one solution has a `return` outside a function",
            "apps/train/2398": _SEVERAL,
            "apps/train/2400": _SEVERAL,
        },
    ),
}
