"""Example inputs for a model's main run: text of a given length, or what the model takes instead.

Which arguments a model takes is read off its ``forward`` and its ``main_input_name``; sizes that
are no free choice (mel bins, image size) come from its configuration.  Images beside the text are
not made yet: towers of vision-language models are not reached by the main run.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from devplan.errors import DevplanError


class NoExampleInputs(DevplanError):
    """devplan does not know what this model wants to be given."""


def main_inputs(model: nn.Module, config: Any, *, batch: int, tokens: int) -> dict[str, Any]:
    """Keyword arguments for ``forward``: integer tensors real, float tensors on meta.

    Parameters
    ----------
    model
        A transformers model.
    config
        Its configuration.
    batch
        Sequences.
    tokens
        Tokens per sequence, on the decoder's side too where there is one.

    Raises
    ------
    NoExampleInputs
        When the model's main input is none that devplan can make.
    """
    accepted = inspect.signature(model.forward).parameters
    name = getattr(model, "main_input_name", "input_ids")
    if "input_ids" in accepted and name not in _MAKERS:
        name = "input_ids"
    if name not in accepted or name not in _MAKERS:
        raise NoExampleInputs(f"no example can be made for the main input {name!r}")
    inputs = {name: _MAKERS[name](model, config, batch, tokens)}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = token_ids(model, config, batch, tokens)
    if "use_cache" in accepted:
        inputs["use_cache"] = True
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    return inputs


def token_ids(model: nn.Module, config: Any, batch: int, tokens: int) -> torch.Tensor:
    """Ids of one plain token, shape ``[batch, tokens]``: none that has a meaning to the model."""
    special = set(_special_ids(config))
    plain = next(token for token in range(1, len(special) + 2) if token not in special)
    return torch.full((batch, tokens), plain, dtype=torch.int64)


def _special_ids(config: Any) -> list[int]:
    """Every ``*_token_id`` of the configuration and of the configurations inside it."""
    found: list[int] = []
    for name, value in vars(config).items() if hasattr(config, "__dict__") else ():
        if name.endswith(("_token_id", "_token_index")):
            found.extend(value if isinstance(value, (list, tuple)) else [value])
        elif hasattr(value, "to_dict"):
            found.extend(_special_ids(value))
    return [value for value in found if isinstance(value, int)]


def _input_features(model: nn.Module, config: Any, batch: int, tokens: int) -> torch.Tensor:
    """Mel spectrogram at the length that the encoder's positions fix, ``[batch, bins, frames]``."""
    bins = _setting(config, "num_mel_bins", "num_mel_bins of the audio encoder")
    positions = _setting(config, "max_source_positions", "max_source_positions of the encoder")
    conv = getattr(model.get_encoder(), "conv2", None) if hasattr(model, "get_encoder") else None
    stride = conv.stride[0] if conv is not None else 1
    return torch.empty(batch, bins, positions * stride, dtype=model.dtype, device="meta")


def _pixel_values(model: nn.Module, config: Any, batch: int, tokens: int) -> torch.Tensor:
    """Image ``[batch, channels, height, width]`` at the size of the configuration."""
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(vision, "num_channels", 3)
    return torch.empty(batch, channels, height, width, dtype=model.dtype, device="meta")


def _input_values(model: nn.Module, config: Any, batch: int, tokens: int) -> torch.Tensor:
    """Waveform of one second at 16 kHz, ``[batch, samples]``."""
    return torch.empty(batch, 16_000, dtype=model.dtype, device="meta")


def _setting(config: Any, name: str, words: str) -> int:
    value = getattr(config, name, None)
    if value is None:
        raise NoExampleInputs(f"the configuration has no {words}")
    return value


_MAKERS = {
    "input_ids": token_ids,
    "input_features": _input_features,
    "pixel_values": _pixel_values,
    "input_values": _input_values,
}
