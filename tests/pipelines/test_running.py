"""The pipeline's own code, run virtually with the installed accelerate's hooks."""

from __future__ import annotations

import pytest
import torch

from devplan.inputs.example import example_inputs
from devplan.inputs.request import request_for
from devplan.models.blocks import partition
from devplan.virtual.calls import usual_call
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel, run_split
from tests.pipelines.tiny import NAMES, SIZES, tiny_pipeline

PHASES = {
    "flux": ("text_encoder", "text_encoder_2", "transformer", "vae"),
    "hunyuan": ("text_encoder", "text_encoder_2", "transformer", "vae"),
    "wan": ("text_encoder", "transformer", "transformer_2", "vae"),
    "wan-alone": ("text_encoder", "transformer", "vae"),
    "qwen-image": ("text_encoder", "transformer", "vae"),
}


def run_of(studied, device_map, main="cuda:0", fold=True):
    skeleton = studied.skeleton
    request = request_for(studied.workload, studied.workload.tokens)
    outputs = []
    record = run_split(
        SplitModel(
            model=skeleton.model,
            config=skeleton.config,
            sites=partition(skeleton.model, skeleton.no_split),
            device_map=device_map,
            main_device=main,
            cards=(VirtualCard(), VirtualCard()),
        ),
        example_inputs(skeleton.model, skeleton.config, request).kwargs,
        described="",
        call=usual_call(skeleton.model),
        fold=fold,
        on_output=outputs.append,
    )
    return record, outputs


@pytest.mark.parametrize("name", NAMES)
def test_every_component_runs_and_what_comes_out_is_what_the_real_pipeline_makes(studied, name):
    """Frames count: hooks that moved an autoencoder's lists would make a fourth of them."""
    size = SIZES[name]
    assert studied(name).profile.activations.raised == ""
    made = studied(name).profile.activations.made_shape
    assert made == (size.get("num_frames", 1), size["height"], size["width"])
    record, _ = run_of(studied(name), {"": "cuda:1", "vae": "cuda:0"})
    assert record.error is None and not record.mismatches
    assert record.phases == PHASES[name]
    peaks = {(item.phase, item.device) for item in record.activations}
    assert ("transformer", "cuda:1") in peaks and ("vae", "cuda:0") in peaks


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_calls_that_stand_for_others_change_nothing_but_the_time(studied, name):
    device_map = {"": "cuda:1", "vae": "cuda:0"}
    folded, _ = run_of(studied(name), device_map)
    full, _ = run_of(studied(name), device_map, fold=False)
    assert folded.num_ops < full.num_ops * 0.7
    assert _peaks(folded) == _peaks(full)
    assert folded.executed == full.executed


def _peaks(record):
    return {peak.device: (peak.peak_bytes, peak.phase) for peak in record.peaks}


def test_latents_that_are_made_elsewhere_than_decoded_are_found(studied):
    """The pipeline makes its latents where its first model lies; Flux does not move them."""
    assert studied("flux").skeleton.model.home == "vae"
    decoder = {"": "cuda:0", "vae.decoder.mid_block": "cuda:1"}
    record, _ = run_of(studied("flux"), decoder)
    assert record.error is None
    assert {event.target_device for event in record.transfers if event.phase == "vae"} >= {"cuda:1"}


def test_tiles_need_less_than_the_whole_picture(studied):
    from dataclasses import replace

    from devplan.profile.activations import measure_activations

    known = studied("flux")
    large = replace(known.workload, image_size=(128, 128))
    vae = known.skeleton.model.vae
    sites = known.profile.sites
    whole = measure_activations(known.skeleton, sites, large)
    tiles = measure_activations(known.skeleton, sites, replace(large, tiling=True))
    assert not vae.use_tiling, "the run gives the model back as it was"
    most = [
        max(g.bytes_at(32) for name, g in found.blocks.items() if name.startswith("vae."))
        for found in (whole, tiles)
    ]
    assert most[1] < most[0]


def test_a_prompt_is_as_long_as_the_pipeline_lets_it_be(studied):
    """Token ids are made up; their number is the pipeline's own."""
    assert studied("hunyuan").skeleton.max_tokens == 1000
    assert studied("wan").skeleton.max_tokens == 512


def test_modules_that_a_pipeline_keeps_in_float32_are_counted_so():
    from devplan.models.build import keep_in_float32

    model = tiny_pipeline("wan").transformer.to(torch.bfloat16)
    keep_in_float32(model)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes["blocks.0.scale_shift_table"] == torch.float32
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16


def test_the_graph_of_a_map_shows_what_passes_between_components(saved, tmp_path, capsys):
    import json

    from devplan.cli.app import main

    entries = tmp_path / "map.yaml"
    entries.write_text("transformer: 1\ntext_encoder: 0\ntext_encoder_2: 0\nvae: 0\n")
    drawn = tmp_path / "graph.json"
    options = ("--model", str(saved("flux")), "--gpus", "2x1GiB", "--context", "32")
    assert main(["graph", str(entries), *options, "--blocks", "-o", str(drawn)]) == 0
    said = capsys.readouterr().out
    # [21] seven arguments of the transformer in each of three steps
    assert "21 copies by hooks in a run of 3 denoising steps" in said
    graph = json.loads(drawn.read_text(encoding="utf-8"))
    crossing = {(each["source"], each["target"]) for each in graph["edges"] if each["crosses"]}
    assert ("text_encoder.final_layer_norm", "transformer.time_text_embed") in crossing
    assert any(s.startswith("transformer.") and t.startswith("vae.") for s, t in crossing)
