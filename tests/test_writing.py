"""Whatever devplan writes is whole or not there, and nothing else is touched."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devplan.core.errors import InputError
from devplan.io import writing
from devplan.io.writing import WriteOutcome, refuse_unwritable, write_text

ROOT = Path(__file__).parents[1]
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        write_text(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(code: str, *arguments: object, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def test_a_file_too_large_leaves_the_old_one(tmp_path):
    """As a full disk or a quota does: the write itself fails, not the opening."""
    path = tmp_path / "baseline.json"
    path.write_text("precious")
    code = """
import resource, sys
from devplan.core.errors import InputError
from devplan.io.writing import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text("x" * 100_000, sys.argv[1], option="--baseline")
except InputError as error:
    print(error)
"""
    done = run(code, path)
    assert done.stdout == (
        f"cannot write {path}: File too large; name another file with --baseline FILE\n"
    ), done.stderr
    assert path.read_text() == "precious" and os.listdir(tmp_path) == ["baseline.json"]


def test_folders_that_were_made_for_it_go_again(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert "No space left" in refusal("x", tmp_path / "a" / "b" / "c.txt")
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_no_draft(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text("x", tmp_path / "new" / "report.txt")
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from devplan.io.writing import write_text
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_text("half", sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_the_draft_of_a_killed_process_is_swept(tmp_path):
    path = tmp_path / "report.txt"
    assert run(KILLED, path).returncode == -signal.SIGKILL
    (draft,) = os.listdir(tmp_path)
    assert re.fullmatch(r"\.devplan-[0-9a-f]{8}-[0-9]+-[0-9a-f]{16}\.tmp", draft)
    write_text("whole", path)
    assert os.listdir(tmp_path) == ["report.txt"] and path.read_text() == "whole"


def test_only_dead_or_old_drafts_are_swept(tmp_path):
    here, token = writing._machine(), "0123456789abcdef"
    gone = 2**31 - 2  # beyond every kernel's largest process id
    kept = {
        f".devplan-{here}-{os.getppid()}-{token}.tmp",  # its process lives
        f".devplan-00000000-{gone}-{token}.tmp",  # of another machine, and young
        f".devplan-{here}-{gone}-{token}.tmp.bak",  # not a draft of devplan's
        f"devplan-{here}-{gone}-{token}.tmp",
        f".devplan-{here}-{gone}-short.tmp",
    }
    swept = {
        f".devplan-{here}-{gone}-{token}.tmp",
        f".devplan-{here}-{os.getpid()}-{token}.tmp",  # the id was given to this process anew
        f".devplan-ffffffff-1-{token}.tmp",  # old
    }
    for name in kept | swept:
        (tmp_path / name).write_text("x")
    day_before = time.time() - 25 * 3600
    os.utime(tmp_path / f".devplan-ffffffff-1-{token}.tmp", (day_before, day_before))
    folder = tmp_path / f".devplan-{here}-{gone}-fedcba9876543210.tmp"
    folder.mkdir()
    write_text("x", tmp_path / "report.txt")
    assert {*os.listdir(tmp_path)} == {*kept, folder.name, "report.txt"}


def test_threads_do_not_sweep_each_others_drafts(tmp_path):
    errors = []

    def write(number: int) -> None:
        try:
            for turn in range(20):
                write_text(f"{number} {turn}", tmp_path / f"{number}.txt")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(os.listdir(tmp_path)) == [f"{number}.txt" for number in range(8)]


def test_permissions_and_links_stay(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("real.txt")
    assert write_text("new", link) is WriteOutcome.REPLACED
    assert link.is_symlink() and real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert write_text("new", link) is WriteOutcome.UNCHANGED
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "deep" / "target.txt")
    write_text("new", dangling)
    assert dangling.is_symlink() and (tmp_path / "deep" / "target.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it is a folder; name a file with -o FILE"),
        (lambda path: path.symlink_to(path.parent), "it is a folder"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: os.mkfifo(path), "it is not a regular file"),
    ],
)
def test_what_is_no_file(tmp_path, make, words):
    path = tmp_path / "report.txt"
    make(path)
    before = path.lstat()
    assert words in refusal("x", path)
    with pytest.raises(InputError, match=re.escape(words)):
        refuse_unwritable(path)
    assert path.lstat().st_ino == before.st_ino and os.listdir(tmp_path) == ["report.txt"]


@pytest.mark.parametrize("name", ["", "new/", "x" * 300, "a\0b", "file/report.txt"])
def test_names_that_cannot_be(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert refusal("x", name).startswith("cannot write ")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(is_root, reason="root may write everywhere")
def test_what_is_write_protected(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    path.chmod(0o400)
    assert "it is write-protected" in refusal("new", path)
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        refuse_unwritable(tmp_path / "new.txt")
    tmp_path.chmod(0o700)


def test_a_pipe_that_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with open(tmp_path / "read", "wb") as file:
        reader = subprocess.Popen(["cat", path], stdout=file)
    deadline = time.monotonic() + 20
    while True:
        try:
            write_text("x" * 200_000, path, streams=True)
            break
        except InputError:  # cat has not opened it yet
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert reader.wait(timeout=20) == 0
    assert (tmp_path / "read").read_bytes() == b"x" * 200_000
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_pipe_that_nobody_reads(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert "the pipe has no reader" in refusal("x", path, streams=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_devices():
    assert "No space left on device" in refusal("x", "/dev/full", streams=True)
    assert write_text("x", "/dev/null", streams=True) is WriteOutcome.WRITTEN
    assert "not a regular file" in refusal("x", "/dev/full")


def test_text_of_every_kind_is_written(tmp_path):
    path = tmp_path / "report.txt"
    write_text("a\r\nb\n\udcff", path)
    assert path.read_bytes() == b"a\r\nb\n\\udcff"
