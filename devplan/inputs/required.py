"""Arguments that a class requires and that only its signature and docstring describe.

A codec's ``latents``, the ``query_embeds`` of a bridge between towers, the ``state`` of a robot.
Shapes are those that the docstring states; widths those of the first layers, of the configuration,
and of what the model's code complains about: "to have 512 channels, but got 64".
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from devplan.inputs.facts import Facts, image_size, num_channels
from devplan.inputs.probe import probe
from devplan.inputs.sounds import WAVEFORMS, num_bins, num_frames, num_samples

_MOST_SAID = 4
"""Numbers of an error that are looked at: more are a list of shapes."""
MOST_OFFERS = 40
"""Forms that are offered before the arguments are given up."""

_HOP = 320
"""Samples of a step of sound: 20 ms at 16 kHz, what most codecs make one vector of."""
_WIDTHS = ("hidden_size", "latent_dim", "codebook_dim", "max_state_dim", "d_model", "hidden_dim")
_INTEGER = re.compile(r"(_ids|_positions?|_index|_indices|_codes|labels|lengths?)$|^num_")
_NOT_INTEGER = re.compile(r"scalar types: Long|must be (?:long|int)|indices .* (?:long|int)", re.I)
"""How PyTorch refuses numbers with a fraction where it looks something up."""
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\w+")


Form = tuple[tuple[int, ...], str]
"""Shape and content: ``floats``, ``zeros`` or ``ones`` (integers), ``mask`` (true), ``half``
(true and false by turns: a masked autoencoder wants some of both)."""


@dataclass(frozen=True, kw_only=True)
class FoundForms:
    """What a search came to."""

    forms: Mapping[str, Form]
    is_taken: bool
    """Whether the model's code ran to its end with them."""


def required_arguments(
    facts: Facts,
    kwargs: Mapping[str, Any],
    missing: Collection[str],
    *,
    known: FoundForms | None,
    makeable: Mapping[str, Sequence[tuple[int, ...]]],
) -> FoundForms:
    """Forms of arguments, the ones with which the model's code gets farthest.

    All are offered as documented; then one after the other in one form after the other, and a form
    is kept where more ops run than before.

    Parameters
    ----------
    facts, kwargs
        The model, and the arguments that are made already.
    missing
        Names of those that are not.
    known
        What was found for another request: it is offered first, and kept where a search was in
        vain.
    makeable
        Those that the makers of media make too, with the shapes that these offer: they may have
        theirs where no form was taken.
    """
    if known is not None and not known.is_taken:
        return known
    forms = known.forms if known is not None else {}
    names = [name for name in facts.accepted if name in {*missing, *forms}]
    search = _Search(facts, kwargs, names, makeable)
    forms = search.run(forms)
    kept = (
        forms if search.is_taken else {name: forms[name] for name in forms.keys() - makeable.keys()}
    )
    return FoundForms(forms=kept, is_taken=search.is_taken)


class _Search:
    def __init__(
        self,
        facts: Facts,
        kwargs: Mapping[str, Any],
        names: list[str],
        makeable: Mapping[str, Sequence[tuple[int, ...]]],
    ) -> None:
        self.facts, self.kwargs, self.names, self.makeable = facts, kwargs, names, makeable
        self.widths = list(dict.fromkeys(_widths(facts)))
        self.said: list[int] = []
        """Numbers in the error of the best forms: an axis of one of them may have to be another."""
        self.wants_integers = False
        self.forms: dict[str, Form] = {}
        """Argument -> the form with which the code got farthest."""
        for name in names:
            self.forms[name] = self._forms(name)[0]
        self.farthest = -1
        self.offered: set[tuple[tuple[str, Form], ...]] = set()
        self.is_taken = False

    def run(self, known: Mapping[str, Form]) -> dict[str, Form]:
        for forms in (*([known] if known else []), *self._documented()):
            if not self.is_taken and self._is_new(forms):
                self._offer(forms)
        while any([self._offer_next(name) for name in list(self.names)]):
            pass
        return self.forms

    def _documented(self) -> Iterator[Mapping[str, Form]]:
        """All arguments together, as docstrings state them: pictures that belong together are of
        one size."""
        yield {}
        stated = {name: documented_shapes(self.facts, name) for name in self.names}
        for number in range(1, max(map(len, stated.values()), default=0)):
            yield {
                name: (shapes[min(number, len(shapes) - 1)], self._contents(name)[0])
                for name, shapes in stated.items()
                if shapes
            }

    def _offer_swapped(self) -> bool:
        """Offer what the error of the best forms suggests; whether it suggests anything new."""
        for name, (shape, content) in list(self.forms.items()):
            for other in self._swapped(shape):
                if not self._is_over() and self._is_new({name: (other, content)}):
                    self._offer({name: (other, content)})
                    return True
        return False

    def _is_over(self) -> bool:
        return self.is_taken or len(self.offered) >= MOST_OFFERS

    def _offer_next(self, name: str) -> bool:
        """Offer an argument in its next form; whether there was one, and time for it."""
        while self._offer_swapped():
            pass
        if self._is_over():
            return False
        untried = (form for form in self._forms(name) if self._is_new({name: form}))
        form = next(untried, None)
        if form is not None:
            self._offer({name: form})
        return form is not None

    def _is_new(self, other: Mapping[str, Form]) -> bool:
        return self._key(other) not in self.offered

    def _key(self, other: Mapping[str, Form]) -> tuple[tuple[str, Form], ...]:
        return tuple({**self.forms, **other}.items())

    def _offer(self, other: Mapping[str, Form]) -> None:
        """Ask the model's code, and learn from what it says."""
        self.offered.add(self._key(other))
        answer = probe(self.facts, {**self.kwargs, **made_of(self.facts, {**self.forms, **other})})
        self.is_taken = answer.error is None
        is_farther = self.is_taken or answer.num_ops > self.farthest
        if is_farther:
            self.farthest = answer.num_ops
            self.forms.update(other)
        if answer.error is not None:
            self._learn(answer.error, is_farther)

    def _learn(self, error: str, is_farther: bool) -> None:
        """What the error names: other arguments that the code wants, and widths, the last first."""
        numbers = [int(number) for number in _NUMBER.findall(error.rpartition(" at ")[0] or error)]
        fit = [number for number in numbers if 1 < number <= 2**16]
        if is_farther:
            self.said = list(dict.fromkeys(fit))[:_MOST_SAID]
        fit = [number for number in fit if number != STEPS]
        self.widths = list(dict.fromkeys([*reversed(fit), *self.widths]))
        self.wants_integers = self.wants_integers or _NOT_INTEGER.search(error) is not None
        for name in _WORD.findall(error):
            if name in self.facts.accepted and name not in {*self.kwargs, *self.names}:
                self.names.append(name)

    def _forms(self, name: str) -> list[Form]:
        """As documented, then in every shape that is likely, then with another content."""
        contents = self._contents(name)
        documented = documented_shapes(self.facts, name)
        shapes = [*self.makeable.get(name, ()), *self._shapes()]
        if contents[0] != "floats":
            shapes = [shape[:2] for shape in shapes]
        found = [(shape, contents[0]) for shape in documented]
        if (held := self.forms.get(name)) is not None:
            found += [(held[0], content) for content in contents]
        found += [(shape, contents[0]) for shape in shapes]
        return list(dict.fromkeys(found))

    def _swapped(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """A shape with another number that the error names for one of its axes."""
        for axis, old in enumerate(shape):
            if old in self.said:
                yield from (
                    (*shape[:axis], new, *shape[axis + 1 :]) for new in self.said if new != old
                )

    def _contents(self, name: str) -> tuple[str, ...]:
        annotation = str(self.facts.accepted[name].annotation)
        if "mask" in name and "BoolTensor" in annotation:
            return ("mask", "half")
        if _INTEGER.search(name) or "LongTensor" in annotation:
            return ("zeros", "ones")
        return ("floats", "zeros") if self.wants_integers else ("floats",)

    def _shapes(self) -> list[tuple[int, ...]]:
        batch = self.facts.request.batch
        found = [
            tuple(value.shape)
            for value in self.kwargs.values()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        ]
        for width in self.widths:
            found += [(batch, STEPS, width), (batch, width, STEPS), (batch, width)]
        ids = self.kwargs.get("input_ids")
        if isinstance(ids, torch.Tensor):
            found.append(tuple(ids.shape))
        found += [shape for shape, content in self.forms.values() if content != "floats"]
        found += [(batch, STEPS), (batch,), (batch, 1, STEPS * _HOP)]
        return list(dict.fromkeys(found))


def made_of(facts: Facts, forms: Mapping[str, Form]) -> dict[str, torch.Tensor]:
    """Arguments in these forms."""
    return {name: _tensor(facts, form) for name, form in forms.items()}


def _tensor(facts: Facts, form: Form) -> torch.Tensor:
    shape, content = form
    if content == "floats":
        return facts.floats(*shape)
    if content == "mask":
        return torch.ones(shape, dtype=torch.bool)
    if content == "half":
        return (torch.arange(shape[-1]) % 2 == 0).expand(shape).clone()
    return torch.full(shape, int(content == "ones"), dtype=torch.int64)


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


# Shapes that the docstring of ``forward`` states. People name the axes: a name is looked up in
# the request, the configuration and the makers of pictures and sounds. A docstring may be wrong,
# so its shape is one form to offer.

STEPS = 64
"""Of a sequence that is not text."""

_LENGTH = re.compile(r"len|seq|steps|tokens|frames|samples|^time$")
_SIDE = {"height": 0, "width": 1, "image_size": None, "frame_size": None, "img_size": None}
"""What the sides of a picture are called -> which of the two; None: the one that comes next."""


def documented_shapes(facts: Facts, name: str) -> list[tuple[int, ...]]:
    """Shapes of an argument by its docstring: with pictures as stated, then with square ones."""
    axes = facts.documented.get(name)
    if axes is None:
        return []
    height, width = image_size(facts)
    sizes = [(height, width), (min(height, width),) * 2]
    return list(dict.fromkeys(_shape(facts, name, axes, size) for size in sizes))


def _shape(
    facts: Facts, name: str, axes: tuple[str, ...], size: tuple[int, int]
) -> tuple[int, ...]:
    shape: list[int] = []
    for number, axis in enumerate(axes):
        if axis in _SIDE:
            side = _SIDE[axis]
            shape.append(size[number == len(axes) - 1 if side is None else side])
        else:
            factors = [_number(facts, name, factor.strip()) for factor in axis.split("*")]
            shape.append(math.prod(factors))
    return tuple(shape)


def _number(facts: Facts, name: str, axis: str) -> int:
    """What a name of an axis means; 1 where nothing says."""
    if axis.isdecimal():
        return int(axis)
    if "batch" in axis:
        return facts.request.batch
    if axis.endswith("channels"):
        return 1 if name in WAVEFORMS else num_channels(facts)
    if "bins" in axis or "mel" in axis:
        return num_bins(facts)[0]
    stated = facts.setting(axis.rpartition(".")[2])
    if isinstance(stated, int) and not isinstance(stated, bool):
        return stated
    return _length(facts, name) if _LENGTH.search(axis) else 1


def _length(facts: Facts, name: str) -> int:
    if name in WAVEFORMS:
        return num_samples(facts)
    return num_frames(facts)[0] if name.endswith("features") else STEPS
