"""A model beside a map, from real checkpoints' configurations; nothing of weights is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from devplan.core.findings import Severity
from devplan.environment.model_facts import class_facts, is_local, read_model_facts, with_sizes
from devplan.mapfile.read import read_map
from devplan.rules.environment import compare_model, differences
from tests.environment.machines import card, example_map, machine

CHECKS = Path(__file__).parents[1] / "checks"
LLAMA = CHECKS / "models" / "tiny_llama"
MAP = read_map(CHECKS / "maps" / "tiny_llama.yaml")
HERE = machine(card(0, 2), card(1, 1))


@pytest.fixture
def folder(tmp_path):
    """The checkpoint of the map, to be changed."""
    shutil.copytree(LLAMA, tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def weights(facts):
    return [(d.code, d.severity) for d in differences(MAP, HERE, facts)]


def test_the_model_of_the_map(folder):
    facts = read_model_facts(str(folder))
    assert weights(facts) == []
    assert facts.num_parameters == MAP.model.num_parameters
    assert {"", "model", "model.layers.0", "lm_head.weight"} <= facts.names


def test_another_number_of_layers_is_another_size(folder):
    change(folder, num_hidden_layers=4)
    found = weights(read_model_facts(str(folder)))
    assert found == [("DP509", Severity.ERROR), ("DP002", Severity.ERROR)]


def test_another_configuration_of_the_same_size_may_matter(folder):
    change(folder, rms_norm_eps=1e-3)
    assert weights(read_model_facts(str(folder))) == [("DP509", Severity.WARNING)]


def test_keys_that_saving_writes_do_not_matter(folder):
    change(folder, transformers_version="4.0.0", _name_or_path="x")
    assert weights(read_model_facts(str(folder))) == []


def test_another_class(folder):
    change(folder, architectures=["LlamaForSequenceClassification"])
    assert weights(read_model_facts(str(folder))) == [("DP509", Severity.ERROR)]


def test_a_class_that_the_installed_transformers_does_not_have(folder):
    change(folder, architectures=["LlamaOfTomorrow"])
    facts = read_model_facts(str(folder))
    assert facts.is_class_installed is False
    planned = replace(MAP, model=replace(MAP.model, class_name="LlamaOfTomorrow"))
    (only,) = compare_model(planned, facts, "")
    assert (only.code, only.severity) == ("DP501", Severity.ERROR)
    assert only.fix.text == 'pip install "transformers==5.23.0"'
    assert class_facts(planned).is_class_installed is False
    assert class_facts(MAP).is_class_installed is True


def test_own_code_that_may_not_run_is_no_missing_class(folder):
    change(
        folder,
        architectures=["LlamaOfTomorrow"],
        auto_map={"AutoModelForCausalLM": "modeling.LlamaOfTomorrow"},
    )
    facts = read_model_facts(str(folder))
    assert facts.is_class_installed is None
    assert weights(facts) == [("DP509", Severity.WARNING)]  # its configuration differs
    own = replace(MAP.model, class_name="LlamaOfTomorrow", auto_class="AutoModelForCausalLM")
    assert class_facts(replace(MAP, model=own)).is_class_installed is None


def test_sizes_are_looked_up_where_the_configuration_differs(folder):
    cheap = replace(read_model_facts(str(folder)), num_parameters=None, names=frozenset())
    assert with_sizes(MAP, cheap, folder) is cheap
    change(folder, num_hidden_layers=4)
    other = replace(cheap, config_hash="0")
    assert with_sizes(MAP, other, folder).num_parameters < MAP.model.num_parameters
    assert with_sizes(MAP, other, folder / "gone") is other


def test_the_catalogue_is_read_without_the_network():
    given = example_map()
    assert is_local(given.model.id)
    assert not is_local("org/model-of-tomorrow")
    assert not is_local("package.module:factory")
