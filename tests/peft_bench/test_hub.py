"""Reading from the hub, against a stand-in on this machine that speaks the hub's layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from peft_bench import data

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
repo, revision, config, *splits = sys.argv[1:]
try:
    rows, origin = hub.read_rows(
        repo, splits, config=config or None, revision=revision or None
    )
    print(json.dumps({"rows": list(rows), "origin": origin}))
except PeftBenchError as error:
    print(json.dumps({"error": type(error).__name__, "exit": error.exit_code, "text": str(error)}))
"""

LOAD_SPLIT = """
import json, sys
from peft_bench import data
task, name = sys.argv[1:]
split = data.load_split(task, name)
print(json.dumps({"nl": [row.nl for row in split.rows], "ids": [row.id for row in split.rows],
                  "custom": split.custom, "origin": split.origin}))
"""


EVALUATE = """
import contextlib, json, sys
from peft_bench.errors import PeftBenchError
from peft_bench.evaluation import evaluate
adapter, out = sys.argv[1:]
try:
    with contextlib.redirect_stdout(sys.stderr):  # the harness prints tables
        record = evaluate(adapter, tasks=["conala"], out=out,
                          harness_args=["--limit", "2", "--gen_kwargs", "max_gen_toks=4"])
    print(json.dumps({"name": record.adapter.name, "sha256": record.adapter.sha256,
                      "em": record.tasks[0].scores["em@10"].value}))
except PeftBenchError as error:
    print(json.dumps({"exit": error.exit_code, "text": str(error)}))
"""

LOCATE = """
import json, sys
from peft_bench.errors import PeftBenchError
from peft_bench.hub_adapters import adapter_folder
try:
    folder = adapter_folder(sys.argv[1])
    files = sorted(file.name for file in folder.glob("*"))
    print(json.dumps({"folder": str(folder), "files": files}))
except PeftBenchError as error:
    print(json.dumps({"exit": error.exit_code, "text": str(error)}))
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
    if re.fullmatch("[0-9a-f]{40}", branch):
        return branch  # a commit that is pinned
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
        if api:  # api/models/ORG/NAME, api/datasets/ORG/NAME
            parts = parts[2:]
        elif parts[0] == "datasets":
            parts = parts[1:]
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


def read(
    hub: Hub, home: Path, *splits: str, revision: str = "", config: str = "", **extra: str
) -> Any:
    return run(hub.endpoint, home, CLIENT, REPO, revision, config, *splits, **extra)


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
    again = run("http://127.0.0.1:9", tmp_path, CLIENT, REPO, "", "", "train", HF_HUB_OFFLINE="1")
    assert again == answer


def test_shards_come_in_the_order_of_their_numbers(hub: Hub, tmp_path: Path) -> None:
    files = {f"data/train-{n}-of-12.parquet": parquet(row(n)) for n in range(12)}
    hub.add(REPO, files)
    assert values(read(hub, tmp_path, "train")) == [row(n) for n in range(12)]


def test_a_split_goes_by_its_other_names(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"valid.jsonl": jsonl(row(1)), "invalid.jsonl": jsonl(row(2))})
    assert values(read(hub, tmp_path, "validation", "valid", "dev")) == [row(1)]


def test_a_configuration_is_a_folder_and_others_stay_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Laid out as MBPP and as the parquet conversion of APPS."""
    name = "test-00000-of-00001.parquet"
    files = {f"{config}/{name}": parquet(row(n)) for n, config in enumerate(("a", "full", "z"))}
    hub.add(REPO, files)
    assert values(read(hub, tmp_path, "test", config="full")) == [row(1)]
    assert values(read(hub, tmp_path, "test", config="z")) == [row(2)]
    assert not [line for line in hub.asked if f"/a/{name}" in line]
    converted = {
        f"{config}/{split}/{n:04}.parquet": parquet(row(n))
        for config in ("all", "introductory")
        for split in ("train", "test")
        for n in range(2)
    }
    hub.add(REPO, {"apps.py": b"import datasets\n"})
    hub.add(REPO, converted, branch=PARQUET)
    assert values(read(hub, tmp_path, "train", config="all")) == [row(0), row(1)]
    assert not [line for line in hub.asked if "introductory" in line or "all/test" in line]


def test_a_configuration_is_a_part_of_the_name(hub: Hub, tmp_path: Path) -> None:
    """Laid out as ODEX: a file a language."""
    hub.add(REPO, {f"{name}_test.jsonl": jsonl(row(n)) for n, name in enumerate(("aen", "en"))})
    assert values(read(hub, tmp_path, "test", config="en")) == [row(1)]
    answer = read(hub, tmp_path, "test", config="es")
    assert answer["error"] == "MissingError"
    assert "a split named test of configuration es" in answer["text"]


def test_files_of_no_configuration_serve_any(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1)), "data/test-0-of-1.parquet": parquet(row(2))})
    assert values(read(hub, tmp_path, "train", config="all")) == [row(1)]
    assert values(read(hub, tmp_path, "test", config="all")) == [row(2)]


def test_older_uploads_end_their_names_in_a_hash(hub: Hub, tmp_path: Path) -> None:
    """Laid out as CodeAlpacaPy; the hashes' digits order no shards."""
    hashes = ["9f3a", "0b12", "77c1"]
    hub.add(
        REPO,
        {
            f"data/valid-0000{n}-of-00003-{name}.parquet": parquet(row(n))
            for n, name in enumerate(hashes)
        },
    )
    found = values(read(hub, tmp_path, "validation", "valid", "dev"))
    assert found == [row(n) for n in range(3)]


def test_a_revision_asked_for_is_the_only_one_read(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, {"train.jsonl": jsonl(row(1))})
    hub.add(REPO, {"all/train/0000.parquet": parquet(row(2))}, branch=PARQUET)
    answer = read(hub, tmp_path, "train", revision="0" * 40)
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "PEFT_BENCH_DATA" in answer["text"]
    # Nor is another branch read where this one lacks the split.
    commit = hub.add(REPO, {"test.jsonl": jsonl(row(3))}, branch="v1")
    assert read(hub, tmp_path, "train", revision="v1")["error"] == "MissingError"
    assert read(hub, tmp_path, "test", revision="v1")["origin"] == f"{REPO}@{commit}"


def test_packed_lines_and_integers_of_five_thousand_digits(hub: Hub, tmp_path: Path) -> None:
    digits = b"8" * 5000
    lines = b"\n" + jsonl(row(1)) + b'\n{"tests": {"inputs": [' + digits + b"]}}\n"
    hub.add(REPO, {"train.jsonl.gz": gzip.compress(lines)})
    code = CLIENT.replace("list(rows)", "[row.get('tests') is not None for _, row in rows]")
    answer = run(hub.endpoint, tmp_path, code, REPO, "", "", "train")
    assert answer["rows"] == [False, True]


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
        answer = run(endpoint, tmp_path, CLIENT, REPO, "", "", "train")
    assert (answer["error"], answer["exit"]) == ("MissingError", 3)
    assert "refused" in answer["text"]
    assert "HF_ENDPOINT" in answer["text"] and "PEFT_BENCH_DATA" in answer["text"]


def test_a_proxy_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        answer = run(
            "https://hub.invalid", tmp_path, CLIENT, REPO, "", "", "train", HTTPS_PROXY=proxy
        )
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
    train = run(hub.endpoint, tmp_path, LOAD_SPLIT, "conala", "train")
    assert train == {
        "nl": ["intent 1", "intent 2"],
        "ids": ["0", "1"],
        "custom": True,
        "origin": f"{CONALA}@{commit}",
    }
    validation = run(hub.endpoint, tmp_path, LOAD_SPLIT, "conala", "validation")
    assert (validation["nl"], validation["ids"]) == (["intent 3"], ["77-1"])
    assert not [line for line in hub.asked if "docs" in line]


def test_the_data_sets_with_schemas_of_their_own_end_to_end(hub: Hub, tmp_path: Path) -> None:
    """Laid out as the real repositories, at the commits that are pinned."""
    apps = {
        "id": 5,
        "question": "Print one.",
        "solutions": '["print(1)"]',
        "input_output": '{"inputs": [""], "outputs": ["1"]}',
        "difficulty": "interview",
        "starter_code": "",
    }
    odex = {
        "task_id": 9,
        "prompt": "def f_9():\n\treturn ",
        "canonical_solution": "1",
        "test_start": "\ndef check(candidate):",
        "test": ["\n    assert candidate() == 1"],
        "entry_point": "f_9",
        "intent": "one",
        "library": [],
    }
    mbpp = {
        "task_id": 11,
        "text": "Give one.",
        "code": "def one(): return 1",
        "test_list": ["assert one() == 1"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    files: dict[str, Files] = {
        "apps": {"apps.py": b"", "test.jsonl": jsonl(apps), "train.jsonl": jsonl(apps)},
        "odex": {"en_test.jsonl": jsonl(odex), "es_test.jsonl": b"never read"},
        "mbpp": {
            "full/test-00000-of-00001.parquet": parquet(mbpp),
            "sanitized/test-00000-of-00001.parquet": b"never read",
        },
    }
    for task, content in files.items():
        source = data.SOURCES[task]
        assert source.hub_id is not None and source.revision is not None
        commit = hub.add(source.hub_id, content, branch=source.revision)
        answer = run(hub.endpoint, tmp_path, LOAD_SPLIT, task, "test")
        assert answer["origin"] == f"{source.hub_id}@{commit}"
        assert len(answer["nl"]) == 1
        # Rows that are not MBPP's pinned ones are told; the others come from the data set itself.
        assert answer["custom"] is (task == "mbpp")


ADAPTER = "org/adapter"


def files_of(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_adapter_of_the_hub_is_scored_as_the_folder_is(
    hub: Hub, trained: Callable[..., Path], tiny_data: Path, tmp_path: Path
) -> None:
    folder = trained()
    hub.add(ADAPTER, {**files_of(folder), "checkpoints/optimizer.bin": b"large"})
    more = {"PEFT_BENCH_DATA": str(tiny_data)}
    out = str(tmp_path / "e")
    found = run(hub.endpoint, tmp_path / "home", EVALUATE, ADAPTER, out, **more)
    assert not any("checkpoints" in asked for asked in hub.asked)
    here = run(hub.endpoint, tmp_path / "home", EVALUATE, str(folder), f"{out}2", **more)
    assert found == here
    # What is kept is another adapter's no longer when the hub has a newer one.
    hub.add(ADAPTER, files_of(trained("llama", "ia3")))
    hub.repos[ADAPTER]["v2"] = hub.repos[ADAPTER].pop("main")
    newer = f"{ADAPTER}@v2"
    told = run(hub.endpoint, tmp_path / "home", EVALUATE, newer, out, **more)
    assert told["exit"] == 2 and "another evaluation: adapter_sha256 was" in told["text"]


def test_an_adapter_that_the_hub_has_not(hub: Hub, tmp_path: Path) -> None:
    hub.add(ADAPTER, {"adapter_config.json": b"{}"})
    for named in ("org/other", f"{ADAPTER}@v9"):
        told = run(hub.endpoint, tmp_path, LOCATE, named)
        assert told["exit"] == 3
        assert told["text"].startswith(
            f"adapter {named}: no such folder, and the hub gave none: 404"
        )
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        told = run(endpoint, tmp_path, LOCATE, ADAPTER)
    assert told["exit"] == 3 and "HF_ENDPOINT" in told["text"]


def test_an_adapter_read_once_is_read_again_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.add(ADAPTER, {"adapter_config.json": b"{}"})
    first = run(hub.endpoint, tmp_path, LOCATE, ADAPTER)
    assert first["files"] == ["README.md", "adapter_config.json"]
    asked = len(hub.asked)
    assert run(hub.endpoint, tmp_path, LOCATE, ADAPTER, HF_HUB_OFFLINE="1") == first
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    "named", ["tests", "tests/no-such", "./org/adapter", "/org/adapter", "a/b/c"]
)
def test_paths_are_not_asked_of_the_hub(hub: Hub, tmp_path: Path, named: str) -> None:
    (tmp_path / "tests").mkdir()
    code = f"import os; os.chdir({str(tmp_path)!r})\n{LOCATE}"
    assert run(hub.endpoint, tmp_path, code, named)["folder"] == str(Path(named))
    assert hub.asked == []
