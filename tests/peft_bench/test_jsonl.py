from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from peft_bench.errors import UsageError
from peft_bench.jsonl import NotJson, dump_json, parse_json, read_lines

LONG = "7" * 5000


def test_integers_of_any_length_leave_the_process_as_it_was() -> None:
    limit = sys.get_int_max_str_digits()
    assert 0 < limit < 5000  # else this test would test nothing
    with pytest.raises(ValueError, match="limit"):
        json.loads(LONG)
    value = parse_json(f'{{"inputs": [[{LONG}], [-{LONG}]], "outputs": [{LONG}e0, 12]}}')
    # 777...7, without reading or writing a long decimal.
    expected = 7 * (10**5000 - 1) // 9
    assert value["inputs"] == [[expected], [-expected]]
    assert value["outputs"][1] == 12
    assert sys.get_int_max_str_digits() == limit


def test_what_is_dumped_is_parsed_again() -> None:
    number = 7 * (10**5000 - 1) // 9
    values = [
        {"a": [number, -number, True, None, 1.5, 'é\u2028"\n'], "b": {"c": []}, "d": {}},
        [1, 2, {"x": "y"}],
        "",
        number,
    ]
    for value in values:
        assert parse_json(dump_json(value)) == value
    assert dump_json(values[0]).startswith(f'{{"a": [{LONG}, -{LONG}, true, null, 1.5, ')
    # As the standard library writes it, where that can.
    assert dump_json(values[1]) == json.dumps(values[1])


@pytest.mark.parametrize("text", ["", "{", "[1,]", "[" * 100_000, "nul"])
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_lines_of_a_file_and_their_numbers(tmp_path: Path) -> None:
    content = '{"a": "x\u2028y"}\r\n\n  \n[1]\n{"a": \n"no end'.encode() + b"\n\xff\xfe\n3"
    plain, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    lines = list(read_lines(plain))
    assert lines == list(read_lines(packed))
    assert [where for where, _ in lines] == [f"line {n}" for n in (1, 4, 5, 6, 7, 8)]
    values = [value for _, value in lines]
    assert values[:2] == [{"a": "x\u2028y"}, [1]] and values[5] == 3
    assert [type(value) for value in values[2:5]] == [NotJson] * 3
    assert "0xff" in str(values[4])


def test_a_gzip_file_cut_short_gives_its_lines_and_then_an_error(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    packed = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(10_000)))
    file.write_bytes(packed[: len(packed) // 2])
    seen = []
    with pytest.raises(UsageError, match="not a whole gzip file"):
        seen.extend(value for _, value in read_lines(file))
