"""Good files made bad: as bytes, as text, and as trees."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from tests.fuzz.values import TEXTS, odd_key, odd_value

_MARKS = ("\0", "\n", "\r", "\t", ":", "- ", "{", "}", "[", "]", '"', "'", "&a ", "*a", "!!", "#")
_INTERESTING = tuple(mark.encode() for mark in (*_MARKS, "<<", "%", "\x1b[", "\u202e"))
_DEEP = (b"[" * 5000, b'{"a":' * 5000, b"- " * 2000, b"(" * 3000, b"&a [*a, *a]\n" * 50)
_INTERESTING += (b"\xff", b"\xfe\xff", b"\xc3")


def mutated_bytes(rng: Random, data: bytes, times: int | None = None) -> bytes:
    """A few bytes flipped, cut, doubled or put in."""
    content = bytearray(data)
    for _ in range(times or rng.choice((1, 1, 2, 4, 16))):
        place = rng.randint(0, len(content))
        length = rng.choice((1, 2, 8, 64, 512))
        step = rng.randint(0, 6)
        if step == 0 and content:
            content[place % len(content)] ^= 1 << rng.randint(0, 7)
        elif step == 1:
            del content[place : place + length]
        elif step == 2:
            content[place:place] = rng.choice(_DEEP if rng.random() < 0.05 else _INTERESTING)
        elif step == 3:
            content[place:place] = content[place : place + length] * rng.choice((1, 2, 20))
        elif step == 4 and rng.random() < 0.3:
            del content[place:]
        elif step == 5:
            text = rng.choice(TEXTS).encode("utf-8", errors="surrogatepass")
            content[place : place + rng.choice((0, length))] = text
        elif step == 6:
            other = rng.randint(0, len(content))
            content[place:place] = content[other : other + length]
    return bytes(content)


def mutated_tree(rng: Random, tree: Any, times: int | None = None) -> Any:
    """A few values of a tree replaced, removed, renamed, doubled or nested."""
    tree = copy.deepcopy(tree)
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        places = _places(tree)
        if not places:
            return odd_value(rng)
        holder, key = rng.choice(places)
        step = rng.random()
        if step < 0.62:
            holder[key] = odd_value(rng)
        elif step < 0.74:
            del holder[key]
        elif step < 0.82 and isinstance(holder, dict):
            holder[odd_key(rng)] = holder.pop(key)
        elif step < 0.88:
            other, other_key = rng.choice(places)
            holder[key] = copy.deepcopy(other[other_key]) if other_key in _keys(other) else None
        elif step < 0.93:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {odd_key(rng): holder[key]}
        elif isinstance(holder, dict):
            holder[odd_key(rng)] = odd_value(rng)
        else:
            holder.insert(0, odd_value(rng))
    return tree


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (mapping or list, key) of a tree, those deep down as likely as those on top."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 5000:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            for key in list(_keys(holder)):
                found.append((holder, key))
                waiting.append(holder[key])
    return found


def mutated_json(rng: Random, tree: Any) -> bytes:
    """JSON of a bad tree; sometimes broken as bytes too."""
    if rng.random() < 0.85:
        tree = mutated_tree(rng, tree)
    try:
        data = json.dumps(tree).encode()
    except RecursionError:
        data = b"[" * 5000 + b"]" * 5000
    return mutated_bytes(rng, data) if rng.random() < 0.15 else data
