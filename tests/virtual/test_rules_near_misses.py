"""Code that looks wrong and works on real GPUs must pass; code that fails must be flagged.

The near misses are idioms of released transformers and accelerate versions.  What the hooks of
accelerate do is a copy as far as the rules can see; here ``sent`` stands for it.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from devplan.virtual.rules.plan import judge_op
from tests.virtual.rules_bench import at, judged

aten = torch.ops.aten
GPU0, GPU1 = "cuda:0", "cuda:1"


def hidden(device: str | None, tokens: int = 4) -> torch.Tensor:
    return at(device, torch.arange(tokens * 2.0).reshape(1, tokens, 2))


def token_ids(device: str | None) -> torch.Tensor:
    return at(device, torch.tensor([[3, 1, 0, 2]]))


def image_mask(device: str | None) -> torch.Tensor:
    return at(device, torch.tensor([[True, False, True, False]]))


def sent(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """What ``send_to_device`` does; the verdict on the copy is checked on the way."""
    verdict = judge_op(aten._to_copy.default, (tensor,), {"device": torch.device(device)})
    assert verdict.mismatch is None
    assert verdict.named
    assert verdict.device == torch.device(device)
    return at(device, tensor)


def silent(run) -> None:
    mode = judged(run)
    assert mode.verdicts, "the code ran no op"
    assert mode.mismatches == []


# -------------------------------------------------------------------------------- near misses


def test_a_gpu_tensor_may_be_read_at_cpu_indices():
    silent(lambda: hidden(GPU1)[image_mask(None)])
    silent(lambda: hidden(GPU1)[:, token_ids("cpu")[0]])


def test_writing_moves_indices_from_another_gpu():
    def scatter_image_features():
        embeds = hidden(GPU0)
        embeds[image_mask(GPU1)] = hidden(GPU0, tokens=2)[0]
        embeds[0, token_ids(GPU1)[0]] = hidden(GPU0)[0]

    silent(scatter_image_features)


def test_writing_moves_a_value_without_dimensions():
    def blank():
        embeds = hidden(GPU0)
        embeds[image_mask(GPU0)] = at(None, torch.tensor(0.0))
        embeds[0, token_ids(GPU0)[0]] = at(None, torch.tensor(0.0))

    silent(blank)


@pytest.mark.parametrize(
    "run",
    [
        lambda a, m, number: a + number,
        lambda a, m, number: number - a,
        lambda a, m, number: torch.where(m[..., None], a, number),
        lambda a, m, number: a.masked_fill(m[..., None], number),
        lambda a, m, number: a.mul_(number),
        lambda a, m, number: a > number,
    ],
)
def test_a_cpu_tensor_without_dimensions_is_a_number(run):
    silent(lambda: run(hidden(GPU1), image_mask(GPU1), at(None, torch.tensor(-1e9))))


def test_copies_and_slice_assignment_cross_devices():
    def fill_cache():
        cache = hidden(GPU0)
        cache.copy_(hidden(GPU1))
        cache[:, :2] = hidden(GPU1)[:, :2]
        cache[:, :, -1] = hidden(None)[:, :, 0]
        return cache + hidden(GPU0)

    silent(fill_cache)


def test_an_explicit_move_before_use():
    silent(lambda: sent(hidden(GPU0), GPU1) + hidden(GPU1))


def test_the_shape_of_a_foreign_tensor():
    silent(
        lambda: (
            image_mask(GPU0).unsqueeze(-1).expand_as(hidden(GPU1)) & at(GPU0, torch.tensor([True]))
        )
    )


def test_numbers_read_from_a_foreign_tensor():
    def read():
        grid = token_ids(GPU1)
        total = hidden(GPU0) * grid.sum().item()
        if grid.max() > 2:
            total = total[:, grid[0].tolist()]
        return sum(total[:, i] for i in range(int(grid[0, 0])))

    silent(read)


def test_a_hooked_layer_receives_its_inputs_on_its_device():
    def layer(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states, attention_mask = sent(states, GPU1), sent(attention_mask, GPU1)
        return F.linear(states, at(GPU1, torch.ones(2, 2))) + attention_mask[..., None]

    silent(lambda: layer(hidden(GPU0), image_mask(GPU0)))


def test_logits_return_to_the_device_of_the_ids():
    def step():
        logits = sent(hidden(GPU1), GPU0)
        return torch.cat([token_ids(GPU0), logits[:, -1].argmax(-1, keepdim=True)], dim=1)

    silent(step)


def test_every_layer_touches_its_own_cache_entry():
    def step():
        cache = [hidden(GPU0), hidden(GPU1)]
        return [
            torch.cat([entry, hidden(device)], 1)
            for entry, device in zip(cache, (GPU0, GPU1), strict=True)
        ]

    silent(step)


def test_a_hooked_embedding_receives_its_ids_and_a_bare_one_does_not():
    weight = at(GPU1, torch.ones(4, 2))
    silent(lambda: F.embedding(sent(token_ids(GPU0), GPU1), weight))
    assert judged(lambda: F.embedding(token_ids(GPU0), weight)).mismatches


# ------------------------------------------------------------------------------- must be flagged

ON_TWO = f"found at least two devices, {GPU0} and {GPU1}!"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            lambda: token_ids(GPU0)[image_mask(GPU1)],
            "indices should be either on cpu or on the same device as the indexed tensor (cuda:0)",
        ),
        (lambda: hidden(GPU0).index_put_((token_ids(GPU0).zero_(),), hidden(GPU1)), ON_TWO),
        (lambda: torch.where(image_mask(GPU0)[..., None], hidden(GPU1), hidden(GPU0)), ON_TWO),
        (lambda: torch.where(image_mask(GPU0)[..., None], hidden(GPU0), hidden(GPU1)), ON_TWO),
        (
            lambda: hidden(GPU0).masked_scatter(image_mask(GPU1)[..., None], hidden(GPU0)),
            "mask is on cuda:1",
        ),
        (
            lambda: hidden(GPU0).masked_scatter(image_mask(GPU0)[..., None], hidden(GPU1)),
            "source is on cuda:1",
        ),
        (
            lambda: hidden(GPU0).masked_fill(image_mask(GPU1)[..., None], 0.0),
            "got mask on cuda:1 and self on cuda:0",
        ),
        (lambda: token_ids(GPU0).gather(1, token_ids(GPU1)), "index is on cuda:1"),
        (lambda: hidden(GPU0).index_select(1, token_ids(GPU1)[0]), "wrapper_CUDA__index_select"),
        (
            lambda: hidden(GPU0).index_copy_(1, token_ids(GPU1)[0], hidden(GPU0)),
            "wrapper_CUDA_index_copy_",
        ),
        (
            lambda: token_ids(GPU0).scatter_(1, token_ids(GPU0), token_ids(GPU1)),
            "src is on cuda:1",
        ),
        (lambda: torch.cat([hidden(GPU0), hidden(GPU1)]), "wrapper_CUDA_cat"),
        (lambda: torch.stack([hidden(GPU0), hidden(GPU1)]), "wrapper_CUDA_cat"),
        (
            lambda: torch.bucketize(hidden(GPU0), at(None, torch.arange(3.0))),
            "boundaries is on cpu",
        ),
        (lambda: F.embedding(token_ids(None), at(GPU0, torch.ones(4, 2))), "index is on cpu"),
        (lambda: torch.isin(token_ids(GPU0), token_ids(GPU1)), "test_elements is on cuda:1"),
        (
            lambda: aten.scaled_dot_product_attention(
                hidden(GPU0)[None],
                hidden(GPU0)[None],
                hidden(GPU0)[None],
                at(GPU1, torch.ones(4, 4)),
            ),
            "attn_bias is on cuda:1",
        ),
        (lambda: hidden(GPU0)[0] @ hidden(GPU1)[0].T, "mat2 is on cuda:1"),
        (lambda: torch.bmm(hidden(GPU0), hidden(GPU1).mT), "mat2 is on cuda:1"),
        (lambda: hidden(GPU0) * at(GPU1, torch.tensor(2.0)), ON_TWO),
    ],
)
def test_flagged_in_the_words_of_pytorch(run, words):
    first = judged(run).mismatches[0]
    assert words in first.message
    assert not first.assumed
