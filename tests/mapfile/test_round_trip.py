"""What is written is read back equal, loads as plain YAML, and validates."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.devices import to_hf_device_map
from devplan.core.errors import InputError
from devplan.core.types import (
    Constraint,
    DeviceMemory,
    Machine,
    ModelIdentity,
    OffloadTier,
    Pin,
    Relaxation,
    SharedCopies,
    Verification,
)
from devplan.core.workload import Workload
from devplan.mapfile.document import (
    machine_document,
    model_document,
    to_document,
    workload_document,
)
from devplan.mapfile.header import card_table
from devplan.mapfile.read import loads_map
from devplan.mapfile.write import dump_map
from tests.report.example_plans import MAP_FILE, TIMED_FILE, offload_plan
from tools.map_file_pages import schema

# Names that YAML 1.1 takes for something else when they are not quoted.
PITFALLS = ("on", "off", "yes", "null", "~", "1.0", "0", "1e3", "0x10", "1_000", "12:30", "true")
PITFALL_NAMES = (*PITFALLS, "model.layers.0", "a-b", "=", "<<", "- x".replace(" ", ""), "größe")

module_names = st.one_of(
    st.sampled_from(PITFALL_NAMES),
    st.from_regex(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+){0,4}", fullmatch=True),
)
devices = st.sampled_from(["cuda:0", "cuda:1", "cuda:11", "cpu", "disk"])
# Line breaks of every kind and half a surrogate pair, as in the name of a folder that is not UTF-8.
texts = st.text(st.characters() | st.sampled_from("\n\r\t\x85\u2028\u2029\x00\x1b\udcff: #"))
WIDE_MACHINE = Machine(
    cards=tuple(
        replace(MAP_FILE.machine.cards[0], device=f"cuda:{index}", name="24GiB")
        for index in range(12)
    ),
    main_device="cuda:0",
    tiers=(
        OffloadTier(device="cpu", capacity_bytes=None),
        OffloadTier(device="disk", capacity_bytes=5),
    ),
)


VALIDATOR = jsonschema.Draft202012Validator(schema())


def validate(text: str) -> None:
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "map_file", [MAP_FILE, TIMED_FILE, offload_plan()[1]], ids=["plan", "timed", "offload"]
)
def test_examples(map_file):
    text = dump_map(map_file)
    assert loads_map(text, "example") == map_file
    assert dump_map(loads_map(text, "example")) == text
    validate(text)
    plain = yaml.safe_load(text)["device_map"]
    assert plain == to_hf_device_map(map_file.device_map)
    assert list(yaml.safe_load(text))[:2] == ["schema", "device_map"]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(module_names, devices, min_size=1, max_size=8))
def test_any_device_map(device_map):
    map_file = replace(MAP_FILE, device_map=device_map, machine=WIDE_MACHINE, loads=())
    text = dump_map(map_file)
    assert loads_map(text, "any") == map_file
    assert yaml.safe_load(text)["device_map"] == to_hf_device_map(device_map)
    validate(text)


@settings(max_examples=40, deadline=None)
@given(texts, texts, st.lists(texts, max_size=3))
def test_any_text(name, reason, notes):
    model = ModelIdentity(
        id=name,
        revision=reason,
        config_hash=name,
        class_name=name,
        dtype=name,
        quantization=reason,
        num_parameters=0,
    )
    map_file = replace(
        MAP_FILE,
        model=model,
        notes=tuple(notes),
        relaxed=(Relaxation(blocks=(), reason=reason),),
        versions={name: reason},
    )
    assert loads_map(dump_map(map_file).encode().decode(), "any") == map_file


def test_a_line_break_in_the_model_id_stays_inside_the_comment():
    model = replace(MAP_FILE.model, id="a\nschema: 7\x85b")
    text = dump_map(replace(MAP_FILE, model=model))
    assert loads_map(text, "x").model == model


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_any_certificate(bottleneck, lower_bound):
    certificate = replace(MAP_FILE.certificate, bottleneck=bottleneck, lower_bound=lower_bound)
    map_file = replace(MAP_FILE, certificate=certificate)
    assert loads_map(dump_map(map_file), "any") == map_file


def test_pins_keep_their_order_and_grouping_loses_nothing():
    pins = tuple(
        Pin(block=block, device=device, reason=reason)
        for block, device, reason in [
            ("a", "cuda:0", "user"),
            ("b", "cuda:0", "user"),
            ("c", "cuda:1", "user"),
            ("d", "cuda:0", "user"),
        ]
    )
    assert loads_map(dump_map(replace(MAP_FILE, pins=pins)), "x").pins == pins


def test_main_device_comes_first():
    device_map = {"a": "cuda:1", "b": "cuda:0", "c": "cuda:1"}
    map_file = replace(MAP_FILE, device_map=device_map)
    assert list(yaml.safe_load(dump_map(map_file))["device_map"].items()) == [
        ("b", 0),
        ("a", 1),
        ("c", 1),
    ]


def test_every_number_of_the_prediction_is_named():
    load = yaml.safe_load(dump_map(MAP_FILE))["prediction"]["cuda:0"]
    assert load["weights_bytes"] == MAP_FILE.loads[0].weight_bytes
    assert load["kv_cache_bytes"] == MAP_FILE.loads[0].cache_bytes
    assert load["headroom_bytes"] == MAP_FILE.loads[0].headroom_bytes
    assert all(name.endswith("_bytes") for name in load)


def test_header_is_comment_and_holds_the_python_line():
    header = dump_map(MAP_FILE, "maps/here.yaml").partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert 'yaml.safe_load(open("maps/here.yaml"))["device_map"]' in header
    assert "from transformers import Qwen2_5_VLForConditionalGeneration" in header
    assert "10.67" in header  # GiB of weights on cuda:0


SHARED = SharedCopies(source="cuda:0", target="cuda:1", num_copies=22, bytes_per_token=512)
WHOLE = Verification(
    status="clean",
    detail="ran",
    runs=("generate", "beam search"),
    not_covered="a forward",
    peak_bytes={"cuda:0": 7, "cuda:1": 8},
    phase_bytes={"encode": {"cuda:0": 5, "cuda:1": 0}, "decode": {"cuda:0": 6, "cuda:1": 8}},
)
PICTURES = Workload(
    context=32768,
    dtype="bfloat16",
    kv_dtype="float8_e4m3fn",
    images=3,
    image_size=(560, 448),
    frames=16,
    tiling=True,
)
LEARNT = Constraint(change="a on cuda:1", finding="aten.add.Tensor at a.py:7: apart")


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({"shared_copies": (SHARED,)}, {}),
        ({"constraints": (LEARNT, LEARNT)}, {}),
        ({"verification": WHOLE}, {"verification": {"runs", "not_covered", "phase_bytes"}}),
        (
            {"verification": replace(WHOLE, phase_bytes={})},
            {"verification": {"runs", "not_covered"}},
        ),
        (
            {"verification": replace(WHOLE, runs=(), phase_bytes={})},
            {"verification": {"not_covered"}},
        ),
        (
            {"workload": PICTURES},
            {"workload": {"images", "image_size", "frames", "tiling"}},
        ),
        (
            {"workload": replace(PICTURES, images=0, frames=None)},
            {"workload": {"images", "image_size", "tiling"}},
        ),
        (
            {"workload": replace(PICTURES, images=None, tiling=False)},
            {"workload": {"image_size", "frames"}},
        ),
        ({"model": {"components": ("unet", "vae")}}, {"model": {"components"}}),
        ({"model": {"repository": "a/b"}}, {"model": {"repository"}}),
        ({"model": {"packed": True, "auto_class": "AutoModel"}}, {"model": {"weights"}}),
        ({"offload_bytes": {"cpu": 5}, "machine": WIDE_MACHINE, "loads": ()}, {}),
    ],
)
def test_what_a_map_may_say_beside_the_usual_is_read_back_and_else_left_out(changed, keys):
    if "model" in changed:
        changed = {"model": replace(MAP_FILE.model, **changed["model"])}
    map_file = replace(MAP_FILE, **changed)
    text = dump_map(map_file)
    assert loads_map(text, "x") == map_file
    validate(text)
    document, usual = yaml.safe_load(text), yaml.safe_load(dump_map(MAP_FILE))
    assert set(document) == set(usual)
    for section in ("model", "workload", "verification"):
        assert set(document[section]) - set(usual[section]) == keys.get(section, set())


def test_what_is_not_known_is_no_zero():
    """Of a model that could not be run: no traffic, and loads without cache and activations."""
    uncounted = ("cache_bytes", "activation_bytes")
    for fields in (uncounted, uncounted[:1], uncounted[1:], ()):
        loads = tuple(
            replace(load, uncounted=fields, **dict.fromkeys(fields, 0)) for load in MAP_FILE.loads
        )
        map_file = replace(MAP_FILE, loads=loads, traffic=None, transfers=())
        document = yaml.safe_load(dump_map(map_file))
        assert loads_map(dump_map(map_file), "x") == map_file
        assert (document["transfers"], document["shared_copies"]) == (None, None)
        load = document["prediction"]["cuda:0"]
        assert (load["kv_cache_bytes"] is None) is ("cache_bytes" in fields)
        assert (load["activations_bytes"] is None) is ("activation_bytes" in fields)


NOTHING = DeviceMemory(
    device="cuda:0",
    weight_bytes=0,
    buffer_bytes=0,
    cache_bytes=0,
    onload_bytes=0,
    reserve_bytes=0,
    capacity_bytes=2**30,
)


@pytest.mark.parametrize(
    ("fields", "heads", "cells"),
    [
        ({}, "weights buffers KV cache", "0.00 0.00 0.00 0.00 1.00"),
        ({"weight_bytes": 1}, "weights buffers KV cache", "<0.01 0.00 0.00 0.00 1.00"),
        ({"cache_bytes": 2**29}, "weights buffers KV cache", "0.00 0.00 0.50 0.00 0.50"),
        ({"reserve_bytes": 2**28}, "weights buffers KV cache", "0.00 0.00 0.00 0.25 0.75"),
        (
            {"onload_bytes": 2**28},
            "weights buffers KV cache onload",
            "0.00 0.00 0.00 0.25 0.00 0.75",
        ),
        (
            {"activation_bytes": 2**28},
            "weights buffers KV cache activations",
            "0.00 0.00 0.00 0.25 0.00 0.75",
        ),
        (
            {"uncounted": ("cache_bytes", "activation_bytes")},
            "weights buffers KV cache activations",
            "0.00 0.00 ? ? 0.00 1.00",
        ),
    ],
)
def test_the_table_of_cards_shows_what_is_there_and_no_empty_columns(fields, heads, cells):
    card = replace(MAP_FILE.machine.cards[0], device="cuda:0", name="one\nGiB")
    machine = Machine(cards=(card,), main_device="cuda:0")
    one = replace(MAP_FILE, loads=(replace(NOTHING, **fields),), machine=machine)
    first, second = (line.split() for line in card_table(one).splitlines())
    assert first == f"GPU {heads} reserve headroom capacity name".split()
    assert second == f"cuda:0 {cells} 1.00 one\\nGiB".split()


def test_equal_cards_in_a_row_are_counted_in_the_header():
    given = MAP_FILE.machine.cards[0]
    cards = tuple(
        replace(given, device=f"cuda:{index}", name=name)
        for index, name in enumerate(("24GiB", "24GiB", "12GiB", "24GiB"))
    )
    machine = Machine(cards=cards, main_device="cuda:0")
    text = dump_map(replace(MAP_FILE, machine=machine))
    assert text.splitlines()[0].endswith(" on 2 x 24GiB + 12GiB + 24GiB,")


def test_device_map_is_early_in_the_file():
    lines = dump_map(MAP_FILE).splitlines()
    assert lines.index("device_map:") < 30


def test_published_files_are_fresh():
    from tools.map_file_pages import published_texts

    root = Path(__file__).parents[2]
    for path, text in published_texts().items():
        assert (root / path).read_text(encoding="utf-8") == text, f"{path} is stale; run make pages"


def test_schema_is_draft_2020_12():
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(schema())))


@pytest.mark.parametrize("map_file", [MAP_FILE, TIMED_FILE])
def test_sections_by_themselves_are_those_of_the_whole(map_file):
    whole = to_document(map_file)
    assert whole["model"] == model_document(map_file.model)
    assert whole["workload"] == workload_document(map_file.workload)
    assert whole["machine"] == machine_document(map_file.machine)
    assert whole["workload"] and whole["model"]["id"] and whole["machine"]["cards"]


@pytest.mark.parametrize("key", ["prefill_s", "decode_step_s", "request_s"])
@pytest.mark.parametrize(("factor", "is_refused"), [(1.001, True), (1 + 1e-9, False)])
def test_times_that_are_not_the_sums_of_their_parts_are_refused(key, factor, is_refused):
    text = dump_map(TIMED_FILE)
    section = text[text.index("\ntiming:") :]
    stated = re.search(rf"^  {key}: (\S+)$", section, re.MULTILINE)
    changed = section.replace(stated[0], f"  {key}: {float(stated[1]) * factor!r}", 1)
    text = text.replace(section, changed)
    if is_refused:
        words = rf"{key} is .*, but GPUs and transfers add up to {stated[1]}; correct one of them"
        with pytest.raises(InputError, match=words):
            loads_map(text, "map.yaml")
    else:
        assert loads_map(text, "map.yaml").timing == TIMED_FILE.timing


def test_a_number_that_is_none_is_refused_in_the_words_of_one():
    text = re.sub(
        r"^  bottleneck: .*$", "  bottleneck: .nan", dump_map(MAP_FILE), flags=re.MULTILINE
    )
    with pytest.raises(InputError, match=r"is the number '\.nan', expected a number$"):
        loads_map(text, "map.yaml")
