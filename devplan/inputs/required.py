"""Arguments that a class requires and of which only its signature tells.

A codec's ``latents``, the ``query_embeds`` of a bridge between towers, the ``state`` of a robot.
Their widths are those of the first layers, of the configuration, and of what the model's code
complains about: "to have 512 channels, but got 64".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from devplan.inputs.facts import Facts
from devplan.inputs.probe import probe

MOST_OFFERS = 40
"""Forms that are offered before the arguments are given up."""

_STEPS = 64
"""Of a sequence that is no text."""
_HOP = 320
"""Samples of a step of sound: 20 ms at 16 kHz, what most codecs make one vector of."""
_WIDTHS = ("hidden_size", "latent_dim", "codebook_dim", "max_state_dim", "d_model", "hidden_dim")
_INTEGER = re.compile(r"(_ids|_positions?|_index|_indices|_codes|labels|lengths?)$|^num_")
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\w+")


def required_arguments(
    facts: Facts, kwargs: Mapping[str, Any], missing: Collection[str]
) -> dict[str, torch.Tensor]:
    """Forms of arguments, the ones with which the model's code gets farthest.

    One argument after the other is offered in one form after the other; a form is kept where more
    ops run than before.

    Parameters
    ----------
    facts, kwargs
        The model, and the arguments that are made already.
    missing
        Names of those that are not.
    """
    return _Search(facts, kwargs, [n for n in facts.accepted if n in missing]).run()


class _Search:
    def __init__(self, facts: Facts, kwargs: Mapping[str, Any], names: list[str]) -> None:
        self.facts, self.kwargs, self.names = facts, kwargs, names
        self.widths = list(dict.fromkeys(_widths(facts)))
        self.made = {name: self._made(name, self._shapes()[0]) for name in names}
        self.farthest = -1
        self.offered: set[tuple[tuple[str, tuple[int, ...]], ...]] = set()
        self.is_taken = False

    def run(self) -> dict[str, torch.Tensor]:
        self._offer({})
        while any([self._offer_next(name) for name in list(self.names)]):
            pass
        return self.made

    def _offer_next(self, name: str) -> bool:
        """Offer an argument in its next form; whether there was one, and time for it."""
        if self.is_taken or len(self.offered) >= MOST_OFFERS:
            return False
        untried = (shape for shape in self._shapes() if self._is_new(name, shape))
        shape = next(untried, None)
        if shape is not None:
            self._offer({name: self._made(name, shape)})
        return shape is not None

    def _is_new(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._key({name: self._made(name, shape)}) not in self.offered

    def _key(self, other: Mapping[str, torch.Tensor]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((name, tuple(value.shape)) for name, value in {**self.made, **other}.items())

    def _offer(self, other: Mapping[str, torch.Tensor]) -> None:
        """Ask the model's code, and learn from what it says."""
        self.offered.add(self._key(other))
        answer = probe(self.facts, {**self.kwargs, **self.made, **other})
        self.is_taken = answer.error is None
        if self.is_taken or answer.num_ops > self.farthest:
            self.farthest = answer.num_ops
            self.made.update(other)
        if answer.error is not None:
            self._learn(answer.error)

    def _learn(self, error: str) -> None:
        """What the error names: other arguments that the code wants, and widths, the last first."""
        said = [int(number) for number in _NUMBER.findall(error.rpartition(" at ")[0] or error)]
        fit = [number for number in said if 1 < number <= 2**16 and number != _STEPS]
        self.widths = list(dict.fromkeys([*reversed(fit), *self.widths]))
        for name in _WORD.findall(error):
            if name in self.facts.accepted and name not in {*self.kwargs, *self.names}:
                self.names.append(name)

    def _shapes(self) -> list[tuple[int, ...]]:
        batch = self.facts.request.batch
        found = [
            tuple(value.shape)
            for value in self.kwargs.values()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        ]
        for width in self.widths:
            found += [(batch, _STEPS, width), (batch, width, _STEPS), (batch, width)]
        ids = self.kwargs.get("input_ids")
        if isinstance(ids, torch.Tensor):
            found.append(tuple(ids.shape))
        found += [(batch, _STEPS), (batch,), (batch, 1, _STEPS * _HOP)]
        return list(dict.fromkeys(found))

    def _made(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        annotation = str(self.facts.accepted[name].annotation)
        if _INTEGER.search(name) or "LongTensor" in annotation:
            return torch.zeros(shape[:2], dtype=torch.int64)
        if "mask" in name and "BoolTensor" in annotation:
            return torch.ones(shape[:2], dtype=torch.bool)
        return self.facts.floats(*shape)


def _widths(facts: Facts) -> Iterator[int]:
    """Input widths of the first layers, and those that the configuration names."""
    found = 0
    for module in facts.model.modules():
        width = next(
            (
                value
                for name in ("in_features", "in_channels", "embed_dim")
                if isinstance(value := getattr(module, name, None), int)
            ),
            None,
        )
        if width is not None and width > 1:
            yield width
            found += 1
        if found == 4:
            break
    for name in _WIDTHS:
        width = facts.setting(name)
        if isinstance(width, int) and not isinstance(width, bool) and width > 1:
            yield width
