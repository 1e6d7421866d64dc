"""Arguments that follow the text: one entry per token, or one per token and image.

A table from the name of an argument to the function that makes it from the sequences; only what
``forward`` takes is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from devplan.inputs.facts import Facts
from devplan.inputs.tokens import Sequences, num_tokens, plain_id


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
