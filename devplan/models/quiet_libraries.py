"""Silence while diffusers and transformers import and assemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def quiet_diffusers() -> Iterator[None]:
    """What diffusers and transformers say on stderr while they import and assemble."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with torch.device("cpu"):
            yield
    finally:
        logging.set_verbosity(verbosity)
