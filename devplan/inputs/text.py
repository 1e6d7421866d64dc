"""Text with placeholders, and the arguments that follow it: an entry per token, or token and image.

A table from the name of an argument to the function that makes it from the sequences; only what
``forward`` takes is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from devplan.inputs.facts import Facts, read_setting, walk
from devplan.inputs.request import LEAST_TEXT, NoExampleInputs


def text_arguments(facts: Facts, sequences: Sequences, items: dict[str, int]) -> dict[str, Any]:
    """Every argument on the text's side.

    Parameters
    ----------
    facts
        Of the model.
    sequences
        The text with its placeholders.
    items
        Kind -> images, videos, sounds of a sequence.
    """
    made = {}
    for name, maker in _TEXT.items():
        if name in facts.accepted:
            value = maker(facts, sequences, items)
            if value is not None:
                made[name] = _with_last_axis(facts, name, value)
    return made


def _with_last_axis(facts: Facts, name: str, value: Any) -> Any:
    """Several numbers for each token where the docstring says so: rows and columns of a table."""
    axes = facts.documented.get(name, ())
    if len(axes) != value.dim() + 1 or not axes[-1].isdecimal():
        return value
    return value[..., None].expand(*value.shape, int(axes[-1])).clone()


def decoder_arguments(facts: Facts) -> dict[str, torch.Tensor]:
    """What the decoder's side begins with, where the model is an encoder-decoder: ids, or frames of
    sound in the voice of a speaker."""
    tokens = num_tokens(facts, facts.request.decoder_tokens)
    shape: tuple[int, ...] = (facts.request.batch, tokens)
    made: dict[str, torch.Tensor] = {}
    if "decoder_input_ids" in facts.accepted and (
        facts.is_encoder_decoder or "input_ids" not in facts.accepted
    ):
        made["decoder_input_ids"] = torch.full(shape, plain_id(facts.config), dtype=torch.int64)
    for name, sizes in _OF_SOUND.items():
        width = facts.setting(*sizes) if name in facts.accepted else None
        if width:
            frames = (tokens,) if name.startswith("decoder") else ()
            made[name] = facts.floats(facts.request.batch, *frames, width)
    return made


_OF_SOUND = {
    "decoder_input_values": ("num_mel_bins",),
    "speaker_embeddings": ("speaker_embedding_dim", "speaker_embedding_size"),
}
"""What a decoder of sound is given -> settings with the width of it."""


def _type_ids(facts: Facts, sequences: Sequences, items: dict[str, int]) -> torch.Tensor | None:
    """0 for text, 1 for images: what Gemma 3 builds its mask from; BERT's segments are all 0."""
    return (sequences.kinds > 0).long()


def _boxes(facts: Facts, sequences: Sequences, items: dict[str, int]) -> torch.Tensor:
    """A box of 1/10 of the page for each token, ``[batch, length, 4]``."""
    box = torch.tensor([0, 0, 100, 100])
    return box.expand(*sequences.ids.shape, 4).clone()


def _attended_images(facts: Facts, sequences: Sequences, items: dict[str, int]) -> Any:
    """``[batch, length, images]``: every token sees every image, in layers that are said to."""
    if not items.get("image") or facts.setting("cross_layer_interval") is None:
        return None
    return torch.ones(*sequences.ids.shape, items["image"], dtype=torch.int64)


def _attended_tiles(facts: Facts, sequences: Sequences, items: dict[str, int]) -> Any:
    """``[batch, length, images, tiles]``."""
    if not items.get("image"):
        return None
    tiles = facts.setting("max_num_tiles", side="vision", default=4)
    return torch.ones(*sequences.ids.shape, items["image"], tiles, dtype=torch.int64)


def _image_positions(facts: Facts, sequences: Sequences, items: dict[str, int]) -> Any:
    return sequences.mask_of("image").long() if items.get("image") else None


def _patch_indices(facts: Facts, sequences: Sequences, items: dict[str, int]) -> Any:
    """Which patch stands at a token, counted through each sequence; -1 where none does."""
    if not items.get("image"):
        return None
    here = sequences.mask_of("image")
    return torch.where(here, here.long().cumsum(-1) - 1, -1)


def _question(facts: Facts, sequences: Sequences, items: dict[str, int]) -> torch.Tensor:
    return torch.full((facts.request.batch, 8), plain_id(facts.config), dtype=torch.int64)


_TEXT: dict[str, Callable[[Facts, Sequences, dict[str, int]], Any]] = {
    "input_ids": lambda facts, sequences, items: sequences.ids,
    "attention_mask": lambda facts, sequences, items: sequences.mask,
    "token_type_ids": _type_ids,
    "mm_token_type_ids": lambda facts, sequences, items: sequences.kinds,
    "moe_mm_token_type_ids": lambda facts, sequences, items: (sequences.kinds > 0).long(),
    "input_shape_ids": lambda facts, sequences, items: sequences.ids,
    "input_pronunciation_ids": lambda facts, sequences, items: sequences.ids,
    "bbox": _boxes,
    "image_attention_mask": _attended_images,
    "cross_attention_mask": _attended_tiles,
    "image_embeds_position_mask": _image_positions,
    "image_patches_indices": _patch_indices,
    "qformer_input_ids": _question,
    "qformer_attention_mask": lambda *given: torch.ones_like(_question(*given)),
}


# A sequence consists of *plain* tokens (one that means nothing to the model) and, for every
# image, video or sound, of its start token where the configuration names one, as many
# placeholders as the model's own features have rows, and its end token. Shorter sequences are
# padded on the left.

KINDS = ("image", "video", "audio")
_STEMS = {
    "image": r"(?:image|img|im|vision)",
    "video": r"(?:video|vid)",
    "audio": r"(?:audio|speech|sound)",
}
_LETTER = {"image": "i", "video": "v", "audio": "a"}
"""Gemma's names: ``boi`` is begin of image, ``eoa`` end of audio."""
_SUFFIX = r"(?:_token_id|_token_index|_token_idx|_id)$"
_SPECIAL = re.compile(r"(?:_token_id|_token_index|_token_idx|_pad_id|_start_id|_end_id|_patch_id)$")


@dataclass(frozen=True, kw_only=True)
class Placeholders:
    """What stands in the text for the items of one kind."""

    kind: str
    items: int
    """Images (videos or frames, sounds) in each sequence."""
    rows: int
    """Placeholders for each of them."""


def find_token(config: Any, kind: str, place: str = "") -> int | None:
    """The id of a kind's placeholder, or of its ``start`` or ``end`` token, by its name."""
    for _, part in walk(config):
        for name in _names(part):
            if _pattern(kind, place).match(name) and _is_id(value := read_setting(part, name)):
                return value
    return None


def _pattern(kind: str, place: str) -> re.Pattern[str]:
    stem, letter = _STEMS[kind], _LETTER[kind]
    if not place:
        return re.compile(rf"^{stem}(?:_pad|_patch)?{_SUFFIX}")
    word, short = (r"(?:start|bos|begin)", "bo") if place == "start" else (r"(?:end|eos)", "eo")
    if kind == "video":  # Qwen2-VL has one start token for both
        stem = r"(?:video|vid|vision)"
    return re.compile(rf"^(?:{stem}_{word}|{short}{letter}){_SUFFIX}")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _names(part: Any) -> list[str]:
    """Attributes of a configuration, also those that are only another name for one."""
    own = list(part) if isinstance(part, dict) else list(getattr(part, "__dict__", ()))
    return [*own, *getattr(part, "attribute_map", {})]


def special_ids(config: Any) -> frozenset[int]:
    """Every id in the configuration that has a meaning to the model."""
    found: set[int] = set()
    for _, part in walk(config):
        for name in filter(_SPECIAL.search, _names(part)):
            value = read_setting(part, name)
            found.update(filter(_is_id, value if isinstance(value, (list, tuple)) else [value]))
    return frozenset(found)


def plain_id(config: Any) -> int:
    """The lowest positive id without a meaning."""
    special = special_ids(config)
    return next(token for token in range(1, len(special) + 2) if token not in special)


_POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")


def num_tokens(facts: Facts, wanted: int) -> int:
    """`wanted`, or less where the position embeddings of the text end before."""
    limit = facts.setting(*_POSITIONS, side="text")
    if isinstance(limit, int) and limit > 0:
        # RoBERTa's positions start behind the padding id: two fewer than the table has.
        return max(1, min(wanted, limit - 2))
    return wanted


MOST_TOKENS = 2**24
"""Of all sequences of an example: 128 of 131,072."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """A batch of sequences, all tensors ``[batch, length]``."""

    ids: torch.Tensor
    mask: torch.Tensor
    """1 where a token is, 0 where padding is."""
    kinds: torch.Tensor
    """0 text, 1 image, 2 video, 3 audio: only placeholders count."""

    def mask_of(self, kind: str) -> torch.Tensor:
        return self.kinds == 1 + KINDS.index(kind)


def refuse_too_long(batch: int, tokens: int) -> None:
    """Leave inputs unmade that would fill the memory.

    Raises
    ------
    NoExampleInputs
        With the number of tokens, and how many are made.
    """
    if batch * tokens > MOST_TOKENS:
        raise NoExampleInputs(
            f"{batch:,} sequences of {tokens:,} tokens are more than the {MOST_TOKENS:,} tokens "
            "that devplan makes"
        )


def compose_sequences(
    facts: Facts, placeholders: list[Placeholders], length: int | None = None
) -> Sequences:
    """Sequences with plain text around the placeholders; `length` tokens, else as many as asked."""
    tokens = num_tokens(facts, facts.request.tokens) if length is None else length
    batch = facts.request.batch
    refuse_too_long(batch, max(tokens, sum(item.rows * item.items for item in placeholders)))
    items = _items(facts, placeholders)
    text = max(tokens - len(items), min(tokens, LEAST_TEXT))
    padding = text // 4 if facts.request.padded and batch > 1 else 0
    first = torch.tensor(_one_sequence(facts, items, text, padding), dtype=torch.int64)
    other = torch.tensor(_one_sequence(facts, items, text, 0), dtype=torch.int64)
    rows = torch.cat([first[None], other.expand(batch - 1, *other.shape)])
    ids, mask, kinds = (part.contiguous() for part in rows.unbind(-1))
    return Sequences(ids=ids, mask=mask, kinds=kinds)


Token = tuple[int, int, int]
"""Id, mask and kind."""


def _items(facts: Facts, placeholders: list[Placeholders]) -> list[Token]:
    """Images, videos and sounds of a sequence, each between its start and end."""
    plain = plain_id(facts.config)
    middle: list[Token] = []
    for item in placeholders:
        number = 1 + KINDS.index(item.kind)
        token = find_token(facts.config, item.kind)
        start, end = (find_token(facts.config, item.kind, place) for place in ("start", "end"))
        one = [(plain if token is None else token, 1, number)] * item.rows
        one = [(start, 1, 0)] * (start is not None) + one + [(end, 1, 0)] * (end is not None)
        middle += one * item.items
    return middle


def _one_sequence(facts: Facts, items: list[Token], tokens: int, padding: int) -> list[Token]:
    """Padding, some text, the items, the rest of the text."""
    text, head = (plain_id(facts.config), 1, 0), max(1, (tokens - padding) // 4)
    rest = max(tokens - padding - head, 0)
    return [(_pad_id(facts), 0, 0)] * padding + [text] * head + items + [text] * rest


def _pad_id(facts: Facts) -> int:
    pad = facts.setting("pad_token_id", side="text")
    return pad if _is_id(pad) and pad >= 0 else plain_id(facts.config)
