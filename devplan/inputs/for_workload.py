"""What the example of a workload should contain."""

from __future__ import annotations

from devplan.inputs.request import InputRequest
from devplan.types import Workload

DEFAULT_IMAGE_SIZE = InputRequest().image_size


def request_for(workload: Workload, tokens: int) -> InputRequest:
    """Sequences of a workload's batch and images.

    Parameters
    ----------
    workload
        Batch and images; sequences of a batch differ in length.
    tokens
        Length of a sequence, placeholders of images among them.
    """
    return InputRequest(
        batch=workload.batch,
        tokens=tokens,
        images=workload.images,
        image_size=workload.image_size or DEFAULT_IMAGE_SIZE,
        made_size=workload.image_size,
        made_frames=workload.frames,
        tiling=workload.tiling,
        padded=workload.batch > 1,
    )
