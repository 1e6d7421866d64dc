"""Input embedding away from the main device.

What it does:
    Looks whether the input embedding is on another device than the one where the inputs enter.

Why it breaks:
    Masks and positions are made on the device of the inputs, or of the embeddings, depending on the
    release; where the two differ, they meet in code that no hook watches. The
    Qwen2-VL of transformers 4.45 to 4.48 is the best-known case. Newer releases mostly cope, so
    this alone is a warning.

Example:
    main device cuda:0

    device_map:
      model.visual: 0
      model.language_model: 1     # holds embed_tokens

Use instead:
    device_map:
      model.visual: 0
      model.language_model.embed_tokens: 0
      model.language_model: 1

Limits:
    Only what get_input_embeddings names is looked at. Where the main GPU has no room for it, it is
    a note.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.fixes import is_embedding_away
from devplan.rules.loads import fits_after

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    if not is_embedding_away(context):
        return
    embedding = context.structure.graph.embedding
    tied = [names for names in context.structure.graph.tied if embedding in names]
    together = tied[0] if tied else (embedding,)
    changed = dict.fromkeys(together, context.main_device)
    has_room = fits_after(context, changed)
    yield Finding(
        code="DP205",
        severity=SEVERITY if has_room else Severity.NOTE,
        message=f"the input embedding {embedding} is on {context.device_of(embedding)}, the inputs "
        f"enter at {context.main_device}",
        module=embedding,
        entry=context.entry_of(embedding),
        fix=Fix(
            text=f"put it on {context.main_device}"
            if has_room
            else f"{context.main_device} has no room for it beside what is there",
            changed_entries=changed if has_room else {},
        ),
    )
