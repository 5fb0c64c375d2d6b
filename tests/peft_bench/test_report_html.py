from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from peft_bench.records import Score
from peft_bench.report import text
from peft_bench.report.drawing import nice_ticks
from peft_bench.report.html import render_html
from peft_bench.report.markup import Markup, tag
from peft_bench.report.row import LeaderboardRow

VOID = {"meta", "input", "br"}
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></script><svg onload=alert(1)>",
    "<!-- --><a href=https://e.example>x</a>",
    "&lt;b&gt; &#60;i&#62;",
    "a\x00b\x1b[2J\u202ec",
]


class Page(HTMLParser):
    """Reads the page strictly: every tag closed in order, attributes and texts kept."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[dict[str, str | None]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)
        if name == "tr" and "data-task" in dict(attributes):
            self.rows.append(dict(attributes))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.tags if each == name]

    def said(self, name: str) -> list[str]:
        return [data for each, data in self.texts if each == name]


def row(**changes: Any) -> LeaderboardRow:
    values: dict[str, Any] = dict.fromkeys(
        field.name
        for field in dataclasses.fields(LeaderboardRow)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    values |= {
        "run": "run",
        "task": "conala",
        "task_version": "1.0",
        "demonstration": False,
        "model": "org/model",
        "method": "lora",
        "num_fewshot": 0,
        "profile": "stdlib",
        "custom_data": False,
        "n": 543,
        "primary_metric": "em@1",
        "primary_value": 0.1,
        "primary_stderr": 0.01,
        "marks": "",
        "status": "complete",
        "created": "2025-01-31T12:00:00+00:00",
        "metrics": {"em@1": Score(0.1, 0.01, 543, 1)},
    }
    return LeaderboardRow(**values | changes)


ROWS = [
    row(run="lora", trainable_parameters=1000, train_peak_bytes=3 << 30, primary_value=0.2),
    row(run="ia3", method="ia3", trainable_parameters=200, train_peak_bytes=2 << 30),
    row(run="base", method="none", primary_value=0.05, primary_stderr=None),
    row(run="quick", task="quickstart", demonstration=True, marks="10 of 40"),
]


def test_every_row_and_every_csv_column_is_there() -> None:
    page = Page(render_html(ROWS, title="Mine"))
    assert [attributes["data-task"] for attributes in page.rows] == ["conala"] * 3 + ["quickstart"]
    for name in ("lora", "ia3", "base", "quick"):
        assert name in page.said("span")
    assert page.said("h1") == page.said("title")[:1] == ["Mine"]
    heads = set(page.said("button"))
    assert {"Run", "Score", "Difference [95 %]", "em@1", "em@1_stderr", "created"} <= heads
    assert "sandbox_level" in heads


def test_each_row_has_a_cell_for_each_head() -> None:
    source = render_html(ROWS, title="Mine")
    heads = source.count('<th scope="col"')
    bodies = re.findall(r"<tr data-task.*?</tr>", source, re.DOTALL)
    assert len(bodies) == len(ROWS)
    assert {body.count("</td>") + body.count("</th>") for body in bodies} == {heads}


def test_the_table_can_be_used_without_seeing_it() -> None:
    page = Page(render_html(ROWS, title="Mine"))
    heads = [attributes for attributes in page.named("th") if attributes["scope"] == "col"]
    assert heads
    assert {attributes["aria-sort"] for attributes in heads} == {"none"}
    assert len([each for each in page.named("th") if each["scope"] == "row"]) == len(ROWS)
    assert all(attributes["aria-label"] for attributes in page.named("svg"))
    assert page.named("html") == [{"lang": "en"}]


def test_cells_carry_the_exact_value_to_sort_by() -> None:
    page = Page(render_html([row(primary_value=1 / 3, n=7)], title=""))
    values = {attributes.get("data-value") for attributes in page.named("td")}
    assert {repr(1 / 3), "7.0", "lora"} <= values


@pytest.mark.parametrize("evil", EVIL)
def test_hostile_texts_stay_texts(evil: str) -> None:
    calm = Page(render_html([row(), row(run="b")], title="t"))
    names = (
        *("run", "task", "task_version", "model", "method", "marks", "primary_metric"),
        *("dtype", "adapter", "profile", "created", "baseline_run"),
    )
    changed = dict.fromkeys(names, evil)
    hostile = [row(**changed, metrics={"em@1": Score(0.1, 0.01, 1)}) for _ in range(2)]
    page = Page(render_html(hostile, title=evil))
    shown = " ".join(data for _, data in page.texts)
    assert text.printable(evil) in shown
    assert not any(char in shown for char in "\x00\x1b\u202e")
    # Two rows of one task each time: the same elements with the same attributes, but for the
    # small print below a name, which marks add.
    kinds = {(name, frozenset(attributes)) for name, attributes in page.tags}
    known = {(name, frozenset(attributes)) for name, attributes in calm.tags}
    # Rows that name an adapter have their costs listed, too.
    assert kinds - known <= {
        ("small", frozenset({"class"})),
        ("td", frozenset({"class", "data-value"})),
        *(("th", frozenset(each)) for each in ({"scope"}, {"scope", "class"})),
        *(("td", frozenset(each)) for each in ((), {"class"})),
        ("table", frozenset({"class"})),
    }
    assert {attribute for _, found in page.tags for attribute in found} <= {
        attribute for _, found in calm.tags for attribute in found
    }


def test_nothing_is_loaded_and_nothing_else_may_run() -> None:
    source = render_html(ROWS, title="Mine")
    page = Page(source)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", source)
    assert not {"src", "href", "style", "action", "data", "poster"} & {
        attribute for _, found in page.tags for attribute in found
    }
    assert not any(attribute.startswith("on") for _, found in page.tags for attribute in found)
    (policy,) = (
        str(meta["content"])
        for meta in page.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for element in ("style", "script"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_the_policy_comes_before_what_it_governs() -> None:
    source = render_html(ROWS, title="Mine")
    assert source.index("Content-Security-Policy") < source.index("<title>")


def marks(page: Page) -> list[dict[str, str | None]]:
    return [
        attributes
        for name, attributes in page.tags
        if name in ("circle", "rect") and "mark" in str(attributes.get("class"))
    ]


def test_marks_stand_where_the_scores_are() -> None:
    page = Page(render_html(ROWS[:3], title="Mine"))
    places = []
    for each in marks(page)[:3]:
        places.append(float(str(each.get("cx") or float(str(each["x"])) + 5)))
    # 0.2, 0.1 and 0.05 on one linear scale from 0
    zero = 2 * places[1] - places[0]
    assert (places[2] - zero) / (places[0] - zero) == pytest.approx(0.25, abs=1e-3)
    bars = [each for each in page.named("line") if "bar" in str(each["class"])]
    assert len(bars) == 2  # the base model's error is unknown
    half = (float(str(bars[0]["x2"])) - float(str(bars[0]["x1"]))) / 2
    assert half / (places[0] - zero) == pytest.approx(1.96 * 0.01 / 0.2, rel=1e-2)


def test_marks_are_compared_as_a_whole() -> None:
    adapter = row(custom_data=True, marks="1 of 2; trained on custom data")
    assert text.remarks(adapter) == ["custom data", "1 of 2", "trained on custom data"]
    assert text.remarks(row(custom_data=True, marks="a; custom data")) == ["a", "custom data"]


def test_shares_are_out_of_100_in_every_column() -> None:
    page = Page(render_html([row(pscp=0.1234, seeds_stderr=0.0456), row(run="b")], title="t"))
    assert {"12.3", "4.6"} <= set(page.said("td"))


def test_a_demonstration_is_marked_as_one() -> None:
    page = Page(render_html(ROWS, title="Mine"))
    classes = [str(each["class"]) for each in marks(page)]
    assert [each for each in classes if "demonstration" in each] == ["mark adapter demonstration"]
    assert "demonstration: measures nothing" in page.said("li")
    assert [attributes for attributes in page.rows if "data-demonstration" in attributes] == [
        {"data-task": "quickstart", "data-demonstration": None}
    ]
    assert {"demonstration", "10 of 40"} <= set(page.said("small"))


def test_costs_are_plotted_where_two_runs_know_them() -> None:
    captions = Page(render_html(ROWS, title="Mine")).said("figcaption")
    assert captions == [
        "em@1 against trainable parameters (log scale)",
        "em@1 against peak memory in training",
    ]
    alone = [dataclasses.replace(ROWS[0], train_peak_bytes=None), ROWS[1]]
    assert len(Page(render_html(alone, title="Mine")).said("figcaption")) == 1


def test_models_have_colours_of_their_own_where_there_are_several() -> None:
    def coloured(rows: list[LeaderboardRow]) -> dict[str, str]:
        page = Page(render_html(rows, title="Mine"))
        keys = [str(a.get("class")) for _, a in page.tags if "key s" in str(a.get("class"))]
        found = [str(each["class"]).split()[-1] for each in marks(page)]
        return dict(zip([each for each in found if each[0] == "c"], keys, strict=False))

    costs = {"trainable_parameters": 7, "train_peak_bytes": 2**20}
    runs = [row(run=f"r{i}", model=f"org/m{i % 2}", **costs) for i in range(4)]
    assert coloured(runs) == {"c1": "key s1", "c2": "key s2"}
    assert coloured([dataclasses.replace(one, model="org/m") for one in runs]) == {}
    many = [dataclasses.replace(runs[0], model=f"org/m{i}") for i in range(12)]
    assert coloured(many) == {}


def test_scores_that_are_all_0_are_listed_alone() -> None:
    def captions(*scores: float) -> list[str]:
        rows = [
            row(method=name, rank=1, primary_value=score, primary_stderr=None, **costs)
            for name, score in zip(("lora", "ia3"), scores, strict=True)
        ]
        return Page(render_html(rows, title="Mine")).said("figcaption")

    costs = {"trainable_parameters": 7, "train_peak_bytes": 2**20}
    assert captions(0.0, 0.0) == ["Peak memory in training, MiB"]
    assert len(captions(0.1, 0.0)) == 4


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(primary_value=0.0, primary_stderr=0.0)],
        [row(primary_value=1.0, primary_stderr=0.5)],
        [row(primary_value=0.0, trainable_parameters=1, train_peak_bytes=1)] * 3,
        [row(trainable_parameters=2**62, train_peak_bytes=2**62), row(trainable_parameters=1)],
    ],
)
def test_extremes_are_drawn(rows: list[LeaderboardRow]) -> None:
    source = render_html(rows, title="Mine")
    assert len(Page(source).rows) == len(rows)
    assert not re.search(r'"-?(nan|inf)"', source)


def test_equal_rows_make_equal_pages() -> None:
    assert render_html(ROWS, title="Mine") == render_html(list(ROWS), title="Mine")


def test_tag_escapes_all_but_markup() -> None:
    built = tag("p", "<b>", Markup("<i></i>"), class_='a"b', data_x=None, hidden=True)
    assert built == '<p class="a&quot;b" hidden>&lt;b&gt;<i></i></p>'


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (21.7, [0, 5, 10, 15, 20, 25]),
        (100, [0, 20, 40, 60, 80, 100]),
        (7.4, [0, 2, 4, 6, 8]),
    ],
)
def test_ticks_are_round(high: float, ticks: list[float]) -> None:
    assert nice_ticks(0, high) == ticks


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.count(999), "999"),
        (text.count(1_310_720), "1.31 M"),
        (text.count(999_960), "1.00 M"),
        (text.count(34_000_000_000), "34.0 G"),
        (text.size(0), "0 B"),
        (text.size(1023), "1023 B"),
        (text.size(21 * 2**30 + 2**29), "21.5 GiB"),
        (text.duration(12.34), "12.3 s"),
        (text.duration(59.97), "1 min 00 s"),
        (text.duration(3599.6), "1 h 00 min"),
        (text.duration(1834.2), "30 min 34 s"),
        (text.points(-0.0002), "0.0"),
        (text.points(-0.0512), "\N{MINUS SIGN}5.1"),
        (text.p_value(0.00001), "<0.001"),
        (text.p_value(0.0456), "0.046"),
        (text.p_value(0.5), "0.50"),
        (text.p_value(None), ""),
    ],
)
def test_figures_read_well(shown: str, expected: str) -> None:
    assert shown == expected
