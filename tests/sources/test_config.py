"""The hash of a config: what it depends on, and what it must not depend on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.core.errors import InputError
from devplan.models.config import VOLATILE_KEYS, config_hash, refuse_wrong_kinds, stated_dtype

KEYS = st.sampled_from(["hidden_size", "rope_scaling", "vocab_size", "layer_types", "eps"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=5)


def reverse(value):
    if isinstance(value, dict):
        return {key: reverse(inner) for key, inner in reversed(value.items())}
    return [reverse(inner) for inner in value] if isinstance(value, list) else value


def sprinkle(value):
    """The same config, saved by another version from another place."""
    if isinstance(value, dict):
        noise = dict.fromkeys(VOLATILE_KEYS, "5.23.0")
        return {key: sprinkle(inner) for key, inner in value.items()} | noise
    return [sprinkle(inner) for inner in value] if isinstance(value, list) else value


@given(CONFIGS)
def test_order_and_savers_do_not_matter(config):
    assert config_hash(reverse(config)) == config_hash(config) == config_hash(sprinkle(config))


@given(CONFIGS, KEYS)
def test_every_value_matters(config, key):
    assert config_hash({**config, key: "changed"}) != config_hash(config)
    assert config_hash({**config, "text_config": {key: 1}}) != config_hash(
        {**config, "text_config": {key: 2}}
    )


def test_both_spellings_of_the_dtype_are_one():
    old, new = {"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}
    assert config_hash(old) == config_hash(new) == config_hash(old | new)
    assert config_hash({"text_config": old}) == config_hash({"text_config": new})
    assert config_hash(old) != config_hash({"dtype": "float16"})


def test_the_hash_is_the_same_in_every_version():
    """Map files hold it: a change of the algorithm would call every map stale."""
    config = {"model_type": "llama", "torch_dtype": "bfloat16", "layers": [1, {"b": None}]}
    assert config_hash(config) == (
        "902baec375f5acfe33c566da89bac5d03deff89702ab0244eccda5deaaecca03"
    )


def test_the_stated_dtype():
    assert stated_dtype({"torch_dtype": "bfloat16"}, "config.json") == "bfloat16"
    assert stated_dtype({"dtype": "torch.float16"}, "config.json") == "float16"
    assert stated_dtype({"text_config": {"dtype": "float32"}}, "config.json") == "float32"
    assert stated_dtype({"dtype": None, "text_config": None}, "config.json") is None
    assert stated_dtype({"dtype": "auto"}, "config.json") is None


def test_a_stated_dtype_that_is_none():
    with pytest.raises(InputError, match=r"x/config\.json: 'bfloat61' is not a dtype.*bfloat16"):
        stated_dtype({"dtype": "bfloat61"}, "x/config.json")


def test_a_quantization_config_that_is_no_object():
    refuse_wrong_kinds({"quantization_config": None}, "config.json")
    refuse_wrong_kinds({"quantization_config": {"quant_method": "gptq"}}, "config.json")
    with pytest.raises(InputError, match=r'x/config\.json: "quantization_config" is \'int8\''):
        refuse_wrong_kinds({"quantization_config": "int8"}, "x/config.json")
