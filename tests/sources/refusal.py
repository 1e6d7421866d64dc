"""The one line that is refused with."""

from __future__ import annotations

import pytest

from devplan.core.errors import InputError
from devplan.models.resolution import resolve


def refusal(model, **options) -> str:
    """The message with which MODEL is refused; it must be one line."""
    with pytest.raises(InputError) as caught:
        resolve(str(model), **options)
    return one_line(caught.value)


def one_line(error: InputError) -> str:
    assert "\n" not in str(error)
    return str(error)
