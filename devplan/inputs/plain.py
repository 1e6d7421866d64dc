"""Inputs of one kind alone, for runs that differ in nothing but their number of tokens.

A profile measures how caches grow with the tokens.  Its inputs are therefore exactly as long as
asked for, without masks and without images beside the text; `devplan.inputs.example` makes those.
Where a model takes several kinds of input, each is a `PlainInputs`, the likeliest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.inputs.facts import Facts, read_setting
from devplan.inputs.request import InputRequest, NoExampleInputs
from devplan.inputs.text import plain_id

_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "mel_bins")
"""Names of the number of frequency bins in configurations of transformers 5.23: Whisper and most
others, Speech2Text, SeamlessM4T, CLAP."""
_FRAMES = 300
"""Three seconds of 10 ms, where the encoder's positions do not fix the number."""
_SAMPLES = 16_000
"""One second at 16 kHz."""


@dataclass(frozen=True, kw_only=True)
class PlainInputs:
    """Inputs of one kind for a model."""

    facts: Facts
    text: tuple[str, ...]
    """Arguments that are token ids."""
    signal: tuple[str, tuple[int, ...]] | None = None
    """An argument in place of the text, or beside it, and its shape without the batch."""
    fixed: Mapping[str, Any]
    """Arguments with the same value for every run."""

    def make(self, tokens: int, batch: int = 1) -> dict[str, Any]:
        """Keyword arguments of ``forward``: token ids ``[batch, tokens]``, floats on meta."""
        made: dict[str, Any] = {}
        if self.signal is not None:
            name, shape = self.signal
            made[name] = self.facts.floats(batch, *shape)
        plain = plain_id(self.facts.config)
        for name in self.text:
            made[name] = torch.full((batch, tokens), plain, dtype=torch.int64, device="cpu")
        return {**made, **self.fixed}


def plain_inputs(model: nn.Module, config: Any) -> list[PlainInputs]:
    """The kinds of inputs that a model may take, the likeliest first.

    Which arguments it takes is read off its ``forward`` and its ``main_input_name``; sizes that are
    not a free choice (mel bins, image size) come from its configuration.

    Raises
    ------
    NoExampleInputs
        When devplan can make none of them.
    """
    facts = Facts(model, config, InputRequest())
    accepted = facts.accepted
    is_encoder_decoder = getattr(config, "is_encoder_decoder", False)
    decoder = (
        ("decoder_input_ids",) if is_encoder_decoder and "decoder_input_ids" in accepted else ()
    )
    switches = {"use_cache": True, "logits_to_keep": 1}
    fixed = {name: value for name, value in switches.items() if name in accepted}
    found = [
        PlainInputs(facts=facts, signal=signal, text=(*text, *decoder), fixed=fixed)
        for signal, text in _kinds(facts)
    ]
    if not found:
        name = getattr(model, "main_input_name", "input_ids")
        raise NoExampleInputs(f"no example can be made for the main input {name!r}")
    return found


Signal = tuple[str, tuple[int, ...]]


def _kinds(facts: Facts) -> Iterator[tuple[Signal | None, tuple[str, ...]]]:
    """A signal and the arguments with token ids, for each kind of input."""
    text = ("input_ids",) if "input_ids" in facts.accepted else ()
    main = getattr(facts.model, "main_input_name", "input_ids")
    if text and (main == "input_ids" or main not in _SIGNALS):
        yield None, text
    for name in dict.fromkeys((main, *_SIGNALS)):
        if name in facts.accepted and name in _SIGNALS:
            for shape in _SIGNALS[name](facts):
                yield (name, shape), ()
                if text:
                    yield (name, shape), text


def _spectrograms(facts: Facts) -> Iterator[tuple[int, ...]]:
    """``[bins, frames]`` as Whisper has it, else ``[frames, bins]``."""
    bins = facts.setting(*_BINS)
    if not isinstance(bins, int):
        return
    positions = read_setting(facts.config, "max_source_positions")
    encoder = facts.model.get_encoder() if hasattr(facts.model, "get_encoder") else None
    conv = getattr(encoder, "conv2", None)
    stride = conv.stride[0] if conv is not None else 1
    frames = positions * stride if isinstance(positions, int) and positions else _FRAMES
    yield (bins, frames)
    yield (frames, bins)


def _pixels(facts: Facts) -> Iterator[tuple[int, ...]]:
    """``[channels, height, width]`` at the size of the configuration."""
    config = facts.config
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", None) or config
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    yield (getattr(vision, "num_channels", 3), height, width)


def _waveforms(facts: Facts) -> Iterator[tuple[int, ...]]:
    """``[samples]``, or with one channel."""
    yield (_SAMPLES,)
    yield (1, _SAMPLES)


_SIGNALS: Mapping[str, Callable[[Facts], Iterator[tuple[int, ...]]]] = {
    "input_features": _spectrograms,
    "pixel_values": _pixels,
    "input_values": _waveforms,
    "inputs": _waveforms,
}
