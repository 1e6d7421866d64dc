"""Example inputs from the processor, tokenizer or feature extractor in a model's folder.

These are what a user of the model would give it: the chat template of the model, an image that
went through its own preprocessing, as many placeholders as its processor writes.  Only files of
the folder are read; code in the folder is not run.  Values of pixels and of sounds are dropped
once their shapes are known.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devplan.core import named_line
from devplan.inputs.facts import Facts
from devplan.inputs.request import LEAST_TEXT, ExampleInputs
from devplan.inputs.text import decoder_arguments, refuse_too_long
from devplan.models import is_of_a_library, never_asked
from devplan.sandbox import OutOfTime, run_foreign, within

_FILES = {
    "AutoProcessor": ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"),
    "AutoTokenizer": ("tokenizer_config.json", "tokenizer.json", "vocab.json", "tokenizer.model"),
    "AutoImageProcessor": ("preprocessor_config.json",),
    "AutoFeatureExtractor": ("preprocessor_config.json",),
}
"""Auto class -> files of which one must be there; the first class that can be read is used."""

_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken"})
_PIXELS_A_TOKEN = 16
"""Real pixels that count as a token: both are bounded by the bytes that they take."""
MOST_BYTES = 128 * 2**20
"""Of a file of a processor; the largest tokenizers that are known have 33 MB."""

_WORD = "the "
_IMAGE_ARGUMENTS = ("images",)
_VIDEO_ARGUMENTS = ("videos",)
_SOUND_ARGUMENTS = ("audio", "audios", "raw_speech", "speech")
_SAMPLES_PER_S = 16_000


class NoProcessor(Exception):
    """Why the folder's processor cannot make an example; the configuration can, perhaps."""


def inputs_from_folder(facts: Facts, folder: Path) -> ExampleInputs:
    """Keyword arguments as the folder's own processor makes them.

    Raises
    ------
    NoProcessor
        When there is none, it cannot be read, or it refuses what it is given.
    """
    with never_asked():
        processor = _read(folder)
    items = _items(facts, processor)
    request = facts.request
    height, width = request.image_size
    pixels = height * width * (items["image"] + items["video"] * request.frames)
    refuse_too_long(request.batch, max(request.tokens, pixels // _PIXELS_A_TOKEN))
    try:
        made = _call(facts, processor, items, facts.request.tokens)
        # Placeholders and the words of the template come on top of the text: less text, then.
        if (excess := _length(made) - facts.request.tokens) > 0:
            words = max(facts.request.tokens - excess, LEAST_TEXT)
            made = _call(facts, processor, items, words)
    except BaseException as error:  # the processor's own code
        if not is_of_a_library(error):
            raise
        raise NoProcessor(_said(processor, error)) from error
    kwargs = {
        name: _abstract(value, facts.dtype)
        for name, value in dict(made).items()
        if name in facts.accepted
    }
    kwargs.update(decoder_arguments(facts))
    if not kwargs:
        raise NoProcessor(
            f"{type(processor).__name__} makes {', '.join(dict(made))}: nothing that forward takes"
        )
    return ExampleInputs(
        kwargs=kwargs,
        modalities=_modalities(items, kwargs),
        source="processor of the folder",
        notes=tuple(
            f"no example can be made for the argument {name!r}"
            for name in sorted(facts.required - kwargs.keys())
        ),
    )


# --------------------------------------------------------------------------------- reading


def _read(folder: Path) -> Any:
    import transformers

    _refuse_unbounded(folder)
    reasons = []
    for auto_class, files in _FILES.items():
        if not any((folder / name).is_file() for name in files):
            continue
        try:
            return getattr(transformers, auto_class).from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except BaseException as error:  # a missing package, a class that is the model's own code
            if not is_of_a_library(error):
                raise
            reasons.append(f"{auto_class}: {named_line(error, 160)}")
    if not reasons:
        raise NoProcessor(f"{folder} has no processor, tokenizer or feature extractor")
    raise NoProcessor("; ".join(reasons))


def _refuse_unbounded(folder: Path) -> None:
    """Leave alone a folder in which transformers would read a file without end."""
    for path in folder.iterdir():
        if path.suffix not in _SUFFIXES:
            continue
        try:
            found = path.stat()
        except OSError:  # a link to nothing: not there, for transformers too
            continue
        if not stat.S_ISREG(found.st_mode):
            raise NoProcessor(f"{path} is not a regular file")
        if found.st_size > MOST_BYTES:
            raise NoProcessor(f"{path} is larger than {MOST_BYTES // 2**20} MiB")


def _said(processor: Any, error: Exception) -> str:
    return f"{type(processor).__name__} refuses the example: {named_line(error, 160)}"


# --------------------------------------------------------------------------------- calling


def _parameters(processor: Any) -> frozenset[str]:
    return frozenset(inspect.signature(type(processor).__call__).parameters)


def _items(facts: Facts, processor: Any) -> dict[str, int]:
    """How many images, videos and sounds each sequence gets."""
    request, takes = facts.request, _parameters(processor)

    def number(asked: int | None, arguments: tuple[str, ...], default: int) -> int:
        if not takes.intersection(arguments) or not _has_part(processor, arguments):
            return 0
        return default if asked is None else asked

    images = number(request.images, _IMAGE_ARGUMENTS, 1)
    return {
        "image": images,
        "video": number(request.videos, _VIDEO_ARGUMENTS, 0 if images else 1),
        "audio": number(request.sounds, _SOUND_ARGUMENTS, 1),
    }


_PARTS = {
    _IMAGE_ARGUMENTS: "image_processor",
    _VIDEO_ARGUMENTS: "video_processor",
    _SOUND_ARGUMENTS: "feature_extractor",
}


def _has_part(processor: Any, arguments: tuple[str, ...]) -> bool:
    """A processor's signature names all kinds; its parts tell which it has."""
    if not hasattr(processor, "tokenizer"):
        return True
    return getattr(processor, _PARTS[arguments], None) is not None


def _length(made: Any) -> int:
    """Tokens of the longest sequence; 0 where there is not text."""
    ids = dict(made).get("input_ids")
    return int(ids.shape[-1]) if isinstance(ids, torch.Tensor) else 0


def _call(facts: Facts, processor: Any, items: dict[str, int], words: int) -> Any:
    """What the processor makes of a batch.

    Of text alone it is given two rows, since those after the first are equal.
    """
    batch, takes = facts.request.batch, _parameters(processor)
    if batch > 2 and not any(items.values()):
        two = Facts(facts.model, facts.config, replace(facts.request, batch=2))
        made = _call(two, processor, items, words)
        return {name: _lengthened(value, batch) for name, value in dict(made).items()}
    given: dict[str, Any] = {"return_tensors": "pt"}
    if "text" in takes:
        padded = words // 4 if facts.request.padded else 0
        first = _text(processor, items, words - padded)
        others = first if padded == 0 or batch == 1 else _text(processor, items, words)
        given["text"] = [first] + [others] * (batch - 1)
        given["padding"] = True
        getattr(processor, "tokenizer", processor).padding_side = "left"
    if items["image"]:
        given["images"] = [[_image(facts)] * items["image"] for _ in range(batch)]
    if items["video"]:
        given["videos"] = [[_video(facts)] * items["video"] for _ in range(batch)]
    if items["audio"]:
        rate = getattr(getattr(processor, "feature_extractor", processor), "sampling_rate", None)
        name = next(name for name in _SOUND_ARGUMENTS if name in takes)
        given[name] = [_sound(facts, rate)] * (items["audio"] * batch)
        if rate is not None:
            given["sampling_rate"] = rate
    try:
        return run_foreign(processor, **given)
    except (TypeError, ValueError):
        if "images" not in given:
            raise
        given["images"] = [image for row in given["images"] for image in row]
        return run_foreign(processor, **given)  # some want one flat list of images


def _lengthened(value: Any, batch: int) -> Any:
    """A tensor of two rows with the second one repeated."""
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or value.shape[0] != 2:
        return value
    return torch.cat([value[:1], value[1:].expand(batch - 1, *value.shape[1:])])


def _text(processor: Any, items: dict[str, int], num_words: int) -> str:
    """The prompt of one sequence: through the chat template where there is one."""
    words = (_WORD * num_words).strip()
    content = [{"type": kind} for kind, number in items.items() for _ in range(number)]
    if getattr(processor, "chat_template", None):
        message = [{"role": "user", "content": [*content, {"type": "text", "text": words}]}]
        if not content:
            message[0]["content"] = words
        return rendered(processor, message)
    marks = [
        getattr(processor, f"{kind}_token", "") or ""
        for kind, number in items.items()
        for _ in range(number)
    ]
    return " ".join([*filter(None, map(str, marks)), words])


def _image(facts: Facts) -> Any:
    height, width = facts.request.image_size
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8)
    try:
        from PIL import Image
    except ImportError:
        return pixels
    return Image.fromarray(pixels)


def _video(facts: Facts) -> np.ndarray:
    frame = np.asarray(_image(facts))
    return np.stack([frame] * facts.request.frames)


def _sound(facts: Facts, rate: int | None) -> np.ndarray:
    samples = int(facts.request.audio_seconds * (rate or _SAMPLES_PER_S))
    return np.sin(np.arange(samples) * 0.05).astype(np.float32)


# -------------------------------------------------------------------------------- tensors


def _abstract(value: Any, dtype: torch.dtype) -> Any:
    """Float tensors on meta in the model's dtype, integers and masks as they are."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.empty(value.shape, dtype=dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)(_abstract(item, dtype) for item in value)
    return value


def _modalities(items: dict[str, int], kwargs: dict[str, Any]) -> tuple[str, ...]:
    found = ["text"] if "input_ids" in kwargs else []
    found += [kind for kind, number in items.items() if number]
    return (*found, "decoder text") if "decoder_input_ids" in kwargs else tuple(found)


# A chat template is a program of the folder's author: it gets little time and little memory.

_SECONDS = 5.0
"""Templates take milliseconds."""
_LATE = f"its chat template did not end in {_SECONDS:g} s"
_MEMORY_BYTES = 2**28
_LONGEST_TEXT = 2**24
"""Characters around the words of a prompt: a few hundred."""

_endless: set[str] = set()
"""Templates that did not end once in this process: several calls of one check ask for a prompt."""


def rendered(processor: Any, message: list[dict[str, Any]]) -> str:
    """What the chat template of a processor makes of a message.

    Raises
    ------
    RuntimeError
        When it does not end, or makes a text that no prompt is.
    """
    template = str(processor.chat_template)
    if template in _endless:
        raise RuntimeError(_LATE)
    render = partial(
        run_foreign,
        processor.apply_chat_template,
        message,
        tokenize=False,
        add_generation_prompt=True,
    )
    try:
        with _little_memory():
            text = within(_SECONDS, render)
    except OutOfTime:
        _endless.add(template)
        raise RuntimeError(_LATE) from None
    except MemoryError:
        raise RuntimeError("its chat template needs more memory than any prompt") from None
    if len(text) > _LONGEST_TEXT + len(str(message)):
        raise RuntimeError(f"its chat template makes {len(text):,} characters of one prompt")
    return text


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """A few hundred MiB more than this process has, where nothing else of it would notice.

    The limit is the process's: with other threads at work, or without Linux, there is none.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        taken = 0
    if not taken or threading.active_count() > 1:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = taken + _MEMORY_BYTES
    if before[0] != resource.RLIM_INFINITY:
        most = min(most, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
