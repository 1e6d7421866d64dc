"""Quiet while a model's code runs virtually: no warnings, no checks of what has no values."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from torch.distributions import Distribution

from devplan.sources.unasked import never_asked
from devplan.sandbox import patched


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Models warn about kernels and caches; in a virtual run nobody can act on it."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), never_asked():
            warnings.simplefilter("ignore")
            # A distribution asks whether all its parameters are valid, of abstract ones too.
            with patched(Distribution, "_validate_args", False):
                yield
    finally:
        logging.disable(disabled)
