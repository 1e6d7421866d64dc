"""Forms that are found by asking: from docstrings, from refusals, one kind beside another."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, TapasConfig, TapasModel

from devplan.inputs.example import example_inputs
from devplan.inputs.request import InputRequest
from tests.inputs.tiny import TEXT, made_and_run, on_meta


class Asked(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        self.config = PreTrainedConfig(**settings)

    def get_input_embeddings(self):
        return getattr(self, "embedding", None)


def shapes_of(model_class, **request) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = model_class()
    made = example_inputs(model, model.config, InputRequest(**request))
    return {
        name: tuple(value.shape)
        for name, value in made.kwargs.items()
        if isinstance(value, torch.Tensor)
    }


class Prompted(Asked):
    """Pictures that belong together, of half the size that the configuration states."""

    def __init__(self) -> None:
        super().__init__(image_size=[64, 32])
        self.vision = nn.Conv2d(3, 4, 8, 8)

    def forward(self, pixel_values, prompt_pixel_values, steps):
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
                The picture.
            prompt_pixel_values (`Tensor` of shape `(batch_size, num_channels, height, width)`):
                Another one.
            steps (`torch.LongTensor` of shape `(batch_size, 1)`, *optional*):
                Which step it is.
        """
        both = torch.cat([pixel_values, prompt_pixel_values], dim=2)
        if both.shape[-2:] != (64, 32):
            raise ValueError(f"Input image size {tuple(both.shape[-2:])} doesn't match (64, 32)")
        return self.vision(both).mean((1, 2, 3)) * steps[:, 0]


def test_shapes_of_the_docstring_are_offered_together():
    assert shapes_of(Prompted, batch=2) == {
        "pixel_values": (2, 3, 32, 32),
        "prompt_pixel_values": (2, 3, 32, 32),
        "steps": (2, 1),
    }


class Counting(Asked):
    """As many steps as the sound has frames, though the docstring says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(24, 8)
        self.audio = nn.Conv1d(1, 8, 320, 320)

    def forward(self, latents, input_values):
        r"""
        latents (`torch.Tensor` of shape `(batch_size, 24, steps)`):
            Of another model.
        input_values (`torch.Tensor` of shape `(batch_size, channels, num_samples)`):
            The sound.
        """
        return torch.cat([self.into(latents).transpose(1, 2), self.audio(input_values)], dim=1)


def test_a_length_follows_what_the_refusal_says():
    found = shapes_of(Counting)
    assert found["latents"] == (1, found["input_values"][-1] // 320, 24)


class Looking(Asked):
    """What it looks up has a name that says nothing of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8)

    def forward(self, question: torch.Tensor):
        return self.table(question)


def test_integers_are_offered_where_numbers_with_a_fraction_are_refused():
    with torch.device("meta"):
        model = Looking()
    made = example_inputs(model, model.config, InputRequest()).kwargs
    assert made["question"].dtype == torch.int64


class Both(Asked):
    """Takes a video and a sound, and neither without the other; its frames have a fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Conv1d(1, 4, 64, 64)
        self.vision = nn.Conv2d(3, 4, 8, 8)

    def forward(self, pixel_values_videos=None, input_values=None):
        if input_values is not None and input_values.dim() != 3:
            raise ValueError("sounds without channels")
        sound = self.audio(input_values).mean(-1)
        height = pixel_values_videos.shape[-2]
        assert height == 40, f"Input height ({height}) doesn't match model (40)."
        frames = self.vision(pixel_values_videos.flatten(0, 1)).flatten(2)
        assert frames.shape[-1] == 25, "not the whole frame"
        return frames.mean((0, 2)) + sound


@pytest.mark.parametrize("batch", [1, 2])
def test_kinds_that_need_each_other_are_offered_together(batch):
    with torch.device("meta"):
        model = Both()
    for number in dict.fromkeys((1, batch)):  # what is known of one is used for two
        made = example_inputs(model, model.config, InputRequest(batch=number))
        assert made.kwargs["pixel_values_videos"].shape == (number, 4, 3, 40, 40)
        assert made.kwargs["input_values"].shape[:2] == (number, 1)
        assert not made.notes


class Added(Asked):
    """Features of a sound are added to the tokens, one to each."""

    def __init__(self) -> None:
        super().__init__(vocab_size=16, num_mel_bins=8)
        self.embedding = nn.Embedding(16, 8)
        self.audio_tower = nn.Conv1d(8, 8, 8, 8)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 8))])

    def get_audio_features(self, input_features):
        return self.audio_tower(input_features).transpose(1, 2)

    def forward(self, input_ids, input_features=None):
        if input_features is None:
            raise ValueError("You must specify input_features")
        states = self.embedding(input_ids)
        states += self.get_audio_features(input_features)
        return self.layers[0](states)


def test_a_text_may_be_as_long_as_the_sound():
    found = shapes_of(Added)
    assert found["input_ids"][1] == found["input_features"][-1] // 8


class Padding(Added):
    """Features are padded to a number that only the refusal tells."""

    def __init__(self) -> None:
        super().__init__()
        self.config.audio_token_id = 7

    def forward(self, input_ids, input_features=None):
        states = self.embedding(input_ids)
        if input_features is not None:
            features = self.get_audio_features(input_features)
            features = nn.functional.pad(features, (0, 0, 0, 60 - features.shape[1]))
            tokens = int((input_ids == 7).sum())
            if tokens != 60:
                raise ValueError(
                    f"Audio tokens and features differ, tokens: {tokens}, features: 60"
                )
            states = states.masked_scatter((input_ids == 7)[..., None], features)
        return self.layers[0](states)


def test_as_many_placeholders_as_the_refusal_says():
    with torch.device("meta"):
        model = Padding()
    ids = example_inputs(model, model.config, InputRequest()).kwargs["input_ids"]
    assert int((ids == 7).sum()) == 60


class Robot(Asked):
    """Several cameras, and a mask that says which are there."""

    def __init__(self) -> None:
        super().__init__(image_size=32)
        self.vision = nn.Conv2d(3, 4, 32)

    def forward(self, pixel_values, pixel_attention_mask=None):
        batch, cameras = pixel_attention_mask.shape
        states = self.vision(pixel_values.flatten(0, 1)).view(batch, cameras, 4)
        return states * pixel_attention_mask[..., None]


def test_a_mask_of_pictures():
    found = shapes_of(Robot, batch=2)
    assert found == {"pixel_values": (2, 1, 3, 32, 32), "pixel_attention_mask": (2, 1)}


class Cells(Asked):
    """A row of several patches for each cell of the grid, as the docstring states it."""

    def __init__(self) -> None:
        super().__init__(patch_size=4, spatial_merge_size=2)
        self.vision = nn.Linear(48, 8)

    def forward(self, pixel_values, image_grid_thw):
        r"""
        pixel_values (`torch.Tensor` of shape `(num_tokens, patch_size * spatial_merge_size, patch_size * spatial_merge_size, num_channels)`):
            Rows of patches.
        """  # noqa: E501
        rows, side, other, channels = pixel_values.shape
        if (side, other, channels) != (8, 8, 3):
            raise ValueError("not a cell")
        if rows != int(image_grid_thw.prod(-1).sum()):
            raise ValueError("not as many rows as cells")
        return self.vision(pixel_values.reshape(-1, 48))


def test_rows_of_a_grid_as_documented():
    assert shapes_of(Cells)["pixel_values"][1:] == (8, 8, 3)


class Sampling(Asked):
    """``sample`` is a switch here, and no latents; it is asked behind the text."""

    def __init__(self) -> None:
        super().__init__(vocab_size=16)
        layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 8))])
        self.language = nn.ModuleDict({"embedding": nn.Embedding(16, 8), "layers": layers})
        self.audio = nn.Linear(8, 8)

    def get_input_embeddings(self):
        return self.language["embedding"]

    def forward(self, input_ids, sample: bool = True):
        states = self.audio(self.language["embedding"](input_ids))
        states = self.language["layers"][0](states)
        return states * 2 if sample else states


def test_a_switch_is_no_tensor():
    assert shapes_of(Sampling).keys() == {"input_ids"}


def test_tables_have_seven_types_for_each_token():
    config = TapasConfig(
        **{name: value for name, value in TEXT.items() if "key_value" not in name},
        type_vocab_sizes=[3, 8, 8, 2, 8, 8, 8],
    )
    made, _ = made_and_run(on_meta(TapasModel, config), batch=2)
    assert made.kwargs["token_type_ids"].shape == (2, 64, 7)


class Masked(Asked):
    """What the mask leaves out is put back, and some of both has to be there."""

    def __init__(self) -> None:
        super().__init__(image_size=32, num_frames=4)
        self.vision = nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16))

    def forward(self, pixel_values, bool_masked_pos: torch.BoolTensor):
        r"""
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, sequence_length)`):
            Which patches are left out.
        """
        batch, *rest = pixel_values.shape
        assert len(rest) == 4
        states = self.vision(pixel_values.transpose(1, 2)).flatten(2).transpose(1, 2)
        seen = states[~bool_masked_pos].reshape(batch, -1, 8)
        return seen.reshape(batch, seen.shape[1], -1, 4)


def test_a_mask_hides_half_of_the_patches():
    with torch.device("meta"):
        model = Masked()
    made = example_inputs(model, model.config, InputRequest()).kwargs
    assert made["pixel_values"].shape == (1, 4, 3, 32, 32)
    assert made["bool_masked_pos"].any() and not made["bool_masked_pos"].all()
