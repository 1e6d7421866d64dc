"""``CUDA_VISIBLE_DEVICES``: which GPUs a process sees, and what ``cuda:N`` means then.

The N-th item that names a GPU is ``cuda:N``.  An item is a number or the beginning of a UUID
(``GPU-8932f937``, ``MIG-...``).  The first item that names none ends the list; a GPU that is named
twice, and UUIDs mixed with numbers, leave nothing to be seen.  An empty text hides every GPU.

References
----------
CUDA C++ Programming Guide, section "CUDA Environment Variables"
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars), and what torch does
before the driver is asked: ``torch.cuda._parse_visible_devices`` (2.13).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VARIABLE = "CUDA_VISIBLE_DEVICES"

_NUMBER = re.compile(r"\+?\d+")
_UUID = re.compile(r"(GPU|MIG)-.+")


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
    words = [word.strip() for word in text.split(",")]
    if not any(words):
        return Visibility(text=text, items=(), problem="is empty, and then no GPU is seen")
    of_kind = _UUID if _UUID.match(words[0]) else _NUMBER
    items: list[str] = []
    for place, word in enumerate(words):
        if of_kind.fullmatch(word) is None or not _exists(word, num_gpus):
            rest = ", ".join(repr(each) for each in words[place + 1 :])
            hidden = f" and hides what follows ({rest})" if rest else ""
            why = f"holds {word or repr(word)}, which names no GPU{hidden}"
            return Visibility(text=text, items=tuple(items), problem=why)
        item = str(int(word)) if of_kind is _NUMBER else word
        if item in items:
            why = f"names GPU {item} twice, and then no GPU is seen"
            return Visibility(text=text, items=(), problem=why)
        items.append(item)
    return Visibility(text=text, items=tuple(items))


def _exists(word: str, num_gpus: int | None) -> bool:
    return num_gpus is None or not word.lstrip("+").isdecimal() or int(word) < num_gpus
