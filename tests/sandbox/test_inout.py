"""Changes of arguments and files as a candidate tells them: made true, or refused as a whole."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft_bench_sandbox.inside.folder import Folder, TooMuch, checked
from peft_bench_sandbox.inside.inout import Objects, from_text
from peft_bench_sandbox.inside.plain import Malformed, built, told


def numbered(*arguments: Any) -> Objects:
    """The judge's side of a call."""
    objects = Objects(None)
    objects.tell_call(arguments, {})
    return objects


def test_changes_are_made_in_the_objects_themselves() -> None:
    inner: list[Any] = [1]
    table: dict[Any, Any] = {"a": inner}
    some, data = {1}, bytearray(b"x")
    objects = numbered([table, table], some, data)
    assert [type(one) for one in objects.all] == [list, set, bytearray, dict, list]
    text = '[[4, [2, {"@": 3}]], [1, [{"t": [1]}]], [2, "ff00"], [3, [["b", {"@": 4}]]]]'
    from_text(text, objects.change)
    assert table == {"b": inner} and inner == [2, table] and inner[1] is table
    assert some == {(1,)} and data == b"\xff\0"


@pytest.mark.parametrize(
    "text",
    [
        *("5", "null", '"ab"', '{"d": []}', "[5]", "[[]]", "[[0]]", "[[0, []], 1]", "[[0, [], 1]]"),
        *("[[-1, []]]", "[[3, []]]", "[[true, []]]", "[[0.0, []]]", '[["0", []]]'),
        *("[[0, 5]]", "[[0, null]]", '[[0, {"t": []}]]', '[[0, "ab"]]'),
        *('[[0, [{"@": 3}]]]', '[[0, [{"@": -1}]]]', '[[0, [{"@": true}]]]', '[[0, [{"@": []}]]]'),
        *('[[0, [{"@": 0, "t": []}]]]', '[[0, [{"F": ["a", "r", false]}]]]', '[[0, [{"E": 1}]]]'),
        *("[[1, [[1]]]]", "[[1, [[[], 1]]]]", '[[1, [[{"@": 0}, 1]]]]', "[[1, 5]]"),
        *("[[2, 5]]", '[[2, "0"]]', '[[2, "zz"]]', "[[2, []]]"),
        *("[[0, [1]], [0, 5]]", "[[0, [1]]", "[[0, [1]]]]", f"[[0, {'[' * 10**5}"),
    ],
    ids=lambda text: text[:30],
)
def test_other_changes_are_refused_and_none_of_them_made(text: str) -> None:
    given: tuple[list[Any], dict[Any, Any], bytearray] = [0], {0: 0}, bytearray(b"0")
    objects = numbered(*given)
    with pytest.raises(Malformed):
        from_text(text, objects.change)
    assert given == ([0], {0: 0}, b"0")


def test_a_change_that_the_test_does_not_allow_is_refused() -> None:
    data = bytearray(b"0")
    objects = numbered(data)
    with memoryview(data), pytest.raises(Malformed):
        from_text('[[0, "0000"]]', objects.change)
    assert data == b"0"


def test_whatever_the_text_objects_stay_what_they_are() -> None:
    chance = random.Random(7)
    honest = '[[0, [1, {"@": 1}, {"t": [{"d": [[1, {"@": 0}]]}]}]], [1, [["k", 2]]], [2, "00"]]'
    pieces = (*'[]{},:"019', '{"@": ', '{"t": ', '{"d": ', '{"F": ', "null", '"ff"', "-1", "[[0, ")
    made = refused = 0
    for _ in range(3000):
        text = honest
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(pieces) + text[at + chance.randrange(4) :]
        objects = numbered([], {}, bytearray())
        try:
            from_text(text, objects.change)
            made += 1
        except Malformed:
            refused += 1
        assert [type(one) for one in objects.all] == [list, dict, bytearray]
    assert made > 50 and refused > 50


# Files


def both(tmp_path: Path) -> tuple[Folder, Folder, Callable[[], None]]:
    """Two folders, and what takes the changes of the first to the second as messages do."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for place in (ours, theirs):
        place.mkdir()
    one, other = Folder(str(ours)), Folder(str(theirs))

    def go() -> None:
        node = json.loads(json.dumps(told(one.changes(10_000))))
        other.apply(*checked(built(node)))

    return one, other, go


def test_links_and_special_files_are_not_told(tmp_path: Path) -> None:
    one, _, go = both(tmp_path)
    top = Path(one.top)
    (tmp_path / "secret").write_text("secret")
    (top / "d").mkdir()
    (top / "d" / "a").write_text("a")
    (top / "link").symlink_to(tmp_path / "secret")
    (top / "way").symlink_to(tmp_path)
    os.mkfifo(top / "fifo")
    go()
    found = [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "theirs").rglob("*"))]
    assert found == ["theirs/d", "theirs/d/a"]


def test_a_file_that_becomes_a_link_is_gone(tmp_path: Path) -> None:
    one, other, go = both(tmp_path)
    (Path(one.top) / "a").write_text("a")
    go()
    (Path(one.top) / "a").unlink()
    (Path(one.top) / "a").symlink_to("/etc/passwd")
    go()
    assert os.listdir(other.top) == []  # noqa: PTH208


def test_what_is_written_is_written_in_place(tmp_path: Path) -> None:
    one, other, go = both(tmp_path)
    (Path(one.top) / "a").write_text("long")
    go()
    with (Path(other.top) / "a").open() as held:
        (Path(one.top) / "a").write_text("new")
        go()
        assert held.read() == "new"


@pytest.mark.parametrize("size", [10_001, 1 << 40])
def test_more_than_is_allowed_is_not_read(tmp_path: Path, size: int) -> None:
    one, _, go = both(tmp_path)
    with (Path(one.top) / "a").open("wb") as file:
        file.truncate(size)
    with pytest.raises(TooMuch):
        go()


PATHS = (
    *("", ".", "..", "/", "/tmp/boo", "../boo", "a/../../boo", "a/", "a//b", "./a", "a/.", "\0"),
    *("a\0b", "x" * 1025, "/".join("x" * 65), 5, None, ("a",), b"a"),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path)[:20])
def test_a_path_leads_down_from_the_top(tmp_path: Path, path: Any) -> None:
    for content in (({path: "boo"}, []), ({}, [path])):
        with pytest.raises((ValueError, TypeError)):
            checked(content)


@pytest.mark.parametrize(
    "content",
    [None, 5, (), ({},), ({}, [], []), ([], []), ({}, {}), ({"a": 5}, []), ({"a": ["b"]}, [])],
)
def test_changes_of_files_have_one_form(content: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        checked(content)


def test_no_link_of_the_tests_own_is_gone_through(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "top"))
    (tmp_path / "top").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "top" / "way").symlink_to(tmp_path / "beside")
    (tmp_path / "top" / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="no directory"):
        folder.apply({"way/boo": "boo"}, [])
    folder.apply({"link": "boo"}, [])
    assert (tmp_path / "kept").read_text() == "kept" and not [*(tmp_path / "beside").iterdir()]
    assert (tmp_path / "top" / "link").read_text() == "boo"
    (tmp_path / "beside" / "kept").write_text("kept")
    folder.apply({}, ["way/kept", "way"])
    assert (tmp_path / "top" / "way").is_symlink()
    assert (tmp_path / "beside" / "kept").exists()
