"""transformers asks on stdin whether to run the code of a model; here nobody is ever asked.

``from_pretrained`` of a processor, tokenizer or configuration whose files name code of their own
(``auto_map``) asks where its ``trust_remote_code`` is None, and a processor does not hand its own
``False`` down to its parts.  With a waiting time of 0 the question is an error instead
(``resolve_trust_remote_code`` in ``transformers/dynamic_module_utils.py``, 4.45 to 5.23).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()
_inside = 0
_before = 0


@contextlib.contextmanager
def never_asked() -> Iterator[None]:
    """While this lasts, in any thread, code that nobody has trusted is refused without a question;
    the waiting time is what it was when the last of them ends."""
    from transformers import dynamic_module_utils

    global _inside, _before
    with _LOCK:
        if not _inside:
            # [4.29] has none yet, and asks nothing.
            _before = getattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0)
            dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                dynamic_module_utils.TIME_OUT_REMOTE_CODE = _before
