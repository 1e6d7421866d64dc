"""The module graph: which blocks feed which, what crosses, and the files that it is written to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.checker.preparation import prepare
from devplan.checker.run_options import RunOptions
from devplan.checker.running import run_prepared
from devplan.cli.app import main
from devplan.core.errors import InputError
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.workflows.graph_build import module_graph
from devplan.workflows.graph_writing import contract_layers, graph_text, known_graph_format

MODELS = Path(__file__).parent / "checks" / "models"
FEW = Workload(batch=1, context=128)
LLAMA = {
    "model.embed_tokens": 0,
    "model.rotary_emb": 0,
    **{f"model.layers.{layer}": layer // 3 for layer in range(6)},
    "model.norm": 0,
    "lm_head": 0,
}
QWEN = {"model.visual": 0, "model.language_model": 1, "lm_head": 1}


def prepared(model: str, device_map: dict):
    return prepare(str(MODELS / model), device_map, workload=FEW)


def graph_of(model: str, device_map: dict) -> networkx.DiGraph:
    return module_graph(prepared(model, device_map))


def crossing(graph: networkx.DiGraph) -> dict[tuple[str, str], int]:
    """Crossing edges and their copies."""
    return {(a, b): edge["copies"] for a, b, edge in graph.edges(data=True) if edge["crosses"]}


@pytest.fixture(scope="module")
def llama() -> networkx.DiGraph:
    return graph_of("tiny_llama", LLAMA)


def test_what_passes_between_blocks(llama):
    hidden = llama.edges["model.layers.0", "model.layers.1"]
    tokens = 128 - 3  # of the context, less what would be generated
    config = json.loads((MODELS / "tiny_llama" / "config.json").read_text())
    itemsize = {"float32": 4}.get(config.get("dtype") or config.get("torch_dtype"), 2)
    assert hidden["bytes"] == tokens * config["hidden_size"] * itemsize
    assert hidden["arguments"] == ["hidden_states"]
    assert llama.edges["model.rotary_emb", "model.layers.4"]["arguments"] == ["position_embeddings"]
    # The slice before the head is code between the blocks: the norm is still where it came from.
    assert llama.has_edge("model.norm", "lm_head")
    assert networkx.has_path(llama, "inputs", "outputs")
    assert all(node["ran"] for _, node in llama.nodes(data=True))


def test_what_crosses(llama):
    assert crossing(llama) == {
        ("model.layers.2", "model.layers.3"): 1,
        ("model.rotary_emb", "model.layers.3"): 2,
        ("model.rotary_emb", "model.layers.4"): 2,
        ("model.rotary_emb", "model.layers.5"): 2,
        ("model.layers.5", "model.norm"): 1,
        # Each layer is handed the positions too, and its hook copies them.
        **{("inputs", f"model.layers.{layer}"): 1 for layer in (3, 4, 5)},
    }
    assert llama.edges["inputs", "model.layers.3"]["arguments"] == ["position_ids"]


def test_outputs_are_brought_back():
    graph = graph_of("tiny_qwen2_5_vl", {"": 0, "lm_head": 1})
    assert crossing(graph) == {
        ("model.language_model.norm", "lm_head"): 1,
        ("lm_head", "outputs"): 1,
    }


def test_images_come_into_the_text_between_the_blocks():
    graph = graph_of("tiny_qwen2_5_vl", QWEN)
    first = "model.language_model.layers.0"
    sources = {"model.visual.merger", "model.language_model.embed_tokens"}
    assert sources <= set(graph.predecessors(first))
    assert ("model.visual.merger", first) in crossing(graph)
    # The model's own code moved the image's tokens, no hook did: no edge counts that copy.
    assert crossing(graph)["model.visual.merger", first] == 0
    moved = [t for t in graph.graph["other_transfers"] if t["asked_by"] == "to"]
    assert any("modeling_qwen2_5_vl.py:" in transfer["line"] for transfer in moved)


def test_encoder_feeds_every_layer_of_the_decoder():
    graph = graph_of("tiny_t5", {"shared": 0, "encoder": 0, "decoder": 1, "lm_head": 1})
    layers = [name for name in graph if name.startswith("decoder.block.")]
    assert len(layers) > 1
    for layer in layers:
        assert graph.edges["encoder.final_layer_norm", layer]["crosses"]


def test_offloaded_blocks_run_on_the_main_device():
    graph = graph_of("tiny_llama", {**LLAMA, "model.layers.1": "cpu"})
    node = graph.nodes["model.layers.1"]
    assert (node["device"], node["runs_on"]) == ("cpu", "cuda:0")
    assert not graph.edges["model.layers.0", "model.layers.1"]["crosses"]
    assert any(t["asked_by"] == "offload" for t in graph.graph["other_transfers"])
    assert "cpu, runs on cuda:0" in graph_text(graph, "mmd")


@settings(max_examples=8, deadline=None)
@given(devices=st.lists(st.integers(0, 2), min_size=10, max_size=10))
def test_copies_are_those_of_the_run(devices):
    """Every copy that a hook makes at a block is on one edge, and the outputs' on another."""
    subject = prepared("tiny_llama", dict(zip(LLAMA, devices, strict=True)))
    graph = module_graph(subject)
    record, _ = run_prepared(subject, RunOptions(run="forward"))
    at_blocks = sum(
        event.count
        for event in record.transfers
        if event.module in graph and event.asked_by == "hook"
    )
    back = sum(event.count for event in record.transfers if event.asked_by == "io")
    ends = [edge["copies"] for _, target, edge in graph.edges(data=True) if target == "outputs"]
    assert sum(ends) == back
    assert sum(crossing(graph).values()) - sum(ends) == at_blocks
    contracted = contract_layers(graph)
    assert sum(crossing(contracted).values()) == sum(crossing(graph).values())


def test_stages(llama):
    contracted = contract_layers(llama)
    stages = {
        name: node["blocks"] for name, node in contracted.nodes(data=True) if "blocks" in node
    }
    assert stages == {
        f"model.layers.{first}-{first + 2}": [f"model.layers.{first + n}" for n in range(3)]
        for first in (0, 3)
    }
    assert crossing(contracted)["model.rotary_emb", "model.layers.3-5"] == 6
    for key in ("bytes",):
        assert sum(node[key] for _, node in contracted.nodes(data=True)) == sum(
            node[key] for _, node in llama.nodes(data=True)
        )
    assert not list(networkx.selfloop_edges(contracted))


def test_the_model_is_left_without_hooks():
    subject = prepared("tiny_llama", LLAMA)
    model = subject.skeleton.model
    module_graph(subject)
    for site in (*partition(model, subject.skeleton.no_split),):
        assert not site.module._forward_pre_hooks
    assert not model._forward_pre_hooks and not model._forward_hooks


def test_a_map_that_cannot_be_applied_has_no_graph():
    with pytest.raises(
        InputError, match=r"no graph of .*accelerate refuses.* 1 tensors are in no entry.*lm_head"
    ):
        graph_of("tiny_llama", {name: device for name, device in LLAMA.items() if "lm" not in name})


# ------------------------------------------------------------------------------------- files


def test_json_is_node_link(llama):
    content = json.loads(graph_text(llama, "json"))
    read = networkx.node_link_graph(
        {**content, "links": content["edges"]}, directed=True, multigraph=False
    )
    assert dict(read.nodes(data=True)) == dict(llama.nodes(data=True))
    assert crossing(read) == crossing(llama)


def test_dot_names_everything_and_flags_what_crosses(llama):
    text = graph_text(llama, "dot")
    for name in llama:
        assert f'  "{name}" [label=' in text
    red = re.findall(r'"([^"]+)" -> "([^"]+)" \[.*color="#d62728"', text)
    assert set(red) == set(crossing(llama))
    fills = set(re.findall(r'fillcolor="(#\w+)"', text))
    assert len(fills) == 2


def test_mermaid_flags_the_edges_by_their_place(llama):
    text = graph_text(llama, "mmd")
    assert text.startswith("flowchart TD\n")
    nodes = dict(re.findall(r'^  (n\d+)\["([^<]+)<', text, re.MULTILINE))
    edges = re.findall(r"^  (n\d+) -->\|.*\| (n\d+)$", text, re.MULTILINE)
    places = re.search(r"linkStyle ([\d,]+) stroke:#d62728", text)[1].split(",")
    flagged = {tuple(nodes[end] for end in edges[int(place)]) for place in places}
    assert flagged == set(crossing(llama))


def test_names_are_quoted():
    graph = networkx.DiGraph(model='a "b" \\')
    facts = {"device": "cuda:0", "runs_on": "cuda:0", "bytes": 1, "ran": True, "kind": "block"}
    graph.add_node('x"y', class_name="C", **facts)
    assert '"x\\"y" [label="x\\"y\\nC, 1 B\\ncuda:0"' in graph_text(graph, "dot")
    assert graph_text(graph, "dot").startswith('digraph "a \\"b\\" \\\\" {')
    assert '["x#quot;y<br/>C, 1 B<br/>cuda:0"]' in graph_text(graph, "mmd")


def test_svg_without_graphviz_is_one_clear_line(llama, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        InputError, match=r"g\.svg needs Graphviz.*install graphviz.*\.dot or \.mmd"
    ):
        known_graph_format("g.svg")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not here")
def test_svg(llama):
    root = ElementTree.fromstring(graph_text(llama, "svg"))
    assert root.tag.endswith("svg")


@pytest.mark.parametrize("failing", ["exit 3", "exec 1>&-; echo no layout >&2; exit 1"])
def test_svg_that_graphviz_refuses(llama, monkeypatch, tmp_path, failing):
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{failing}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"drew no svg .*write \.dot or \.mmd"):
        graph_text(llama, "svg")


# ------------------------------------------------------------------------------- the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "map.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(*arguments: str) -> int:
    return main(["graph", "map.json", "--model", str(MODELS / "tiny_llama"), *arguments])


def test_command(here, capsys):
    assert draw() == 0
    assert capsys.readouterr().out.startswith("flowchart TD\n")
    assert draw("-o", "graph.dot") == 0
    copies = "11 copies by hooks in a forward"
    said = f"wrote graph.dot: 10 blocks on 2 devices, 8 crossing edges, {copies}\n"
    assert capsys.readouterr().out == said
    assert "model.layers.0-2" in (here / "graph.dot").read_text()
    assert draw("--blocks", "-o", "graph.json") == 0
    nodes = json.loads((here / "graph.json").read_text())["nodes"]
    assert [node["id"] for node in nodes] == ["inputs", *LLAMA, "outputs"]


def test_command_refuses_in_one_line(here, capsys):
    assert draw("-o", "graph.png") == 2
    assert capsys.readouterr().err == (
        "devplan: graph.png: a graph is written to .dot, .json, .mmd, .svg\n"
    )
    assert not (here / "graph.png").exists()


def test_command_on_what_accelerate_would_choose(here, capsys):
    llama = ("--model", str(MODELS / "tiny_llama"))
    auto = ("graph", "--device-map", "auto", *llama)
    assert main([*auto, "--gpus", "1GiB,1GiB", "--blocks", "-o", "auto.json"]) == 0
    nodes = json.loads((here / "auto.json").read_text())["nodes"]
    assert {node["runs_on"] for node in nodes} == {"cuda:0", "cuda:1"}
    capsys.readouterr()
    refused = {
        auto: "devplan: --device-map auto needs the GPUs; give --gpus 24GiB,12GiB\n",
        (*auto, "map.json"): "devplan: both map.json and --device-map auto were given; keep one\n",
        ("graph", *llama): "devplan: no map: name a file, such as maps/qwen.yaml, or give "
        "--device-map auto\n",
    }
    for arguments, line in refused.items():
        assert main([*arguments]) == 2
        assert capsys.readouterr().err == line
