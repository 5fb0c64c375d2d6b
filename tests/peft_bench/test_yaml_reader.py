from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from peft_bench.errors import MissingError, PeftBenchError, UsageError
from peft_bench.recipe import load_recipe
from peft_bench.sweep.grid import load_grid
from peft_bench.yaml_reader import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: {a: 1}", {"a": 1, "b": {"a": 1}}),
        ("1: x\n'1': y", {1: "x", "1": "y"}),
        ("2024-02-29", date(2024, 2, 29)),
        ("- &b {r: 8, x: 1}\n- {<<: *b, r: 4}", [{"r": 8, "x": 1}, {"r": 4, "x": 1}]),
        ("- [&b {<<: {r: 8}, r: 4}]\n- {<<: *b, r: 2}", [[{"r": 4}], {"r": 2}]),
        ("- &a [1]\n- *a", [[1], [1]]),
        ('"\\u00e9\\U0001F600"', "é😀"),
    ],
)
def test_what_is_yaml(text: str, value: Any) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key a is there twice, first in line 1"),
        ("x:\n  - {r: 8, q: 1, r: 9}", "line 2, column 18: the key r is there twice"),
        ("x: &b {r: 1}\ny: {<<: *b, <<: *b}", "the key << is there twice"),
        ("a: 1\n'a': 2", "the key a is there twice"),
        ("a: 2024-99-99", "line 1, column 4: '2024-99-99' cannot be read as timestamp: month"),
        ("a: [0x_]", "'0x_' cannot be read as int"),
        ("9" * 5000, "cannot be read as int"),
        ("0x" + "f" * 5000, "cannot be read as int: int too large"),
        ('"\\ud800"', "cannot be read as str"),
        ("[" * 3000, "nested too deeply"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("[1", "line 1"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: *b", "found undefined alias"),
        ("a: \x00", "special characters are not allowed"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_is_not(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    assert said in str(caught.value) and len(str(caught.value)) < 300
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    for read in (load_recipe, load_grid):
        with pytest.raises(UsageError) as told:
            read(file)
        assert f"{file}: not a readable YAML file: " in str(told.value)
        assert said in str(told.value)


@pytest.mark.parametrize(
    ("name", "error"), [("none.yaml", MissingError), (".", UsageError), ("b.yaml", UsageError)]
)
def test_no_file_to_read(name: str, error: type[PeftBenchError], tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(error):
        read_yaml(tmp_path / name, kind="recipe", known="none")
