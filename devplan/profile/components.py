"""Bytes of the parameters of a pipeline, each of whose models has its own dtype and quantization.

What is known of a model by itself (``devplan.profile.parameters``, ``devplan.profile.loading``) is
put together under the names that its parameters have in the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from devplan.core import InputError
from devplan.models import Component, Skeleton
from devplan.profile.loading import loading_bytes
from devplan.profile.parameters import parameter_bytes
from devplan.profile.quantization.on_cards import config_on_cards, unpacked_note


@dataclass(kw_only=True)
class ComponentSizes:
    """Parameters of a whole pipeline that are not as its skeleton has them."""

    exceptions: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes in memory."""
    packed: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes as stored, of all that is quantized."""
    loading: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes beside it while it is loaded."""
    is_unpacked: bool = False
    """Whether something of it would not lie in memory as it is stored."""
    methods: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def quantization(self) -> str | None:
        """``transformer bitsandbytes``; None where nothing is quantized."""
        return ", ".join(self.methods) or None


def component_sizes(
    skeleton: Skeleton, *, least_capability: tuple[int, int] | None = None, packed: bool = False
) -> ComponentSizes:
    """The sizes of all components of a pipeline.

    Parameters
    ----------
    skeleton
        Of the pipeline.
    least_capability
        Smallest compute capability among the cards, where it is known.
    packed
        Count quantized weights as they are stored, also where they are unpacked.

    Raises
    ------
    InputError
        When a quantization method is unknown: with the component.
    """
    found = ComponentSizes()
    for name, component in skeleton.components.items():
        try:
            _add(found, name, component, least_capability, packed)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return found


def _add(
    found: ComponentSizes,
    name: str,
    component: Component,
    least_capability: tuple[int, int] | None,
    packed: bool,
) -> None:
    skeleton, source = component.skeleton, component.source
    stored_as = (source.config or {}).get("quantization_config")
    on_cards = config_on_cards(stored_as, least_capability)
    runs_as = stored_as if packed else on_cards
    sizes = parameter_bytes(
        skeleton.model, dtype=skeleton.dtype, quantization_config=runs_as, stored=source.stored
    )
    found.is_unpacked |= on_cards is not stored_as or not sizes.stays_packed
    exceptions = {**sizes.exceptions, **sizes.packed} if packed else sizes.exceptions
    loading = loading_bytes(
        skeleton.model, sizes=exceptions, packed=sizes.packed, stored=source.stored or ()
    )
    parts = ((found.exceptions, exceptions), (found.packed, sizes.packed), (found.loading, loading))
    for whole, part in parts:
        whole.update({f"{name}.{parameter}": size for parameter, size in part.items()})
    found.methods += [f"{name} {sizes.quantization}"] if sizes.quantization else []
    found.notes += [f"{name}: {note}" for note in sizes.notes]
    if runs_as is not stored_as:
        found.notes.append(f"{name}: {unpacked_note(stored_as, least_capability)}")
