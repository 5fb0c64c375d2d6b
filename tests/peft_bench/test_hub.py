"""Reading from the hub, against a stand-in on this machine that speaks the hub's layout."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

# What this process imports, a process of its own imports too.
PYTHONPATH = os.pathsep.join(path for path in sys.path if path)
REPO = "org/rows"
CONALA = "neulab/docprompting-conala"
PARQUET = "refs/convert/parquet"

Files = dict[str, bytes]

CLIENT = """
import json, sys
from peft_bench import hub
from peft_bench.errors import PeftBenchError
repo, revision, *splits = sys.argv[1:]
try:
    rows, origin = hub.read_rows(repo, splits, revision=revision or None)
    print(json.dumps({"rows": rows, "origin": origin}))
except PeftBenchError as error:
    print(json.dumps({"error": type(error).__name__, "exit": error.exit_code, "text": str(error)}))
"""

LOAD_SPLIT = """
import json, sys
from peft_bench import data
split = data.load_split("conala", sys.argv[1])
print(json.dumps({"nl": [row.nl for row in split.rows], "ids": [row.id for row in split.rows],
                  "custom": split.custom, "origin": split.origin}))
"""


@dataclass
class Hub:
    """The stand-in: data sets by id, each a mapping of branches to files."""

    repos: dict[str, dict[str, Files]] = field(default_factory=dict)
    status: int = 200
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)

    def add(self, repo: str, files: Files, *, branch: str = "main") -> str:
        """Puts files on a branch; returns the commit."""
        self.repos.setdefault(repo, {})[branch] = {"README.md": b"# rows\n", **files}
        return commit_of(repo, branch)


def commit_of(repo: str, branch: str) -> str:
    return hashlib.sha1(f"{repo}@{branch}".encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, *, body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {unquote(path)}")
        if self.hub.status != 200:
            self.reply(self.hub.status, b"{}", body=body)
            return
        parts = [unquote(part) for part in path.strip("/").split("/")]
        api = parts[0] == "api"
        parts = parts[2:] if api else parts[1:]
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.hub.repos:
            self.reply(404, b"{}", body=body, error="RepoNotFound")
            return
        branches = self.hub.repos[repo]
        revision = rest[1] if len(rest) > 1 else "main"
        by_commit = {commit_of(repo, branch): branch for branch in branches}
        branch = by_commit.get(revision, revision)
        if branch not in branches:
            self.reply(404, b"{}", body=body, error="RevisionNotFound")
            return
        commit, files = commit_of(repo, branch), branches[branch]
        if api and rest[:1] == ["tree"]:
            self.reply_json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
                    for name, content in sorted(files.items())
                ]
            )
        elif api:
            self.reply_json(
                {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            )
        elif "/".join(rest[2:]) in files:
            content = files["/".join(rest[2:])]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(content)}"'}
            self.reply(200, content, body=body, **headers)
        else:
            self.reply(404, b"", body=body, error="EntryNotFound")

    def reply_json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), body=True, **{"Content-Type": "text/json"})

    def reply(
        self, status: int, content: bytes, *, body: bool, error: str = "", **headers: str
    ) -> None:
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def etag(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture()
def hub() -> Iterator[Hub]:
    stand_in = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    stand_in.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield stand_in
    server.shutdown()
    thread.join()
    server.server_close()


def run(endpoint: str, home: Path, code: str, *arguments: str, **extra: str) -> Any:
    """Runs the code in a process of its own: huggingface_hub reads its environment at import."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_") and "proxy" not in name.lower() and name != "PEFT_BENCH_DATA"
    }
    environment = {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **extra}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**environment, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "No files matched" not in done.stderr
    return json.loads(done.stdout)


def read(hub: Hub, home: Path, *splits: str, revision: str = "", **extra: str) -> Any:
    return run(hub.endpoint, home, CLIENT, REPO, revision, *splits, **extra)


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(*rows: dict[str, Any]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()


def row(number: int) -> dict[str, str]:
    return {"nl": f"intent {number}", "cmd": f"code({number})"}


def values(answer: Any) -> list[Any]:
    return [value for _, value in answer["rows"]]


def test_json_lines_on_the_main_branch(hub: Hub, tmp_path: Path) -> None:
    weird = {"nl": "line\u2028separator \u00e9", "cmd": "x"}
    commit = hub.add(
        REPO, {"rows-train.jsonl": jsonl(row(1), weird), "rows-test.jsonl": jsonl(row(9))}
    )
    answer = read(hub, tmp_path, "train")
    assert values(answer) == [row(1), weird]
    assert answer["origin"] == f"{REPO}@{commit}"
    assert answer["rows"][1][0] == "rows-train.jsonl row 1"
    assert not [line for line in hub.asked if "rows-test" in line]


def test_a_json_array_and_a_pinned_revision(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1))})
    commit = hub.add(REPO, {"train.json": json.dumps([row(2), row(3)]).encode()}, branch="v1")
    answer = read(hub, tmp_path, "train", revision="v1")
    assert values(answer) == [row(2), row(3)]
    assert answer["origin"] == f"{REPO}@{commit}"


def test_the_parquet_conversion_where_main_has_only_a_script(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"rows.py": b"import datasets\n"})
    files = {
        # Two sets with a split of that name: one of them, never both together.
        "data/train/0000.parquet": parquet(row(1), row(2)),
        "docs/train/0000.parquet": parquet({"doc_id": "a", "doc_content": "b"}),
    }
    commit = hub.add(REPO, files, branch=PARQUET)
    answer = read(hub, tmp_path, "train")
    assert values(answer) == [row(1), row(2)]
    assert answer["origin"] == f"{REPO}@{commit}"
    # And the same once more with no hub to be had.
    again = run("http://127.0.0.1:9", tmp_path, CLIENT, REPO, "", "train", HF_HUB_OFFLINE="1")
    assert again == answer


def test_shards_come_in_the_order_of_their_numbers(hub: Hub, tmp_path: Path) -> None:
    files = {f"data/train-{n}-of-12.parquet": parquet(row(n)) for n in range(12)}
    hub.add(REPO, files)
    assert values(read(hub, tmp_path, "train")) == [row(n) for n in range(12)]


def test_a_split_goes_by_its_other_names(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"valid.jsonl": jsonl(row(1)), "invalid.jsonl": jsonl(row(2))})
    assert values(read(hub, tmp_path, "validation", "valid", "dev")) == [row(1)]


def test_no_such_split(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1))})
    answer = read(hub, tmp_path, "validation", "valid")
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "no file for a split named validation or valid" in answer["text"]
    assert "PEFT_BENCH_DATA" in answer["text"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("train.jsonl", b'{"nl": ', "JSON"),
        ("train.jsonl.gz", b"\x1f\x8b\x08\x00not gzip at all", "JSON"),
        ("train.parquet", b"PAR1 but no further", "parquet"),
    ],
)
def test_a_broken_file_is_named(
    hub: Hub, tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    hub.add(REPO, {name: content})
    answer = read(hub, tmp_path, "train")
    assert (answer["error"], answer["exit"]) == ("UsageError", 2)
    assert answer["text"].startswith(f"{name}: is not {kind}")


def test_a_data_set_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    answer = read(hub, tmp_path, "train")
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "404" in answer["text"] and "PEFT_BENCH_DATA" in answer["text"]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_hub_that_refuses(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1))})
    hub.status = status
    answer = read(hub, tmp_path, "train")
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert str(status) in answer["text"] and "PEFT_BENCH_DATA" in answer["text"]


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        answer = run(endpoint, tmp_path, CLIENT, REPO, "", "train")
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "refused" in answer["text"]
    assert "HF_ENDPOINT" in answer["text"] and "PEFT_BENCH_DATA" in answer["text"]


def test_a_proxy_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        answer = run("https://hub.invalid", tmp_path, CLIENT, REPO, "", "train", HTTPS_PROXY=proxy)
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "PEFT_BENCH_DATA" in answer["text"]


def test_offline_what_was_read_before_is_read_again_and_nothing_else(
    hub: Hub, tmp_path: Path
) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1)), "test.jsonl": jsonl(row(2))})
    refused = read(hub, tmp_path, "train", HF_HUB_OFFLINE="1")
    assert (refused["error"], refused["exit"]) == ("MissingError", 3)
    assert "HF_HUB_OFFLINE" in refused["text"] and "PEFT_BENCH_DATA" in refused["text"]
    assert hub.asked == []

    online = read(hub, tmp_path, "train")
    asked = len(hub.asked)
    assert read(hub, tmp_path, "train", HF_HUB_OFFLINE="1") == online
    other = read(hub, tmp_path, "test", HF_HUB_OFFLINE="1")
    assert (other["error"], other["exit"]) == ("MissingError", 3)
    assert "test.jsonl" in other["text"]
    assert len(hub.asked) == asked


def test_half_of_the_shards_in_the_cache_are_not_the_split(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {f"train-{n}-of-2.parquet": parquet(row(n)) for n in range(2)})
    read(hub, tmp_path, "train")
    [shard] = tmp_path.rglob("snapshots/*/train-1-of-2.parquet")
    shard.unlink()
    answer = read(hub, tmp_path, "train", HF_HUB_OFFLINE="1")
    assert answer["error"] == "MissingError"
    assert "train-1-of-2.parquet" in answer["text"]


def test_load_split_end_to_end(hub: Hub, tmp_path: Path) -> None:
    """Laid out as the real repository: a script, documents, and a file a split."""
    commit = hub.add(
        CONALA,
        {
            "docprompting-conala.py": b"import datasets\n",
            "conala-docs.jsonl": jsonl({"doc_id": "a", "doc_content": "b"}),
            "conala-train.jsonl": jsonl(row(1), row(2)),
            "conala-dev.jsonl": jsonl({**row(3), "question_id": "77-1"}),
            "conala-test.jsonl": jsonl(row(4)),
        },
    )
    train = run(hub.endpoint, tmp_path, LOAD_SPLIT, "train")
    assert train == {
        "nl": ["intent 1", "intent 2"],
        "ids": ["0", "1"],
        "custom": True,
        "origin": f"{CONALA}@{commit}",
    }
    validation = run(hub.endpoint, tmp_path, LOAD_SPLIT, "validation")
    assert (validation["nl"], validation["ids"]) == (["intent 3"], ["77-1"])
    assert not [line for line in hub.asked if "docs" in line]
