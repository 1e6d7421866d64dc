"""What of a stored tensor goes where, and which of formula and headers is believed."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from devplan.core.units import format_bytes
from devplan.profile.checkpoint import CheckpointNames, stored_bytes
from devplan.profile.parameters import parameter_bytes
from devplan.profile.quantization import quantized_bytes
from tests.profile.quant_skeletons import BF16
from tests.profile.test_quantization_compressed_tensors import INT4, UNPACKS, config
from tests.profile.test_stored import Tensor

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
ATTENTION = "model.layers.0.self_attn"


class Names:
    """Stands for the conversions of a class."""

    depends_on_order = False
    goes_to: ClassVar[dict[str, tuple[str, ...]]] = {}
    asked: ClassVar[list[str]] = []

    def __init__(self, model, known) -> None:
        pass

    def resolve(self, name):
        self.asked.append(name)
        return self.goes_to.get(name, ()), name.endswith("piece")


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr("devplan.profile.checkpoint.CheckpointNames", Names)
    monkeypatch.setattr(Names, "asked", [])
    monkeypatch.setattr(Names, "goes_to", {})
    return Names


def stored(*tensors: tuple[str, str, int]) -> dict[str, Tensor]:
    return {name: Tensor(name, dtype, (1,), size) for name, dtype, size in tensors}


def test_a_tensor_that_is_split_counts_by_elements(tiny_llama, names):
    """64 x 64 weights of queries, 32 x 64 of keys and of values."""
    parts = tuple(f"{ATTENTION}.{part}_proj.weight" for part in "qkv")
    names.goes_to = {"qkv": parts, "qk": parts[:2]}
    found = stored_bytes(tiny_llama, stored(("qkv", "BF16", 4000), ("qk", "BF16", 300)))
    assert found.bytes == {parts[0]: 2000 + 200, parts[1]: 1000 + 100, parts[2]: 1000}
    assert not found.packed and not found.unmatched


def test_a_tensor_that_is_split_over_buffers_is_shared_evenly(tiny_llama, names):
    for name in ("one", "two"):
        tiny_llama.model.register_buffer(name, torch.zeros(3, device="meta"))
    names.goes_to = {"both": ("model.one", "model.two")}
    found = stored_bytes(tiny_llama, stored(("both", "F32", 24), ("strange", "F32", 7)))
    assert found.buffers == {"model.one": 12, "model.two": 12} and found.bytes == {}
    assert found.unmatched == {"strange": 7}


def test_what_counts_as_packed(tiny_llama, names):
    weight = {kind: f"{ATTENTION}.{kind}_proj.weight" for kind in "qkvo"}
    names.goes_to = {
        "q": (weight["q"],),
        "k.piece": (weight["k"],),
        "v": (weight["v"],),
        "o": (weight["o"],),
        "o.piece": (weight["o"],),
    }
    found = stored_bytes(
        tiny_llama,
        stored(
            ("q", "F8_E4M3", 5),
            ("k.piece", "BF16", 6),
            ("v", "BF16", 7),
            ("o", "BF16", 8),
            ("o.piece", "F32", 9),
        ),
    )
    assert found.packed == {weight["q"], weight["k"], weight["o"]}
    assert found.bytes == {weight["q"]: 5, weight["k"]: 6, weight["v"]: 7, weight["o"]: 17}


@pytest.mark.parametrize("depends", [True, False])
def test_tensors_are_walked_as_transformers_does_where_that_matters(
    tiny_llama, names, monkeypatch, depends
):
    monkeypatch.setattr(names, "depends_on_order", depends)
    given = ["a.10.x", "b", "a.9.x", "a.9.w"]
    stored_bytes(tiny_llama, stored(*((name, "BF16", 1) for name in given)))
    assert names.asked == (["a.9.w", "a.9.x", "a.10.x", "b"] if depends else given)


@pytest.mark.parametrize(
    ("stored_name", "targets", "is_piece"),
    [
        ("both.1", ("a.1.x", "a.1.y"), False),
        ("both.1.qweight", ("a.1.x", "a.1.y"), True),
        ("both.2", (), False),  # of which a part is not there
        ("both.x", (), False),
        ("a.1.x", ("a.1.x",), False),
    ],
)
@pytest.mark.parametrize("first", [None, "both.1", "both.2"])
def test_a_name_belongs_to_all_that_it_goes_into_or_to_nothing(
    tiny_llama, monkeypatch, first, stored_name, targets, is_piece
):
    def renamed(self, name):
        number = name.removesuffix(".weight").partition(".")[2]
        return (f"a.{number}.x", f"a.{number}.y")

    monkeypatch.setattr(CheckpointNames, "_renamed", renamed)
    names = CheckpointNames(tiny_llama, {"a.1.x", "a.1.y", "a.2.x", "a.x.x"})
    if first:  # another name of that shape was asked for before
        names.resolve(first)
    assert names.resolve(stored_name) == (targets, is_piece)


def test_rules_are_asked_once_for_names_that_differ_in_numbers(tiny_moe, monkeypatch):
    """A checkpoint has tens of thousands of them."""
    known = {name for name, _ in tiny_moe.named_parameters()}
    names, asked = CheckpointNames(tiny_moe, known), []
    real = CheckpointNames._renamed
    monkeypatch.setattr(
        CheckpointNames, "_renamed", lambda self, name: asked.append(name) or real(self, name)
    )
    for index in (1, 0):
        for expert in (3, 1, 0, 2):
            stored_name = f"model.layers.{index}.mlp.experts.{expert}.down_proj.weight_packed"
            targets = (f"model.layers.{index}.mlp.experts.down_proj",)
            assert names.resolve(stored_name) == (targets, True)
    assert len(asked) == 2  # the name as it is, and as that of a piece


def test_the_first_pattern_of_a_classs_own_dictionary_applies(tiny_llama, monkeypatch):
    """As transformers 4.45 to 4.57 had it; releases without rules have none to ask."""
    monkeypatch.setattr("devplan.profile.checkpoint.conversions", lambda model: ([], []))
    known = {"model.visual.a", "model.visual.visual.a", "lm_head.weight"}
    names = CheckpointNames(tiny_llama, known)
    assert names.resolve("visual.a") == (("model.visual.a",), False)  # by the prefix of the class
    assert names.resolve("lm_head.SCB") == (("lm_head.weight",), True)
    assert names.resolve("another") == ((), False)
    tiny_llama._checkpoint_conversion_mapping = {
        "^nothing": "something",
        "^seen": "model.visual",
        "^seen.a": "lm_head.weight",
    }
    names = CheckpointNames(tiny_llama, known)
    assert names.resolve("seen.a") == (("model.visual.a",), False)
    assert names.resolve("lm_head.weight") == (("lm_head.weight",), False)


# ------------------------------------------------------------------------- formula and headers


def packed_checkpoint(model, sizes, more: int = 0) -> dict[str, Tensor]:
    """All that is packed in the bytes of the formula, one weight with some more."""
    first = next(iter(sizes.bytes))
    found = {}
    for name, parameter in model.named_parameters():
        if name in sizes.bytes:
            size = sizes.bytes[name] + (more if name == first else 0)
            piece = f"{name.removesuffix('.weight')}.qweight"
            found[piece] = Tensor(piece, "I32", (1,), size)
        else:
            found[name] = Tensor(name, "BF16", tuple(parameter.shape), parameter.nbytes)
    return found


@pytest.mark.parametrize(
    ("thousandths", "is_told"), [(0.9, False), (-0.9, False), (1.2, True), (-1.2, True)]
)
def test_a_thousandth_is_no_word_worth(tiny_llama, thousandths, is_told):
    formula = quantized_bytes(tiny_llama, GPTQ, dtype=BF16)
    total = sum(formula.bytes.values())
    more = int(total * thousandths / 1000)
    headers = packed_checkpoint(tiny_llama, formula, more)
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=GPTQ, stored=headers)
    # The headers are taken at any rate.
    assert sum(sizes.packed.values()) == total + more
    said = [note for note in sizes.notes if "is believed" in note]
    assert bool(said) is is_told
    for note in said:
        assert note.startswith(
            f"the checkpoint stores {format_bytes(total + more)} of packed weights where the "
            f"formula of gptq says {format_bytes(total)}"
        )


def test_the_first_of_what_is_missing_is_named(tiny_llama):
    headers = packed_checkpoint(tiny_llama, quantized_bytes(tiny_llama, GPTQ, dtype=BF16), 10**6)
    for name in ("model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"):
        del headers[name]
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=GPTQ, stored=headers)
    (note,) = (note for note in sizes.notes if "nothing is stored" in note)
    assert note.startswith(
        "nothing is stored of 3 of the parameters, such as model.embed_tokens.weight, so"
    )


@pytest.mark.skipif(not UNPACKS, reason="before transformers 5 packed weights stay packed")
def test_what_is_unpacked_is_stored_as_the_headers_say(tiny_llama):
    """The formula says what lies in memory, the headers what is in the checkpoint."""
    told = {**config(INT4), "dequantize": True}
    formula = quantized_bytes(tiny_llama, told, dtype=BF16)
    headers = packed_checkpoint(tiny_llama, formula, 7)
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=told, stored=headers)
    assert sum(sizes.packed.values()) == sum(formula.bytes.values()) + 7
    assert sizes.exceptions == formula.in_memory and not sizes.stays_packed


def test_embeddings_that_stay_packed_where_all_else_is_unpacked(tiny_llama):
    told = {"quant_method": "fp8", "dequantize": True, "modules_to_convert": ["embed_tokens"]}
    formula = quantized_bytes(tiny_llama, told, dtype=BF16)
    assert set(formula.bytes) == {"model.embed_tokens.weight"}
    headers = {
        name: Tensor(name, "F8_E4M3", tuple(p.shape), p.numel())
        for name, p in tiny_llama.named_parameters()
    }
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=told, stored=headers)
    assert sizes.exceptions == sizes.packed == formula.bytes
