"""Candidates for sounds: spectrograms and waveforms.

A spectrogram is ``[sounds, bins, frames]`` (Whisper) or ``[sounds, frames, bins]`` (most others),
a waveform ``[sounds, samples]`` or ``[sounds, channels, samples]``.  Where the encoder's positions
fix the number of frames, that number is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from devplan.inputs.facts import Facts
from devplan.inputs.request import Candidate

SPECTROGRAMS = ("input_features", "audio_input_features", "audio_features", "audio_mel")
WAVEFORMS = ("input_values", "audio_values", "waveform", "audio")
_FRAMES_PER_S = 100
"""A hop of 160 samples at 16 kHz: Whisper and nearly all others."""
_SAMPLES_PER_S = 16_000
_WHOLE_FRAMES = 3_840
"""Samples are a multiple of it: codecs refuse part of a frame, of 320 to 1,920 samples in use."""
_BINS = (
    "num_mel_bins",
    "n_mels",
    "num_mels",
    "input_feat_size",
    "input_feat_per_channel",
    "feature_size",
    "feature_projection_input_dim",
    "input_dim",
    "input_size",
    "mel_dim",
    "n_mel_bins",
    "num_chroma",
)
_USUAL_BINS = (128, 80)
"""Whisper large-v3 and Gemma; Whisper before, and most speech recognizers."""
_MASKS = {
    "feature_attention_mask": torch.int64,
    "audio_attention_mask": torch.int64,
    "input_values_mask": torch.int64,
    "input_features_mask": torch.bool,
    "audio_mel_mask": torch.bool,
}
"""Mask of frames or samples -> the dtype that the processors give it."""


_LENGTHS = ("feature_lens", "audio_feature_lengths")
"""Frames of each sound."""
_ROWS = ("audio_embed_sizes",)
"""Rows that the tower makes of each."""
_CUTOFFS = ("input_values_cutoffs",)
"""Where each sound of a sequence ends, in samples, ``[batch, sounds]``: several follow each other
in one waveform."""


def sound_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give `items` sounds to each sequence of the batch."""
    if name := facts.takes(*SPECTROGRAMS):
        yield from _spectrograms(facts, items, name)
    if name := facts.takes(*WAVEFORMS):
        yield from _waveforms(facts, items, name)


def _spectrograms(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    total = items * facts.request.batch
    for bins in num_bins(facts):
        for frames in num_frames(facts):
            lengths = _lengths(facts, total, frames)
            masks = _masks(facts, total, frames)
            # [no mask] some count in it what their tower makes of the frames, not the frames.
            for mask in (masks, {}) if masks else ({},):
                for shape in (
                    (total, bins, frames),
                    (total, frames, bins),
                    (total, 1, frames, bins),
                ):
                    arguments = {name: facts.floats(*shape), **mask, **lengths}
                    yield Candidate(kind="audio", items=items, arguments=arguments)
            flat = {name: facts.floats(bins, total * frames), **lengths}
            yield Candidate(kind="audio", items=items, arguments=flat)


def num_bins(facts: Facts) -> list[int]:
    """Of a spectrogram: as stated, as a first convolution takes them, or a usual number."""
    stated = facts.setting(*_BINS, side="audio")
    first = facts.first_layer("audio", nn.Conv1d, nn.Conv2d, nn.Linear)
    width = getattr(first, "in_channels", None) or getattr(first, "in_features", None)
    found = [stated, width, *_USUAL_BINS]
    return list(dict.fromkeys(value for value in found if isinstance(value, int) and value > 1))


def num_frames(facts: Facts) -> list[int]:
    """Of a spectrogram: as the positions of the tower fix them, then of the length asked for."""
    asked = int(facts.request.audio_seconds * _FRAMES_PER_S)
    positions = facts.setting("max_source_positions", side="audio")
    if isinstance(positions, int):
        strides = [m.stride[0] for m in facts.tower("audio").modules() if isinstance(m, nn.Conv1d)]
        factor = 1
        for stride in strides[:2]:
            factor *= stride
        return [positions * factor, asked]
    return [asked]


def _masks(facts: Facts, total: int, length: int) -> dict[str, torch.Tensor]:
    return {
        mask: torch.ones(total, length, dtype=dtype)
        for mask, dtype in _MASKS.items()
        if mask in facts.accepted
    }


def _lengths(facts: Facts, total: int, length: int) -> dict[str, torch.Tensor]:
    rows = -(-length // facts.setting("time_reduction", side="audio", default=1))
    numbers = {**dict.fromkeys(_LENGTHS, length), **dict.fromkeys(_ROWS, rows)}
    return {
        name: torch.full((total,), number, dtype=torch.int64)
        for name, number in numbers.items()
        if name in facts.accepted
    }


def _cutoffs(facts: Facts, samples: int) -> dict[str, torch.Tensor]:
    """One sound in each sequence's waveform."""
    return {
        name: torch.full((facts.request.batch, 1), samples, dtype=torch.int64)
        for name in _CUTOFFS
        if name in facts.accepted
    }


def num_samples(facts: Facts) -> int:
    """Of a waveform of the length asked for."""
    rate = facts.setting("sampling_rate", "sample_rate", side="audio", default=_SAMPLES_PER_S)
    return max(1, int(facts.request.audio_seconds * rate) // _WHOLE_FRAMES) * _WHOLE_FRAMES


def _waveforms(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    total = items * facts.request.batch
    samples = num_samples(facts)
    shapes = [(total, samples), (total, 1, samples), (total, 2, samples)]
    frames = facts.setting("max_length", side="audio")
    bins = facts.setting("num_mel_bins", side="audio")
    if isinstance(frames, int) and isinstance(bins, int):  # a spectrogram under another name
        shapes.insert(0, (total, frames, bins))
    for shape in shapes:
        arguments = {
            name: facts.floats(*shape),
            **_masks(facts, total, samples),
            **_cutoffs(facts, samples),
        }
        yield Candidate(kind="audio", items=items, arguments=arguments)
