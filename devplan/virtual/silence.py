"""Quiet while a model's code runs virtually: no warnings, no checks of what has no values.

The environment is as before at the end: ``generate`` sets ``TOKENIZERS_PARALLELISM`` where it finds
a CUDA device, which the caller's process may not have.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from torch.distributions import Distribution

from devplan.models import never_asked
from devplan.sandbox import exclusive, patched, set_environment


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Models warn about kernels and caches; in a virtual run nobody can act on it."""
    with exclusive():
        disabled, variables = logging.root.manager.disable, dict(os.environ)
        try:
            logging.disable(logging.WARNING)
            with warnings.catch_warnings(), never_asked():
                warnings.simplefilter("ignore")
                # A distribution asks whether all its parameters are valid, of abstract ones too.
                with patched(Distribution, "_validate_args", False):
                    yield
        finally:
            logging.disable(disabled)
            set_environment(variables)
