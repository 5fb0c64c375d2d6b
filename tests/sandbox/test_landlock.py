"""Landlock's rulesets, each put on a throw-away process."""

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")

from peft_bench_sandbox.inside import kernel, landlock  # noqa: E402


@pytest.fixture
def abi() -> int:
    try:
        return landlock.version()
    except OSError as error:
        pytest.skip(f"no Landlock here: {kernel.why(error)}")


def restricted(fd: int, attempt: Callable[[], object]) -> int:
    """The errno of an attempt made under a ruleset, 0 if it succeeded."""
    pid = os.fork()
    if pid == 0:
        code = 250
        try:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(fd)
            attempt()
            code = 0
        except OSError as error:
            code = error.errno or 249
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _rules(abi: int, *rules: tuple[Path, int], left_out: tuple[str, ...] = ()) -> int:
    opened = landlock.opened((str(path), rights) for path, rights in rules)
    return landlock.ruleset(abi, opened, left_out)


def test_only_what_is_ruled_in_can_be_read(abi: int, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("x")
    (tmp_path / "out").write_text("x")
    fd = _rules(abi, (tmp_path / "in", landlock.READ))
    assert restricted(fd, (tmp_path / "in" / "file").read_text) == 0
    assert restricted(fd, lambda: list((tmp_path / "in").iterdir())) == 0
    assert restricted(fd, (tmp_path / "out").read_text) == errno.EACCES
    assert restricted(fd, lambda: list(tmp_path.iterdir())) == errno.EACCES
    assert restricted(fd, lambda: (tmp_path / "in" / "file").write_text("y")) == errno.EACCES


def test_a_working_directory_can_be_worked_in(abi: int, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    fd = _rules(abi, (work, landlock.WORK))

    def attempt() -> None:
        (work / "sub").mkdir()
        (work / "file").write_text("x")
        (work / "file").write_text("yz")
        (work / "link").symlink_to("file")
        if abi >= 2:
            (work / "file").rename(work / "sub" / "file")
            (work / "sub" / "file").unlink()
        (work / "link").unlink()
        (work / "sub").rmdir()

    assert restricted(fd, attempt) == 0


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o140600)])
def test_no_special_file_is_made(abi: int, tmp_path: Path, make: Callable[[str], None]) -> None:
    fd = _rules(abi, (tmp_path, landlock.WORK))
    assert restricted(fd, lambda: make(f"{tmp_path}/special")) == errno.EACCES


def test_nothing_is_executed_unless_granted(abi: int) -> None:
    rights = landlock.READ
    run = [sys.executable, "-S", "-c", ""]
    # The loader and the libraries are read; what is executed needs the right of its own.
    denied = _rules(abi, (Path("/"), rights))
    granted = _rules(abi, (Path("/"), rights | landlock.EXECUTE))
    assert restricted(denied, lambda: os.execv(run[0], run)) == errno.EACCES
    assert restricted(granted, lambda: os.execv(run[0], run)) == 0


def test_tcp_is_refused_from_abi_4(abi: int) -> None:
    if abi < 4:
        pytest.skip(f"Landlock ABI {abi} does not know the network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def connect() -> None:
            # create_connection would read files first, which is refused with the same error.
            socket.socket().connect(address)

        def bind() -> None:
            socket.socket().bind(("127.0.0.1", 0))

        for attempt in (connect, bind):
            assert restricted(_rules(abi), attempt) == errno.EACCES
            assert restricted(_rules(abi, left_out=("network",)), attempt) == 0


def test_signals_and_abstract_sockets_stay_inside_from_abi_6(abi: int) -> None:
    if abi < 6:
        pytest.skip(f"Landlock ABI {abi} knows no scopes")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0peft-bench-{os.getpid()}")
        server.listen()

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(server.getsockname())

        assert restricted(_rules(abi), connect) == errno.EPERM
        assert restricted(_rules(abi, left_out=("abstract",)), connect) == 0
    parent = os.getpid()
    assert restricted(_rules(abi), lambda: os.kill(parent, 0)) == errno.EPERM
    assert restricted(_rules(abi, left_out=("signal",)), lambda: os.kill(parent, 0)) == 0


def test_with_everything_left_out_there_is_no_ruleset(abi: int) -> None:
    assert landlock.ruleset(abi, [], landlock.PARTS) == -1


@pytest.mark.parametrize("old", [1, 2, 3, 4, 5, 6])
def test_an_older_abi_is_asked_for_what_it_knows(abi: int, tmp_path: Path, old: int) -> None:
    if old > abi:
        pytest.skip(f"this kernel knows Landlock up to ABI {abi}")
    fd = _rules(old, (tmp_path, landlock.WORK))
    assert restricted(fd, lambda: (tmp_path / "file").write_text("x")) == 0
    assert restricted(fd, lambda: Path("/etc/passwd").read_text()) == errno.EACCES


def test_hidden_directories_are_left_out_of_a_readable_tree(abi: int, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    hidden = lib / "python" / "site-packages"
    hidden.mkdir(parents=True)
    (hidden / "secret").write_text("x")
    (lib / "python" / "os.py").write_text("x")
    (lib / "python" / "json").mkdir()
    (lib / "python" / "json" / "decoder.py").write_text("x")
    (lib / "libc.so").write_text("x")
    (lib / "way-round").symlink_to(hidden)
    rules = landlock.readable(str(lib), frozenset({str(hidden)}))
    fd = landlock.ruleset(abi, landlock.opened(rules))
    for shown in ("python/os.py", "python/json/decoder.py", "libc.so"):
        assert restricted(fd, (lib / shown).read_text) == 0, shown
    assert restricted(fd, lambda: list((lib / "python").iterdir())) == 0
    assert restricted(fd, (hidden / "secret").read_text) == errno.EACCES
    assert restricted(fd, (lib / "way-round" / "secret").read_text) == errno.EACCES


def test_a_hidden_root_and_a_missing_one_give_nothing(tmp_path: Path) -> None:
    assert landlock.readable(str(tmp_path), frozenset({os.path.realpath(tmp_path)})) == []
    assert landlock.opened([("/nonexistent", landlock.READ)]) == []
