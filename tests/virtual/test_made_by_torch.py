"""Where the tensors lie that torch's own code makes, and what integer buffers are worth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from devplan.models.boundary import RememberIntegers, value_of
from devplan.virtual.dispatch_mode import Execution
from devplan.virtual.function_mode import Answers
from devplan.virtual.labels import CPU, label_of, mark
from devplan.virtual.placing import with_values

CARD = torch.device("cuda:1")


def ids():
    return mark(torch.arange(6), CARD, None)


def floats(*shape):
    return mark(torch.empty(*shape, device="meta"), CARD, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.one_hot(ids(), 8),
        lambda: F.embedding_bag(ids().view(2, 3), floats(6, 4), mode="sum"),
        lambda: ids().new_tensor([1, 2]),
        lambda: torch.take_along_dim(floats(2, 6), ids()[None], dim=1),
    ],
    ids=["one_hot", "embedding_bag", "new_tensor", "take_along_dim"],
)
def test_torch_makes_tensors_where_its_operands_are(call):
    execution = Execution()
    with Answers(execution), execution:
        assert label_of(call()) == CARD


def test_a_factory_of_the_model_makes_them_on_the_cpu():
    execution = Execution()
    length = mark(torch.tensor(5), CARD, None)
    with Answers(execution), execution:
        made = torch.arange(length)
    assert (label_of(made) or CPU) == CPU


def test_take_along_dim_is_torchs_own():
    given = torch.arange(24).view(2, 3, 4)
    for indices, dim in ((torch.tensor([[[2], [0], [1]]]), 2), (torch.tensor([5, 1]), None)):
        execution = Execution()
        with Answers(execution), execution:
            found = torch.take_along_dim(given, indices, dim=dim)
        assert torch.equal(found, torch.take_along_dim(given, indices, dim=dim))


@pytest.mark.parametrize(
    ("query", "key", "options"),
    [
        ((1, 12, 3, 64), (14, 12, 15, 64), {}),  # learned queries, once for all windows
        ((2, 8, 5, 64), (2, 2, 7, 64), {"enable_gqa": True}),
        ((4, 5, 16), (4, 7, 16), {}),
    ],
)
def test_attention_has_the_shape_of_torchs_own(query, key, options):
    own = F.scaled_dot_product_attention(
        torch.ones(query), torch.ones(key), torch.ones(key), **options
    )
    execution = Execution()
    with Answers(execution), execution:
        found = F.scaled_dot_product_attention(
            floats(*query), floats(*key), floats(*key), **options
        )
    assert found.shape == own.shape


def test_a_recurrent_layer_takes_abstract_input_and_concrete_states():
    with torch.device("meta"):
        layer = nn.LSTM(4, 4, batch_first=True)
    for parameter in layer.parameters():
        mark(parameter, CARD, None)
    state = tuple(mark(torch.zeros(1, 2, 4), CARD, None) for _ in range(2))
    execution = Execution()
    with torch.no_grad(), Answers(execution), execution:
        output, _ = layer(floats(2, 5, 4), state)
    assert output.shape == (2, 5, 4)


def test_integer_buffers_keep_what_they_were_built_with():
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("stride", torch.tensor(4), persistent=False)
            self.register_buffer("places", torch.arange(3).expand(1, -1) * self.stride)
            self.register_buffer("scale", torch.ones(3))

    with torch.device("meta"), RememberIntegers():
        module = Strided()
    assert module.stride.is_meta and with_values(module.stride).item() == 4
    assert with_values(module.places).tolist() == [[0, 4, 8]]
    assert value_of(module.scale) is None
