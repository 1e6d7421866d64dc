"""``CUDA_VISIBLE_DEVICES``: which GPUs a process sees, and what ``cuda:N`` means then.

The N-th item that names a GPU is ``cuda:N``.  An item is a number or the beginning of a UUID
(``GPU-8932f937``, ``MIG-...``); what the first item is, all are.  The first item that names no GPU
ends the list, and a GPU that is named twice leaves nothing to be seen.  An empty text hides every
GPU.

References
----------
CUDA C++ Programming Guide, section "CUDA Environment Variables"
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars), and what torch does
before the driver is asked: ``torch.cuda._parse_visible_devices`` (2.13).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from devplan.core import parse_whole

VARIABLE = "CUDA_VISIBLE_DEVICES"

_NUMBER = re.compile(r"\+?(\d+)")
"""Read as C's strtoul does: what follows the digits is ignored."""
_PREFIXES = ("GPU-", "MIG-")


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """A value of the variable, as it is read."""

    text: str
    items: tuple[str, ...]
    """What remains, in order: the N-th is ``cuda:N``."""
    problem: str = ""
    """What is odd about it, in words; empty where nothing is."""

    @property
    def is_renumbering(self) -> bool:
        """Whether ``cuda:N`` is another GPU than the N-th of the driver."""
        return any(item != str(place) for place, item in enumerate(self.items))


def read_visibility(text: str, num_gpus: int | None = None) -> Visibility:
    """How a value is read.

    Parameters
    ----------
    text
        The value.
    num_gpus
        GPUs of the machine; None: not known, and every number is taken to name one.

    Examples
    --------
    >>> read_visibility("2,3").items
    ('2', '3')
    >>> read_visibility("0,0").problem
    'names GPU 0 twice, and then no GPU is seen'
    """
    words = text.split(",")
    if not any(word.strip() for word in words):
        return Visibility(text=text, items=(), problem="is empty, and then no GPU is seen")
    prefix = next((each for each in _PREFIXES if text.startswith(each)), None)
    items: list[str] = []
    for place, word in enumerate(words):
        item = _number(word, num_gpus) if prefix is None else _uuid(word, prefix)
        if item is None:
            why = f"holds {word.strip() or repr(word)}, which names no GPU"
            rest = ", ".join(repr(each.strip()) for each in words[place + 1 :])
            why += f" and hides what follows ({rest})" if rest else ""
            return Visibility(text=text, items=tuple(items), problem=why)
        if item in items:
            why = f"names GPU {item} twice, and then no GPU is seen"
            return Visibility(text=text, items=(), problem=why)
        items.append(item)
    return Visibility(text=text, items=tuple(items))


def _number(word: str, num_gpus: int | None) -> str | None:
    match = _NUMBER.match(word.strip())
    if match is None or (num_gpus is not None and parse_whole(match[1]) >= num_gpus):
        return None
    return str(parse_whole(match[1]))


def _uuid(word: str, prefix: str) -> str | None:
    return word if word.startswith(prefix) else None
