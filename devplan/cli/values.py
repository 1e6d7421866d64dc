"""How the values of options are read, from the command line and from a settings file.

A function `read_...` takes the text that was typed, gives the value and raises `InputError`, which
names the option.  A function `set_...` takes what YAML or TOML made of a setting, gives what would
be typed and raises `Refused`; `devplan.cli.settings` adds the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from devplan.core import (
    LARGEST_CONTEXT,
    OBJECTIVE_NAMES,
    InputError,
    nearest,
    parse_tokens,
    parse_whole,
    read_quantize,
)

AUTO = "auto"
"""The word of from_pretrained for the dtype of the checkpoint."""

MOST_PIXELS = 2**26
"""Of an image: eight times a large screen."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})\s*[x×]\s*([1-9][0-9]{0,4})")
_MOST_DIGITS = 20


# -------------------------------------------------------------------------- the command line


def read_count(option: str, noun: str, least: int, most: int) -> Callable[[str | int], int]:
    """A reader of a whole number within bounds; `noun` says what is counted."""

    def read(value: str | int) -> int:
        text = str(value).strip()
        is_number = text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS
        if not is_number or not least <= int(text) <= most:
            raise InputError(
                f"{option} {text or repr(text)}: give a whole number of {noun}, {least} to {most:,}"
            )
        return int(text)

    return read


def read_context(value: str | int) -> int:
    """``--context``: tokens as a number, ``32768``, ``32,768`` or ``32k``."""
    text = str(value).strip()
    tokens = parse_tokens(text)
    if tokens is None or not 1 <= tokens <= LARGEST_CONTEXT:
        raise InputError(
            f"--context {text or repr(text)}: give a whole number of tokens per sequence, "
            f"1 to {LARGEST_CONTEXT:,}, such as 32768 or 32k (k is 1,024)"
        )
    return tokens


def read_pixels(text: str) -> tuple[int, int]:
    """``1080x1920`` as height and width in pixels."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--image-size {text!r}: write height and width, such as 448x672")
    height, width = int(match[1]), int(match[2])
    if height * width > MOST_PIXELS:
        raise InputError(
            f"--image-size {text.strip()}: give at most {MOST_PIXELS:,} pixels, such as 8192x8192"
        )
    return height, width


def read_dtype(option: str, full_name: Callable[[str], str]) -> Callable[[str], str | None]:
    """A reader of a dtype by its full or short name; ``auto`` leaves the dtype to the model."""

    def read(text: str) -> str | None:
        if text.strip().lower() == AUTO:
            return None
        try:
            return full_name(text)
        except InputError as error:
            raise InputError(f"{option}: {error}") from error

    return read


def read_quantization(text: str) -> str:
    """``--quantize``: a word, a file with a quantization config, or the config itself."""
    from devplan.io import CONFIG, read_text

    given = text.strip()
    if given.endswith(".json"):
        return read_quantize(f"--quantize {given}", read_text(given, CONFIG))
    return read_quantize("--quantize", given)


def read_objective(text: str) -> str:
    """``--objective``: one of `OBJECTIVE_NAMES`."""
    if text not in OBJECTIVE_NAMES:
        raise InputError(
            f"--objective {text!r} is none of {', '.join(OBJECTIVE_NAMES)}"
            f"{nearest(text, OBJECTIVE_NAMES)}"
        )
    return text


def read_pin(text: str) -> tuple[str, str]:
    """``lm_head=1`` as a module and a device."""
    module, _, device = (part.strip() for part in text.rpartition("="))
    if not module or not device:
        raise InputError(f"--pin {text!r}: write MODULE=DEVICE, such as --pin lm_head=cuda:1")
    return module, pinned_device(device)


def pinned_device(text: str) -> str:
    """``1`` and ``CUDA:1`` as ``cuda:1``; the planner knows whether there is such a GPU."""
    text = text.strip().lower()
    return f"cuda:{parse_whole(text)}" if text.isascii() and text.isdecimal() else text


def read_generation(text: str) -> tuple[str, Any]:
    """``num_beams=2`` as a name and a value; values are read as YAML."""
    from devplan.io import load_yaml

    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise InputError(f"--generate {text!r}: write NAME=VALUE, such as num_beams=2")
    if name == "trust_remote_code":
        raise InputError(f"--generate {name} lets no code run; give --trust-remote-code itself")
    try:
        return name, load_yaml(value, "--generate")
    except InputError:
        raise InputError(f"--generate {text!r}: the value is not valid YAML; quote it") from None


def read_strategy(text: str) -> str:
    """``--device-map``: a strategy of accelerate's."""
    from devplan.checker import STRATEGIES

    if text not in STRATEGIES:
        raise InputError(
            f"--device-map {text!r} is none of {', '.join(STRATEGIES)}"
            f"{nearest(text, STRATEGIES)}; a map in a file is named without an option"
        )
    return text


def read_run(text: str) -> str:
    """``--run`` of a check."""
    from devplan.checker import checked_run

    checked_run(text)
    return text


def read_table_format(text: str) -> str:
    """``--format`` of a report that people or programs read."""
    from devplan.report import known_table_format

    return known_table_format(text)


def read_findings_format(text: str) -> str:
    """``--format`` of a report of findings."""
    from devplan.report import known_format

    return known_format(text)


def read_seconds(value: str | float) -> float | None:
    """``--timeout``."""
    from devplan.sandbox import time_limit

    try:
        seconds = float(value)
    except ValueError:
        raise InputError(f"--timeout {value!r}: give a number of seconds, such as 60") from None
    return time_limit("--timeout", seconds)


# ------------------------------------------------------------------------- the settings file


class Refused(Exception):
    """A value that a setting cannot have; the text says which values it can."""


def set_text(value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise Refused("give text")
    return value.strip()


def set_index_or_text(value: Any) -> str:
    """A number of a GPU, or text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return set_text(value)


def set_list(value: Any) -> str:
    """A list of indices and sizes, or the text that the command line takes."""
    items = value if isinstance(value, list) and value else [value]
    return ",".join(map(set_index_or_text, items))


def set_texts(value: Any) -> tuple[str, ...]:
    """One text or several."""
    return tuple(map(set_text, value if isinstance(value, list) else [value]))


def set_count(value: Any) -> int:
    """A whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused("give a whole number above 0")
    return value


def set_count_or_none(value: Any) -> int:
    """A whole number, 0 for none."""
    return 0 if value == 0 and not isinstance(value, bool) else set_count(value)


def set_tokens(value: Any) -> int:
    """A number of tokens."""
    tokens = parse_tokens(value) if isinstance(value, str) else set_count(value)
    if not tokens:
        raise Refused("give a whole number of tokens, such as 32768 or 32k")
    return tokens


def set_switch(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Refused("give true or false")
    return value


def set_objective(value: Any) -> str:
    """One of `OBJECTIVE_NAMES`."""
    if value not in OBJECTIVE_NAMES:
        raise Refused(f"give {', '.join(OBJECTIVE_NAMES[:-1])} or {OBJECTIVE_NAMES[-1]}")
    return value


def set_pins(value: Any) -> dict[str, str]:
    """Module -> device."""
    if not isinstance(value, dict):
        raise Refused("give a mapping from module to device, such as model.norm: cuda:0")
    return {set_text(module): set_index_or_text(device) for module, device in value.items()}


def set_reasons(value: Any) -> dict[str, str]:
    """Code of a rule -> why its findings are accepted."""
    if not isinstance(value, dict):
        raise Refused("give a mapping from code to reason, such as DP203: ties are for training")
    return {set_text(code): set_text(reason) for code, reason in value.items()}
