"""What tiny pipelines make, to be compared: loaded by a map, and loaded as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.pipelines.tiny import SIZES


def made(pipeline: Any, name: str) -> torch.Tensor:
    """What a tiny pipeline makes of one prompt, the same at every call."""
    pipeline.set_progress_bar_config(disable=True)
    arguments = {"negative_prompt": "dull"} if name != "flux" else {}
    output = pipeline(
        prompt='A sign that says "here"',
        num_inference_steps=2,
        output_type="pt",
        generator=torch.Generator().manual_seed(7),
        **SIZES[name],
        **arguments,
    )
    return next(iter(output.values()))


def whole(folder: Path, name: str) -> torch.Tensor:
    """The same of the pipeline as diffusers loads it, on the CPU."""
    from diffusers import DiffusionPipeline

    return made(DiffusionPipeline.from_pretrained(folder), name)
