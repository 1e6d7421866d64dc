"""Which model types there are, and the class that stands for each.

A type is a key of transformers' ``CONFIG_MAPPING``.  Its class is its most complete one: the one
that the tables of transformers list for the first of `_WHOLE` that lists the type at all, then the
base class, then any other task.  A type without a class is a part of another model's configuration
(``clip_text_model`` has a class, ``idefics3_vision`` may not) and nothing to run.
"""

from __future__ import annotations

_WHOLE = tuple(
    f"MODEL_FOR_{task}_MAPPING_NAMES"
    for task in (
        "IMAGE_TEXT_TO_TEXT",
        "MULTIMODAL_LM",
        "SPEECH_SEQ_2_SEQ",
        "SEQ_TO_SEQ_CAUSAL_LM",
        "TEXT_TO_WAVEFORM",
        "CAUSAL_LM",
        "ZERO_SHOT_IMAGE_CLASSIFICATION",
        "ZERO_SHOT_OBJECT_DETECTION",
        "OBJECT_DETECTION",
        "UNIVERSAL_SEGMENTATION",
        "MASK_GENERATION",
        "MASKED_LM",
        "IMAGE_CLASSIFICATION",
        "CTC",
        "AUDIO_CLASSIFICATION",
        "DEPTH_ESTIMATION",
        "TIME_SERIES_PREDICTION",
    )
)
"""Tasks whose class is the whole model; the base class comes after them, other tasks last."""


def model_types() -> tuple[str, ...]:
    """Every type that transformers has a configuration for, by name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return tuple(sorted(CONFIG_MAPPING_NAMES))


def model_classes() -> dict[str, str]:
    """Model type -> name of its most complete class, for each type that has one."""
    from transformers.models.auto import modeling_auto

    tables = [name for name in dir(modeling_auto) if name.endswith("_MAPPING_NAMES")]
    others = [name for name in tables if name.startswith("MODEL_FOR_") and name not in _WHOLE]
    order = [*_WHOLE, "MODEL_MAPPING_NAMES", *others]
    found: dict[str, str] = {}
    for model_type in model_types():
        for table in order:
            name = getattr(modeling_auto, table, {}).get(model_type)
            if name is not None:
                found[model_type] = name if isinstance(name, str) else name[0]
                break
    return found
