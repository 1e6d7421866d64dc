"""``devplan graph``: blocks of a split model and the tensors that pass between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.cli.command import Argument, Option, Options, command
from devplan.cli.options import FOR_MAP, INPUTS, REPORT, STRATEGY, TIMEOUT, TRUST_REMOTE_CODE
from devplan.cli.precedence import (
    machine_for_map,
    main_device_for_map,
    model_for_map,
    quantize_for_map,
    refuse_without_map,
    run_options,
    workload_for_map,
)
from devplan.cli.printing import deliver, look_at_output, progress_on_stderr, say
from devplan.io import visible

if TYPE_CHECKING:
    import networkx

ON_STDOUT = "mmd"
"""Plain text that Markdown files of most forges show as a drawing."""

MAP = Argument("map", metavar="[MAP]", required=False, help="A map file, as for check.")
DRAWING = REPORT.but(
    help="Write a .dot, .json, .mmd or .svg file; .svg needs Graphviz.",
    default_words="Mermaid on stdout",
)
BLOCKS = Option(
    "--blocks", is_flag=True, help="Draw every block, not one node for the layers of a stage."
)


@command(*("graph", MAP, *FOR_MAP, INPUTS, STRATEGY, DRAWING, BLOCKS, TIMEOUT, TRUST_REMOTE_CODE))
def graph_command(options: Options) -> None:
    """Draw a split model: its blocks by device and the tensors between them.

    Tensors that cross from one device to another are red.

    \b
    devplan graph maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml -o graph.svg
    devplan graph hf_device_map.json --model Qwen/Qwen2.5-VL-7B-Instruct --blocks -o graph.json
    devplan graph --device-map auto --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    from devplan.io import is_stdout
    from devplan.sandbox import within
    from devplan.workflows import contract_layers, graph_text, known_graph_format

    output = options.report
    on_screen = output is None or is_stdout(output)
    form = ON_STDOUT if on_screen else known_graph_format(output)
    look_at_output(output)
    refuse_without_map(options, [options.map] if options.map else [])
    graph = within(options.timeout_s, lambda: _graph(options))
    text = graph_text(graph if options.blocks else contract_layers(graph), form)
    if deliver(lambda _: text, output):
        say(f"wrote {visible(output)}: {_counted(graph)}")


def _graph(options: Options) -> networkx.DiGraph:
    from devplan.checker import prepare
    from devplan.mapfile import read_device_map
    from devplan.workflows import module_graph

    with progress_on_stderr() as progress:
        progress(f"running {options.map or options.device_map}")
        given = read_device_map(options.map) if options.map else None
        prepared = prepare(
            model_for_map(options, given),
            given or options.device_map,
            machine=machine_for_map(options, given),
            main_device=main_device_for_map(options),
            workload=workload_for_map(options, given),
            packed=options.packed,
            quantize=quantize_for_map(options, given),
            trust_remote_code=options.trust_remote_code,
        )
        return module_graph(prepared, run_options(options))


def _counted(graph: networkx.DiGraph) -> str:
    """Blocks, devices and crossings of the whole graph, however it is drawn."""
    nodes = [node for _, node in graph.nodes(data=True) if node["kind"] in ("block", "tensor")]
    crossing = [edge for *_, edge in graph.edges(data=True) if edge["crosses"]]
    around = [each for each in graph.graph["other_transfers"] if each["asked_by"] == "hook"]
    copies = sum(edge["copies"] for edge in crossing) + sum(each["count"] for each in around)
    devices = {node["runs_on"] for node in nodes}
    return (
        f"{_number(len(nodes), 'block')} on {_number(len(devices), 'device')}, "
        f"{_number(len(crossing), 'crossing edge')}, "
        f"{_number(copies, 'copy', 'copies')} by hooks in a {graph.graph['of']}"
    )


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
