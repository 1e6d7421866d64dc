"""transformers asks on stdin whether to run the code of a model; here nobody is ever asked.

``from_pretrained`` of a processor, tokenizer or configuration whose files name code of their own
(``auto_map``) asks where its ``trust_remote_code`` is None, and a processor does not hand its own
``False`` down to its parts.  With a waiting time of 0 the question is an error instead
(``resolve_trust_remote_code`` in ``transformers/dynamic_module_utils.py``, 4.45 to 5.23).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_ASKS = "TIME_OUT_REMOTE_CODE"
_inside: list[object] = []
"""One for each context that lasts, of any thread.  [Ctrl-C] A lock would stay taken where it
strikes on the way out; a list needs none."""
_before = 0


@contextlib.contextmanager
def never_asked() -> Iterator[None]:
    """While this lasts, in any thread, code that nobody has trusted is refused without a question;
    the waiting time is what it was when the last of them ends."""
    from transformers import dynamic_module_utils as asking

    global _before
    here = object()
    try:
        _inside.append(here)
        if _inside[0] is here:
            # [4.29] has none yet, and asks nothing.
            _before = getattr(asking, _ASKS, 0)
        setattr(asking, _ASKS, 0)
        yield
    finally:
        if here in _inside:
            _inside.remove(here)
        if not _inside:
            setattr(asking, _ASKS, _before)
        if _inside:  # another thread came in between
            setattr(asking, _ASKS, 0)


@contextlib.contextmanager
def quiet_diffusers() -> Iterator[None]:
    """What diffusers and transformers say on stderr while they import and assemble."""
    import torch
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with torch.device("cpu"):
            yield
    finally:
        logging.set_verbosity(verbosity)
