"""The page in a real browser: nothing a model wrote runs, and the controls do what they say."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from peft_bench.leaderboard import build_board, write_html
from peft_bench.records import AdapterRecord

BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")

ATTACKS = [
    "<script>document.title='ATTACKED'</script>",
    "</script><script>document.title='ATTACKED'</script>",
    "</pre></template></select><img src=x onerror=\"document.title='ATTACKED'\">",
    "<svg onload=\"document.title='ATTACKED'\">",
    "<!--<script>document.title='ATTACKED'//-->",
    "<iframe srcdoc=\"<script>parent.document.title='ATTACKED'</script>\"></iframe>",
    "javascript:document.title='ATTACKED'",
    "\u2028document.title='ATTACKED'\u2029]]>",
    "<style>*{display:none}</style><link rel=stylesheet href=//e.example>",
    '<meta http-equiv=refresh content="0;url=data:text/html,ATTACKED">',
]


Write = Callable[..., Path]


@pytest.fixture
def write_page(tmp_path: Path, make_run: Callable[..., Any]) -> Write:
    """Writes a page of a base run and an adapter's, whose every text holds an attack."""

    def write(attack: str = "") -> Path:
        runs = []
        for name, right in (("base", 3), ("lora", 8)):
            adapter = AdapterRecord(f"a{attack}", "a" * 64, f"lora{attack}") if right > 3 else None
            sample = {
                "resps": [[f"answer{attack}"]] * 3,
                "arguments": {"gen_args_0": {"arg_0": f"ask{attack}"}},
                "target": f"reference{attack}",
                "verdicts": [{"status": f"wrong{attack}", "message": attack}] * 3,
            }
            values = [float(i < right) for i in range(10)]
            runs.append(
                make_run(name, values, adapter=adapter, sample=sample, marks=(f"mark{attack}",))
            )
        board = build_board(runs)
        page = tmp_path / "board.html"
        write_html(board.rows, page, title=f"Mine{attack}", board=board)
        return page

    return write


def shown(page: Path, tmp_path: Path) -> str:
    """The document as the browser has it once its scripts have run."""
    assert BROWSER is not None
    ran = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return ran.stdout.decode()


class Seen(HTMLParser):
    """The elements and attributes of a document."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}


def title_of(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def test_hostile_answers_stay_text(write_page: Write, tmp_path: Path) -> None:
    attack = " ".join(ATTACKS)
    calm, dom = Seen(shown(write_page(), tmp_path)), shown(write_page(attack), tmp_path)
    assert title_of(dom).startswith("Mine<script>")  # shown as it is, and set by no attack
    answers = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", dom, re.DOTALL)]
    assert len(answers) == 2 + 3 + 3  # prompt, reference, and three answers a side
    assert all("<script>document.title='ATTACKED'</script>" in text for text in answers)
    seen = Seen(dom)
    assert set(seen.elements) == set(calm.elements)
    assert seen.attributes == calm.attributes
    assert seen.elements.count("script") == calm.elements.count("script") == 2


@pytest.mark.parametrize("attack", ATTACKS[:2])
def test_the_browser_would_run_an_attack_that_is_no_text(attack: str, tmp_path: Path) -> None:
    page = tmp_path / "open.html"
    page.write_text(f"<title>Mine</title><body><script></script>{attack}", encoding="utf-8")
    assert title_of(shown(page, tmp_path)) == "ATTACKED"


def driven(page: Path, tmp_path: Path, steps: str) -> Any:
    """What steps in the page return; the copy's policy is off, so that they can run."""
    source = re.sub(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8")
    )
    driver = (
        "<script>addEventListener('load',()=>{const q=(s)=>document.querySelector(s);"
        "const all=(s)=>[...document.querySelectorAll(s)];"
        "const set=(s,v)=>{q(s).value=v;q(s).dispatchEvent(new Event('input',{bubbles:true}));};"
        f"document.title=JSON.stringify((()=>{{{steps}}})());}});</script>"
    )
    copy = tmp_path / "driven.html"
    copy.write_text(source.replace("</body>", f"{driver}</body>"), encoding="utf-8")
    return json.loads(title_of(shown(copy, tmp_path)))


def test_the_page_sorts_filters_and_explores(write_page: Write, tmp_path: Path) -> None:
    found = driven(
        write_page(),
        tmp_path,
        """
        const names = () => all('#runs tbody tr').filter((r) => !r.hidden)
          .map((r) => r.querySelector('.run span').textContent);
        const before = names();
        const score = all('#runs thead button').find((b) => b.textContent === 'Score');
        score.click(); score.click();
        const upward = names();
        set('#filter', 'lora'); const filtered = names();
        const listed = () => all('#explored-list button').length;
        const everything = listed();
        set('#explored-show', '2'); const right = listed();
        set('#explored-show', '1'); const left = listed();
        set('#explored-show', '0'); all('#explored-list button')[4].click();
        return {before, upward, filtered, everything, right, left,
          problem: q('#explored-problem h3').textContent,
          sides: all('.sides h4').map((h) => h.textContent),
          hidden: q('#explorer').hidden};
        """,
    )
    assert found["before"] == ["lora", "base"]
    assert found["upward"] == ["base", "lora"]
    assert found["filtered"] == ["lora"]
    assert (found["everything"], found["right"], found["left"]) == (10, 5, 0)
    assert found["problem"] == "i4"
    assert found["sides"] == ["base (zero-shot): em@10 0", "lora (lora): em@10 100"]
    assert found["hidden"] is False
