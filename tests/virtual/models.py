"""Models for tests: skeletons of the types of the installed transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from devplan.models.build import declared_no_split
from devplan.models.source import Skeleton

TASKS = {
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM"),
    "seq2seq": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "AutoModelForSeq2SeqLM"),
    "speech": ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", "AutoModelForSpeechSeq2Seq"),
    "image-text": ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "AutoModelForImageTextToText"),
    "base": ("MODEL_MAPPING_NAMES", "AutoModel"),
}
"""Task -> the table of transformers that lists its types, and the class that builds them."""


def types_of_task(task: str) -> list[str]:
    """Model types that transformers lists under a task."""
    return [name for name in getattr(modeling_auto, TASKS[task][0]) if name in CONFIG_MAPPING]


def skeleton_of_type(
    model_type: str, task: str | None = None, dtype: torch.dtype = torch.bfloat16, **settings: Any
) -> Skeleton:
    """A model type at its default configuration, changed by `settings`, on the meta device."""
    if task is None:
        task = next(name for name in TASKS if model_type in types_of_task(name))
    config = CONFIG_MAPPING[model_type](**settings)
    return skeleton_of_config(config, getattr(modeling_auto, TASKS[task][1]), dtype)


def skeleton_of_config(config: Any, auto_class: Any, dtype: torch.dtype) -> Skeleton:
    """A configuration on the meta device, built as `devplan.models` builds it."""
    with torch.device("meta"):
        model = auto_class.from_config(config, torch_dtype=dtype)
    return skeleton_of_module(model, config)


def skeleton_of_module(model: nn.Module, config: Any = None) -> Skeleton:
    """What is planned for, from a module that a test has made."""
    floats = [tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()]
    text = config.get_text_config(decoder=True) if config is not None else None
    return Skeleton(
        model=model.eval(),
        config=config,
        class_name=type(model).__name__,
        dtype=floats[0] if floats else torch.float32,
        no_split=declared_no_split(model),
        max_tokens=getattr(text, "max_position_embeddings", None),
    )
