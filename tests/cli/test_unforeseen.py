"""An error that nobody foresaw: one line that asks for a report, and a status of its own."""

from __future__ import annotations

import pytest

from devplan.core.errors import InputError


class Panic(BaseException):
    """As libraries written in Rust raise it."""


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.fixture
def broken(devplan, monkeypatch):
    """Run a command in which an error is raised."""

    def run(error: BaseException, *arguments: str):
        def raising(*_):
            raise error

        monkeypatch.setattr("devplan.cli.explain._explain_rule", raising)
        return devplan(*arguments)

    return run


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("not so"),
        KeyError("x"),
        OverflowError("int too large to convert to float"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        OSError(5, "Input/output error"),
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
        ValueError("two\nlines\x1b[31m\u202e" + "9" * 5000),
        Panic("called unwrap on None"),
        SystemExit(0),
        SystemExit(1),
        Unprintable(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unforeseen_error_is_one_line_that_asks_for_a_report(broken, error):
    answer = broken(error, "explain", "DP301")
    assert (answer.status, answer.out) == (70, "")
    assert answer.err.startswith(f"devplan: internal error, {type(error).__name__}")
    assert answer.err.endswith("report it with what the same command prints with --traceback\n")
    assert answer.err.count("\n") == 1
    assert answer.err.rstrip("\n").isprintable()
    assert len(answer.err) < 400


@pytest.mark.parametrize(
    "arguments",
    [
        ("--traceback", "explain", "DP301"),
        ("explain", "--traceback", "DP301"),
        ("explain", "DP301", "--traceback"),
    ],
)
def test_the_traceback_is_shown_on_request_wherever_it_is_asked_for(broken, arguments):
    answer = broken(KeyError("x"), *arguments)
    assert answer.status == 70
    assert answer.err.startswith("Traceback (most recent call last):\n")
    assert "in raising" in answer.err
    assert answer.err.endswith(
        "devplan: internal error, KeyError: 'x'; please report it with the traceback above\n"
    )


def test_the_traceback_of_bad_input_is_shown_on_request_too(broken):
    answer = broken(InputError("give another"), "explain", "DP301", "--traceback")
    assert answer.status == 2
    assert answer.err.startswith("Traceback")
    assert answer.err.endswith("\ndevplan: give another\n")


def test_after_two_dashes_it_is_an_argument(devplan):
    answer = devplan("explain", "--", "--traceback")
    assert answer.status == 2
    assert "'--traceback'" in answer.err
