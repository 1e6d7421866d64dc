"""Example inputs for a model's main run: text of a given length, or what the model takes instead.

Which arguments a model takes is read off its ``forward`` and its ``main_input_name``; sizes that
are no free choice (mel bins, image size) come from its configuration.  Where several kinds of
input are possible, each is an `Example`, and the first with which the model runs is used.  Images
beside the text are not made yet: towers of vision-language models are not reached by the main run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from devplan.core import DevplanError
from devplan.virtual.labels import CPU, META


class NoExampleInputs(DevplanError):
    """devplan does not know what this model wants to be given."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One kind of inputs for a model."""

    makers: Mapping[str, Callable[[int, int], Any]]
    """Argument of ``forward`` -> its value for (batch, tokens): a tensor or a switch."""

    def make(self, tokens: int, batch: int = 1) -> dict[str, Any]:
        """Keyword arguments for ``forward``: integer tensors real, float tensors on meta.

        Parameters
        ----------
        tokens
            Tokens per sequence, on the decoder's side too where there is one.
        batch
            Sequences.
        """
        return {name: maker(batch, tokens) for name, maker in self.makers.items()}


def example_inputs(model: nn.Module, config: Any) -> list[Example]:
    """The kinds of inputs that a model may take, the likeliest first.

    Raises
    ------
    NoExampleInputs
        When there is none that devplan can make.
    """
    accepted = inspect.signature(model.forward).parameters
    ids = partial(token_ids, config)
    examples = []
    for main in _main_inputs(model, config, accepted):
        makers: dict[str, Callable[[int, int], Any]] = dict(main)
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted:
            makers["decoder_input_ids"] = ids
        for name, value in (("use_cache", True), ("logits_to_keep", 1)):
            if name in accepted:
                makers[name] = partial(_same, value)
        examples.append(Example(makers=makers))
    if not examples:
        name = getattr(model, "main_input_name", "input_ids")
        raise NoExampleInputs(f"no example can be made for the main input {name!r}")
    return examples


def _same(value: Any, batch: int, tokens: int) -> Any:
    return value


def _main_inputs(
    model: nn.Module, config: Any, accepted: Mapping[str, Any]
) -> Iterator[dict[str, Callable[[int, int], Any]]]:
    """What may stand for the model's main input."""
    ids = partial(token_ids, config)
    main = getattr(model, "main_input_name", "input_ids")
    if "input_ids" in accepted and (main == "input_ids" or main not in _SIGNALS):
        yield {"input_ids": ids}
    for name in dict.fromkeys((main, *_SIGNALS)):
        if name in accepted and name in _SIGNALS:
            for signal in _SIGNALS[name](model, config):
                yield {name: signal}
                if "input_ids" in accepted:
                    yield {name: signal, "input_ids": ids}


# ---------------------------------------------------------------------------------- text


def token_ids(config: Any, batch: int, tokens: int) -> torch.Tensor:
    """Ids of one plain token, shape ``[batch, tokens]``: none that has a meaning to the model."""
    special = set(_special_ids(config))
    plain = next(token for token in range(1, len(special) + 2) if token not in special)
    return torch.full((batch, tokens), plain, dtype=torch.int64, device=CPU)


def _special_ids(config: Any) -> list[int]:
    """Every ``*_token_id`` of the configuration and of the configurations inside it."""
    found: list[int] = []
    for name, value in vars(config).items() if hasattr(config, "__dict__") else ():
        if name.endswith(("_token_id", "_token_index")):
            found.extend(value if isinstance(value, (list, tuple)) else [value])
        elif hasattr(value, "to_dict"):
            found.extend(_special_ids(value))
    return [value for value in found if isinstance(value, int)]


# ------------------------------------------------------------------------- sound and images


def _input_features(model: nn.Module, config: Any) -> Iterator[Callable[[int, int], torch.Tensor]]:
    """Spectrograms: ``[batch, bins, frames]`` as Whisper has it, else ``[batch, frames, bins]``.

    The number of frames is what the encoder's positions fix, or else three seconds of 10 ms.
    """
    settings = (config, *_inner_configs(config))
    bins = _first_setting(settings, _BIN_SETTINGS)
    if bins is None:
        return
    positions = _first_setting(settings[:1], ("max_source_positions",))
    conv = getattr(model.get_encoder(), "conv2", None) if hasattr(model, "get_encoder") else None
    frames = positions * (conv.stride[0] if conv is not None else 1) if positions else 300
    yield partial(_signal, model, (bins, frames))
    yield partial(_signal, model, (frames, bins))


_BIN_SETTINGS = (
    "num_mel_bins",
    "input_feat_per_channel",
    "feature_projection_input_dim",
    "mel_bins",
)
"""Names of the number of frequency bins in configurations of transformers 5.23: Whisper and most
others, Speech2Text, SeamlessM4T, CLAP."""


def _pixel_values(model: nn.Module, config: Any) -> Iterator[Callable[[int, int], torch.Tensor]]:
    """Image ``[batch, channels, height, width]`` at the size of the configuration."""
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", None) or config
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(vision, "num_channels", 3)
    yield partial(_signal, model, (channels, height, width))


def _input_values(model: nn.Module, config: Any) -> Iterator[Callable[[int, int], torch.Tensor]]:
    """Waveform of one second at 16 kHz, ``[batch, samples]``."""
    yield partial(_signal, model, (16_000,))
    yield partial(_signal, model, (1, 16_000))


def _signal(model: nn.Module, shape: tuple[int, ...], batch: int, tokens: int) -> torch.Tensor:
    return torch.empty(batch, *shape, dtype=_dtype(model), device=META)


def _dtype(model: nn.Module) -> torch.dtype:
    floats = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    return next(floats, torch.float32)


def _inner_configs(config: Any) -> tuple[Any, ...]:
    values = vars(config).values() if hasattr(config, "__dict__") else ()
    return tuple(value for value in values if hasattr(value, "to_dict"))


def _first_setting(configs: tuple[Any, ...], names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for config in configs for name in names)
    return next((value for value in found if isinstance(value, int)), None)


_SIGNALS = {
    "input_features": _input_features,
    "pixel_values": _pixel_values,
    "input_values": _input_values,
    "inputs": _input_values,
}
