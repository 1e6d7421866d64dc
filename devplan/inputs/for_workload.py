"""What the example of a workload should contain."""

from __future__ import annotations

from devplan.core import InputError, Workload
from devplan.inputs.request import ExampleInputs, InputRequest

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
        videos=0 if workload.images == 0 else None,  # [no images] means text alone
        image_size=workload.image_size or DEFAULT_IMAGE_SIZE,
        made_size=workload.image_size,
        made_frames=workload.frames,
        tiling=workload.tiling,
        padded=workload.batch > 1,
    )


def refuse_images_not_taken(example: ExampleInputs, request: InputRequest) -> None:
    """Images that were asked for are never left out silently.

    Raises
    ------
    InputError
        When the example holds none of them.
    """
    if request.images and "image" not in example.modalities:
        raise InputError(
            f"--images {request.images}, but no argument of the model takes images; leave it out"
        )
