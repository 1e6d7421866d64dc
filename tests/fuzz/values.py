"""Values that programs do not expect."""

from __future__ import annotations

from random import Random
from typing import Any

NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    3,
    7,
    0.5,
    -0.0,
    1e308,
    -1e308,
    1e-300,
    2**31,
    -(2**31),
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    10**400,
    float("inf"),
    float("nan"),
    20_000_000,
    1_000_000_000,
)
FACTORIES = ("canary:plant", "canary_here:plant")
TEXTS: tuple[str, ...] = (
    "",
    " ",
    "0",
    "-1",
    "x",
    "null",
    "true",
    "none",
    "auto",
    "cuda:0",
    "cuda:1",
    "cuda:-1",
    "cuda:20000000",
    "cuda:" + "9" * 5000,
    "cpu",
    "disk",
    "meta",
    "1GiB",
    "bfloat16",
    "float8_e4m3fn",
    *FACTORIES,
    "canary.plant",
    "os:abort",
    "transformers_canary",
    "../../etc/passwd",
    "/dev/zero",
    "a/b",
    "acme/x",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb",
    "a\nb",
    "\n::stop-commands::x\n",
    "\u202ereversed",
    "\u2028",
    "\u0663",
    "\ud800",
    "\x00",
    "ä☃𐍈",
    "9" * 400,
    "a" * 300,
    "a" * 20_000,
    "a." * 2000,
    "%s%n{0}{x}",
    "{{ 9**9 }}",
    "$(touch canary)",
    "'\"`",
    "<b>&amp;",
    "2024-99-99",
    "1:30",
    "__class__",
    "__init__",
    "_parameters",
    "forward",
    "re:(a+)+$",
    "!!python/name:canary.plant",
    "~",
    ".",
    "..",
    "-",
    "--help",
)


def odd_value(rng: Random, depth: int = 0) -> Any:
    """Any value of JSON, more often one that hurts."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(NUMBERS)
    if kind < 0.7:
        return rng.choice(TEXTS)
    if kind < 0.8:
        return rng.choice((None, True, False))
    if kind < 0.84:
        return nested(rng.choice((20, 50, 150)), rng.choice(("list", "mapping")))
    if depth > 2:
        return []
    if kind < 0.92:
        return [odd_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    return {odd_key(rng): odd_value(rng, depth + 1) for _ in range(rng.randint(0, 3))}


def odd_key(rng: Random) -> str:
    return rng.choice(TEXTS)[:400]


def nested(depth: int, kind: str) -> Any:
    """A value inside of itself, many times."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value
