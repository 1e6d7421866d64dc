"""The order in which MODEL is read, and what it costs."""

from __future__ import annotations

import subprocess
import sys

from devplan.models.resolution import resolve

from .refusal import refusal


def test_a_catalogue_name(catalogue):
    source = resolve("acme/Tiny-Llama-7B")
    assert (source.origin, source.library) == ("catalogue", "transformers")
    assert (source.id, source.location) == ("acme/Tiny-Llama-7B", "acme/Tiny-Llama-7B")
    assert (source.class_name, source.dtype) == ("LlamaForCausalLM", "bfloat16")
    assert source.config == {"model_type": "llama", "hidden_size": 64}
    assert source.stored is None and source.revision is None and source.factory is None
    assert source.catalogue_model is catalogue.find_catalog_model("acme/Tiny-Llama-7B")
    assert len(source.config_hash) == 64


def test_a_component_of_the_catalogue():
    source = resolve("acme/Painter/transformer")
    assert source.library == "diffusers"
    assert (source.location, source.subfolder) == ("acme/Painter", "transformer")


def test_an_unknown_name_shows_the_nearest_and_the_other_forms():
    message = refusal("tiny-lama-7b")
    for fact in (
        "'tiny-lama-7b'",
        "no folder",
        "2 names of the catalogue",
        "org/name",
        "did you mean acme/Tiny-Llama-7B?",
    ):
        assert fact in message
    assert "did you mean" not in refusal("zzzzzzzzzzzzzzzz")
    assert "unknown model ''" in refusal("")


def test_what_no_hub_id_can_be():
    for text in ("acme/what is this", "acme/..", "/".join(["acme", "", "x"])):
        assert "no hub id" in refusal(text)


def test_two_revisions():
    message = refusal("acme/Other@v1", revision="v2")
    assert "'v2'" in message and "acme/Other@v1" in message


def test_a_catalogue_name_needs_no_heavy_import():
    """Asked in an interpreter of its own: the answer may not cost seconds."""
    code = """
import sys
sys.modules['devplan.catalog'] = catalog = type(sys)('devplan.catalog')
catalog.models = type(sys)('devplan.catalog.models')
sys.modules['devplan.catalog.models'] = catalog.models
class Entry:
    id, library, class_name, dtype = 'a/b', 'transformers', 'C', 'float16'
    config = components = {}
catalog.models.find_catalog_model = lambda name: Entry
import devplan.models
assert devplan.models.resolve('a/b').id == 'a/b'
heavy = {'torch', 'transformers', 'huggingface_hub', 'safetensors', 'numpy'}
print(sorted(heavy & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
