"""``--push``: an adapter's folder to a stand-in for the hub on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_bench.errors import MissingError, PeftBenchError
from peft_bench.publish import push

_PUSH = """
import sys
from peft_bench.errors import PeftBenchError
from peft_bench.publish import push
try:
    print(push(sys.argv[1], sys.argv[2]))
except PeftBenchError as error:
    print(error)
    sys.exit(error.exit_code)
"""

_CLI = """
import sys
from peft_bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits as the hub's API does; keeps them in the server."""

    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({"error": "none"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not body and self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.server.refuses:
            self.answer({"error": "You have no right to do that"}, 403)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.answer({"url": f"{self.server.url}/me/mine"})
        elif self.path.startswith("/api/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            facts = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": file["path"]} | facts for file in files]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    content = base64.b64decode(item["value"]["content"])
                    self.server.files[item["value"]["path"]] = content
            url = f"{self.server.url}/me/mine/commit/abc"
            self.answer({"commitUrl": url, "commitOid": "abc"})
        else:
            self.answer({"error": "unknown"}, 404)

    def answer(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture()
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.refuses, server.made, server.files = False, [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def pushed(hub: Any, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    return run(hub, home, _PUSH, str(folder), "me/mine")


def run(hub: Any, home: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's address is read when its client is imported."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_whole_folder_arrives(hub: Any, trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained()
    done = pushed(hub, folder, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == f"{hub.url}/me/mine/commit/abc"
    assert hub.files == {file.name: file.read_bytes() for file in folder.iterdir()}
    [made] = hub.made
    assert made["name"] == "mine" and made["organization"] == "me"
    assert made.get("private") is True or made.get("visibility") == "private"


def test_train_pushes_what_it_made(
    hub: Any,
    trained: Callable[..., Path],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = trained()
    monkeypatch.setenv("PEFT_BENCH_DATA", str(tiny_data))  # the rows that it was trained on
    done = run(
        hub,
        tmp_path,
        _CLI,
        "train",
        str(folder / "recipe.yaml"),
        "--out",
        str(folder),
        "--push",
        "me/mine",
        "--public",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [str(folder), f"{hub.url}/me/mine/commit/abc"]
    assert hub.files == {file.name: file.read_bytes() for file in folder.iterdir()}
    [made] = hub.made
    assert not made.get("private") and made.get("visibility") in (None, "public")


def test_a_refusal_leaves_the_adapter_and_is_told(
    hub: Any, trained: Callable[..., Path], tmp_path: Path
) -> None:
    hub.refuses = True
    folder = trained()
    done = pushed(hub, folder, tmp_path)
    assert done.returncode == 3
    assert "the hub did not take it" in done.stdout and str(folder) in done.stdout
    assert hub.files == {}


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "refused"),
        ("nonsense", "'http://'"),
        ("http://999.1.1.1", "999.1.1.1"),  # of another kind than all other errors of the client
    ],
)
def test_a_hub_that_cannot_be_reached_is_told(
    endpoint: str, said: str, trained: Callable[..., Path], tmp_path: Path
) -> None:
    folder = trained()
    done = pushed(SimpleNamespace(url=endpoint), folder, tmp_path)
    assert done.returncode == 3, done.stderr
    first, *more = done.stdout.splitlines()
    assert first.startswith("--push me/mine: the hub did not take it: ") and said in first
    assert "HF_ENDPOINT" in first and str(folder) in first and not more


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("Error while uploading 'adapter_model.safetensors' to the Hub.\nA"),
            "safete",
        ),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=str,
)
def test_an_upload_that_breaks_off_is_told(
    error: Exception, said: str, trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    def breaks_off(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(HfApi, "upload_folder", breaks_off)
    with pytest.raises(MissingError, match=f"the hub did not take it: .*{said}.*HF_ENDPOINT"):
        push(trained(), "me/mine")


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(PeftBenchError, match="adapter"):
            push(folder, "me/mine")
