"""The runner sees what it is there to see: code that a user typed does what no file may do."""

from __future__ import annotations

import pytest

from tests.attacks.attack import Attack, Must
from tests.attacks.guard import Outcome
from tests.attacks.judging import complaints, written_by
from tests.attacks.trying import try_attack

INPUTS = "def f(*arguments, **options):\n    {code}\n    raise SystemExit(0)\n"
MISDEEDS = {
    "import canary": "imported canary",
    "open(__file__ + '.new', 'w')": "wrote here/mine.py.new",
    "open('/tmp/devplan-stray', 'a').close(); import os; os.unlink('/tmp/devplan-stray')": (
        "opened for writing /tmp/devplan-stray"
    ),
    "import subprocess; subprocess.run(['true'])": "started ['true']",
    "import os; os.system('true')": "os.system",
    "import torch; torch.cuda.is_available = lambda: True": "left torch.cuda.is_available replaced",
    "import sys; sys.setrecursionlimit(5000)": "left recursion limit",
    "import os; os.chdir('/')": "left the current folder at /",
    "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)": "left SIGALRM",
    "print('\\x1b[2J')": "U+001B on stderr",
    "import sys; print('hello', file=sys.stderr)": "a line that is not devplan's on stderr",
    "import os; os.kill(os.getpid(), 9)": "the process died",
    "x = bytearray(1500 << 20)": "MiB, at most 1024 are allowed",
}


@pytest.mark.parametrize("code", MISDEEDS)
def test_misdeeds_are_seen(code, zygote, tmp_path):
    attack = Attack(
        name="misdeed",
        what="",
        files={
            "llama": {"copy": "llama"},
            "m.yaml": "model: 0\nlm_head: 0\n",
            "mine.py": INPUTS.format(code=code),
        },
        run=("check", "m.yaml", "--model", "./llama", "--gpus", "1GiB", "--inputs", "mine.py:f"),
        must=Must(status=(0, 1, 2)),
    )
    _, found = try_attack(attack, zygote, tmp_path / "world")
    assert any(MISDEEDS[code] in line for line in found), found


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"status": 70, "err": "devplan: x"}, "ended with status 70"),
        ({"status": 2}, "refused without a word"),
        ({"status": 2, "err": "devplan: \u202e"}, "U+202E on stderr"),
        ({"status": 1, "out": "Traceback (most recent call last):\nKeyError: 1\n"}, "a traceback"),
        ({"status": 0, "out": "a\n::stop-commands::x\n"}, "a command for GitHub"),
        ({"status": 0, "out": "x" * 3000}, "a line of 3000 characters"),
        ({"status": 0, "seconds": 11.0}, "took 11.0 s"),
    ],
)
def test_what_holds_for_every_input(outcome, words):
    assert any(words in line for line in complaints(["check"], Outcome(**outcome)))


def test_json_must_be_json():
    argv = ["check", "m.yaml", "--format", "json"]
    assert complaints(argv, Outcome(status=0, out='{"a": 1}\n')) == []
    assert "stdout is no JSON" in complaints(argv, Outcome(status=0, out='{"a": NaN}'))[0]


def test_files_are_written_by_those_who_were_asked():
    assert written_by(["suggest", "x"], 0) == ["maps/*"]
    assert written_by(["suggest", "x"], 2) == []
    assert written_by(["check", "m.yaml", "-o", "r[1].json"], 1) == ["r[[]1].json"]
    assert written_by(["lock", "m.yaml"], 0) == ["m.yaml"]
