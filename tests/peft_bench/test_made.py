"""What is known of answers outlives an interrupted run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from peft_bench.generation.made import KEPT_FILES, KEPT_IN, Ledger, Made
from peft_bench.generation.rows import Prompt

BEAMS = {0: Made([5, 6, 2], -0.125, 2, finished=True), 1: Made([5, 7], -1.5, 2, finished=False)}
TOKENS = {"ab": [1, 4], "cd": [1, 9]}
TEXTS = {(5, 6, 2): "x y", (5, 7): "x z"}


class Tokenizer:
    """Just what a ledger asks of one."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return TOKENS[text] if add_special_tokens else TOKENS[text][1:]

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return TEXTS[tuple(ids)]


def made(ledger: Ledger, ids: tuple[int, ...]) -> None:
    ledger.note(None, cast(Prompt, type("Row", (), {"key": ids, "row": None})), BEAMS)


def facts(ledger: Ledger, context: str) -> list[Any]:
    answers = [ledger.find(Tokenizer(), context, n, text) for n, text in enumerate(TEXTS.values())]
    return [answer.facts() for answer in answers]


@pytest.fixture()
def folder(tmp_path: Path) -> Any:
    token = KEPT_IN.set(tmp_path)
    yield tmp_path
    KEPT_IN.reset(token)


def test_a_run_that_goes_on_knows_what_was_made(folder: Path) -> None:
    first = Ledger()
    first.go_on("conala")
    made(first, (1, 4))
    second, other = Ledger(), Ledger()
    second.go_on("conala")
    other.go_on("codealpacapy")
    assert facts(second, "ab") == facts(first, "ab")
    assert [one["finished"] for one in facts(second, "ab")] == [True, False]
    assert facts(second, "cd") == facts(other, "ab")
    assert facts(other, "ab")[0]["finished"] is None


def test_a_task_s_name_is_no_pattern(folder: Path) -> None:
    first = Ledger()
    first.go_on("conala")
    made(first, (1, 4))
    odd = Ledger()
    odd.go_on("conal[ab]")
    assert facts(odd, "ab")[0]["finished"] is None


def test_a_line_cut_by_a_kill_costs_itself_alone(folder: Path) -> None:
    ledger = Ledger()
    ledger.go_on("conala")
    made(ledger, (1, 4))
    [file] = folder.glob(KEPT_FILES)
    line = file.read_text(encoding="utf-8")
    file.write_text(line + line[: len(line) // 2], encoding="utf-8")
    again = Ledger()
    again.go_on("conala")
    assert facts(again, "ab") == facts(ledger, "ab")
    made(again, (1, 9))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and json.loads(lines[2])[0] == [1, 9]
    last = Ledger()
    last.go_on("conala")
    assert facts(last, "cd") == facts(ledger, "ab")


def test_nothing_is_kept_where_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = Ledger()
    ledger.go_on("conala")
    made(ledger, (1, 4))
    assert list(tmp_path.iterdir()) == []
