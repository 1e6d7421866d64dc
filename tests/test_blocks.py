"""The partition into blocks, on real module trees and on made-up ones."""

from __future__ import annotations

import accelerate
import pytest
import torch
from accelerate.utils.modeling import check_device_map
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from devplan.core.names import find_entry, is_inside, parent
from devplan.models.blocks import BlockSite, is_stack, partition
from devplan.profile.weights import measure_blocks
from tests.profile.test_cache_twins import real_model, run_for_real
from tests.profile.twins import CASES
from tests.virtual.models import TASKS, skeleton_of_type, types_of_task

TYPES = [
    "albert",  # one layer group that is called twelve times
    "beit",
    "biogpt",  # declares no class
    "blenderbot-small",
    "clip",
    "convnext",
    "dinov2",
    "gpt_bigcode",  # a buffer of the model itself
    "gpt2",
    "got_ocr2",
    "llava",  # a bare parameter between the modules
    "mixtral",
    "janus",
    "mask2former",
    "mllama",
    "qwen2_5_vl",
    "rt_detr",
    "resnet",  # declares its convolutions, nested stacks
    "rwkv",
    "segformer",
    "swin",
    "switch_transformers",
    "t5",  # one embedding under four names
    "wav2vec2",
    "whisper",
    "xlnet",
]


def tensors_of(site: BlockSite) -> list[torch.Tensor]:
    if site.tensor is not None:
        return [site.tensor]
    return [*site.module.parameters(), *site.module.buffers()]


def assert_partition(model: nn.Module, no_split: frozenset[str], sites: tuple[BlockSite, ...]):
    names = [site.name for site in sites]
    entries = dict.fromkeys(names)
    assert len(entries) == len(names)
    for name in names:
        if name:
            assert find_entry(entries, parent(name)) is None, f"{name} lies inside another block"
    everything = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    for name, _ in everything:
        assert find_entry(entries, name) is not None, f"{name} is in no block"
    held = {id(tensor) for site in sites for tensor in tensors_of(site)}
    assert held == {id(tensor) for _, tensor in everything}
    for site in sites:
        assert tensors_of(site), f"{site.name} holds nothing"
        assert not isinstance(site.module, (nn.ModuleList, nn.ModuleDict))
    for name, module in model.named_modules(remove_duplicate=False):
        if type(module).__name__ in no_split and any(True for _ in module.parameters()):
            assert find_entry(entries, name) is not None, f"{name} is split"


@pytest.mark.parametrize("model_type", TYPES)
def test_types_of_transformers(model_type):
    skeleton = skeleton_of_type(model_type)
    sites = partition(skeleton.model, skeleton.no_split)
    assert_partition(skeleton.model, skeleton.no_split, sites)
    check_device_map(skeleton.model, {site.name: "cpu" for site in sites})
    if len(sites) > 1:
        assert max(map(len, (site.name for site in sites))) > 0


@pytest.mark.slow
@pytest.mark.parametrize("model_type", types_of_task("base"))
def test_every_type(model_type):
    try:
        skeleton = skeleton_of_type(model_type, "base")
    except Exception as error:
        pytest.skip(f"cannot be built at its default configuration: {error}")
    sites = partition(skeleton.model, skeleton.no_split)
    assert_partition(skeleton.model, skeleton.no_split, sites)


@pytest.mark.parametrize(("model_type", "settings"), CASES, ids=[name for name, _ in CASES])
def test_accelerate_runs_a_map_of_blocks(model_type, settings):
    """Real hooks on every block: the model runs as before and gives the same."""
    skeleton, model = real_model(model_type, settings, torch.float32)
    sites = partition(model, skeleton.no_split)
    torch.manual_seed(0)
    before = run_for_real(skeleton, model, 1, 12)[0]
    device_map = {site.name: "cpu" for site in sites}
    dispatched = accelerate.dispatch_model(model, device_map, main_device="cpu", force_hooks=True)
    torch.manual_seed(0)
    torch.testing.assert_close(run_for_real(skeleton, dispatched, 1, 12)[0], before)


# ------------------------------------------------------------------------- made-up trees


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(2, 2)
        self.out = nn.Linear(2, 2)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.norm = nn.LayerNorm(2)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.newline = nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.ones(2))


LEAVES = st.sampled_from([lambda: nn.Linear(2, 2), lambda: nn.LayerNorm(2), nn.GELU, Layer, Bare])


def containers(children):
    lists = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        lists.map(lambda make: lambda: nn.ModuleList([one() for one in make])),
        lists.map(lambda make: lambda: nn.Sequential(*[one() for one in make])),
        lists.map(
            lambda make: lambda: nn.ModuleDict({f"m{i}": one() for i, one in enumerate(make)})
        ),
        st.tuples(lists).map(lambda make: lambda: nested(make[0])),
    )


def nested(make) -> nn.Module:
    module = Bare()
    for index, one in enumerate(make):
        module.add_module(f"child{index}", one())
    return module


@settings(deadline=None)
@given(
    make=st.recursive(LEAVES, containers, max_leaves=12),
    no_split=st.sets(st.sampled_from(["Layer", "Attention", "Linear", "Bare", "Sequential"])),
)
def test_any_tree(make, no_split):
    model = nested([make, make])
    no_split = frozenset(no_split)
    sites = partition(model, no_split)
    assert_partition(model, no_split, sites)
    assert sites == partition(model, no_split)
    num_elements = sum(tensor.numel() for tensor in model.parameters())
    assert measure_blocks(sites, {}).num_parameters == num_elements


def names(model: nn.Module, *no_split: str) -> list[str]:
    return [site.name for site in partition(model, frozenset(no_split))]


def test_a_residual_block_stays_whole_without_any_declaration():
    model = nn.Sequential()
    model.add_module("embed", nn.Embedding(4, 2))
    model.add_module("layers", nn.ModuleList([Layer(), Layer()]))
    assert names(model) == ["embed", "layers.0", "layers.1"]


def test_a_model_without_any_row_of_layers_is_divided_into_its_children():
    model = nn.ModuleDict({"a": nn.ModuleList([Layer()]), "b": nn.ModuleList([Layer()])})
    assert names(model) == ["a.0", "b.0"]
    assert names(nested([Layer, Layer])) == ["newline", "scale", "child0", "child1"]
    assert names(nn.Sequential(nn.Sequential(Layer(), Attention()))) == ["0.0", "0.1"]
    assert names(nested([Layer, Layer]), "Bare") == [""]
    assert names(nn.Linear(2, 2)) == [""]


def test_a_declared_class_stays_whole_although_it_holds_a_stack():
    class Big(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList([Layer(), Layer()])

    model = nn.ModuleDict({"a": Big(), "b": Big()})
    assert names(model, "Big") == ["a", "b"]
    assert names(model) == ["a.inner.0", "a.inner.1", "b.inner.0", "b.inner.1"]


def test_outermost_stack_gives_the_layers():
    """Declared convolutions three levels down do not split the stages above (ResNet)."""
    stage = lambda: nn.Sequential(Layer(), Layer())  # noqa: E731
    model = nn.ModuleDict({"stages": nn.ModuleList([stage() for _ in range(8)])})
    assert names(model, "Attention") == [f"stages.{index}" for index in range(8)]


def test_an_element_that_is_too_large_is_taken_apart():
    small, large = nn.Sequential(Layer(), Layer()), nn.Sequential(*(Layer() for _ in range(9)))
    model = nn.ModuleDict({"stages": nn.ModuleList([small, large])})
    assert names(model, "Attention")[:3] == ["stages.0", "stages.1.0", "stages.1.1"]


def test_the_stack_is_named():
    skeleton = skeleton_of_type("whisper", "speech")
    stacks = {site.stack for site in partition(skeleton.model, skeleton.no_split)}
    assert stacks == {None, "model.encoder.layers", "model.decoder.layers"}


def test_is_stack():
    assert is_stack(nn.ModuleList([Layer(), Layer()]))
    assert is_stack(nn.Sequential(Layer(), Layer()))
    assert not is_stack(nn.ModuleList([Layer()]))
    assert not is_stack(nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]))
    assert not is_stack(nn.Sequential(Layer(), Attention()))


def test_one_tensor_under_several_names_is_counted_once():
    skeleton = skeleton_of_type("t5", "seq2seq")
    sites = partition(skeleton.model, skeleton.no_split)
    measured = measure_blocks(sites, {})
    (group,) = measured.tied
    assert set(group) == {"shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"}
    assert measured.num_parameters == skeleton.model.num_parameters()
    assert sum(block.weight_bytes for block in measured.blocks.values()) == (
        2 * measured.num_parameters
    )
    assert [name for name in group if measured.blocks[name].weight_bytes] == ["shared"]


def test_every_task_has_types():
    assert all(types_of_task(task) for task in TASKS)
    assert is_inside("a.b", "a")
