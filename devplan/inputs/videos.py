"""Candidates for videos: an image with a time axis."""

from __future__ import annotations

from collections.abc import Iterator

from devplan.inputs.facts import Facts
from devplan.inputs.images import grid_candidates, positioned_patches
from devplan.inputs.media import Candidate
from devplan.inputs.pictures import image_size, num_channels, said_sizes

FRAMES = ("pixel_values_videos", "video_pixel_values")


def video_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give `items` videos to each sequence of the batch."""
    name = facts.takes(*FRAMES)
    if name is None:
        return
    frames = facts.setting("num_frames", "frames_per_clip", side="vision")
    frames = frames if isinstance(frames, int) else facts.request.frames
    if grid := facts.takes("video_grid_thw"):
        time = facts.setting("temporal_patch_size", side="vision", default=1)
        steps = max(1, frames // time)
        yield from grid_candidates(facts, items, name, grid, kind="video", frames=steps)
        return
    if "video_position_ids" in facts.accepted:
        yield from _frames_of_patches(facts, items, name, frames)
        return
    total = items * facts.request.batch
    for size in _sizes(facts):
        picture = (num_channels(facts), *size)
        for shape in ((total, frames, *picture), (total * frames, *picture), (total, *picture)):
            arguments = {name: facts.floats(*shape)}
            yield Candidate(kind="video", items=items, arguments=arguments)


def _sizes(facts: Facts) -> Iterator[tuple[int, int]]:
    """Of a frame: as stated, then as the model's code says where it refuses that."""
    yield image_size(facts)
    yield from said_sizes(facts)


def _frames_of_patches(facts: Facts, items: int, name: str, frames: int) -> Iterator[Candidate]:
    """A list of patches and of their positions for every frame."""
    total = items * facts.request.batch
    for patches, positions in positioned_patches(facts, total * frames):
        arguments = {name: patches, "video_position_ids": positions}
        if "num_frames_per_video" in facts.accepted:
            arguments["num_frames_per_video"] = [frames] * total
        yield Candidate(kind="video", items=items, arguments=arguments)
