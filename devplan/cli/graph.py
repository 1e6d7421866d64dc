"""``devplan graph``: blocks of a split model and the tensors that pass between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.printing import say
from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
    DeviceMapStrategy,
    Images,
    ImageSize,
    Inputs,
    MainDevice,
    MapBatch,
    MapContext,
    MapGpus,
    MapMemory,
    MapModel,
    MapPacked,
    Timeout,
    TrustRemoteCode,
)
from devplan.io import visible

if TYPE_CHECKING:
    import networkx

    from devplan.cli.check_options import CheckTyped

ON_STDOUT = "mmd"
"""Plain text that Markdown files of most forges show as a drawing."""


def graph_command(
    map_file: Annotated[
        str | None,
        typer.Argument(metavar="[MAP]", help="A map file, as for check.", show_default=False),
    ] = None,
    model: MapModel = None,
    gpus: MapGpus = None,
    memory: MapMemory = None,
    main: MainDevice = None,
    batch: MapBatch = None,
    context: MapContext = None,
    images: Images = None,
    image_size: ImageSize = None,
    packed: MapPacked = False,
    inputs: Inputs = None,
    device_map: DeviceMapStrategy = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write .dot, .json, .mmd or .svg (needs Graphviz). Default: Mermaid on stdout.",
        ),
    ] = None,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Draw every block; else layers of a stage are one.")
    ] = False,
    timeout_s: Timeout = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Draw a split model: its blocks by device, the tensors between them, what crosses in red.

    \b
    devplan graph maps/qwen2.5-vl-7b__24+12gib.yaml -o graph.svg
    devplan graph hf_device_map.json --model Qwen/Qwen2.5-VL-7B-Instruct --blocks -o graph.json
    devplan graph --device-map auto --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    from devplan.cli.check_options import CheckTyped
    from devplan.cli.delivery import deliver, look_at_output
    from devplan.io import is_stdout
    from devplan.workflows import contract_layers, graph_text, known_graph_format

    on_screen = output is None or is_stdout(output)
    form = ON_STDOUT if on_screen else known_graph_format(output)
    look_at_output(output)
    typed = CheckTyped(
        maps=(map_file,) if map_file else (),
        model=model,
        gpus=gpus,
        memory=memory,
        main=main,
        batch=batch,
        context=context,
        images=images,
        image_size=image_size,
        packed=packed,
        inputs=inputs,
        device_map=device_map,
        timeout_s=timeout_s,
        trust_remote_code=trust_remote_code,
    )
    from devplan.sandbox import within

    graph = within(timeout_s, lambda: _graph(map_file, typed))
    text = graph_text(graph if blocks else contract_layers(graph), form)
    if deliver(lambda _: text, output):
        say(f"wrote {visible(output)}: {_counted(graph)}")


def _graph(path: str | None, typed: CheckTyped) -> networkx.DiGraph:
    from devplan.checker import RunOptions, prepare
    from devplan.cli.check_options import (
        machine_of,
        main_device_of,
        model_of,
        read_check_options,
        workload_of,
    )
    from devplan.cli.settings import load_settings
    from devplan.mapfile import read_device_map
    from devplan.workflows import module_graph

    settings = load_settings(Path.cwd())
    asked = read_check_options(typed, settings)
    with progress_on_stderr() as progress:
        progress(f"running {path or typed.device_map}")
        given = read_device_map(path) if path else None
        prepared = prepare(
            model_of(typed, given, settings),
            given or typed.device_map,
            machine=machine_of(typed, given, settings),
            main_device=main_device_of(typed),
            workload=workload_of(typed, given, settings),
            packed=asked.packed,
            trust_remote_code=asked.trust_remote_code,
        )
        options = RunOptions(
            images=asked.images,
            image_size=asked.image_size,
            inputs=asked.inputs,
            timeout_s=asked.timeout_s,
        )
        return module_graph(prepared, options)


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
