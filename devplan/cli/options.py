"""Every option of the command line, declared once; a command names those that it takes.

A declaration holds the names, the help, how a typed value is read and how a settings file sets it
(`devplan.cli.values`).  The key of a setting is the long name of its option.  Where a command
means an option differently, `Option.but` replaces the help or the default.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from devplan.cli import values
from devplan.cli.command import Argument, Option
from devplan.core import (
    LARGEST_BATCH,
    LARGEST_FRAMES,
    LARGEST_IMAGES,
    compute_dtype_name,
    full_dtype_name,
)

# ------------------------------------------------------------------------------------- the model

_MODEL = "The model: a catalogue name, a folder with config.json, a hub id, or "
_MODEL += "package.module:factory."

MODEL = Argument(
    "model",
    metavar="[MODEL]",
    required=False,
    setting=values.set_text,
    help=f"{_MODEL} Default: model in devplan.yaml.",
)
MAP_MODEL = Option(
    "--model",
    metavar="MODEL",
    setting=values.set_text,
    help=_MODEL,
    default_words="the map's model",
)
LOCAL_MODEL = Option(
    "--model",
    metavar="MODEL",
    help="The model to load: a folder, a hub id, ...",
    default_words="the map's model, if it can be read without the network",
)
REVISION = Option("--revision", metavar="NAME", help="A branch, tag or commit on the hub.")
TRUST_REMOTE_CODE = Option(
    "--trust-remote-code", is_flag=True, help="Allow code that comes with the model to run."
)

# ----------------------------------------------------------------------------------- the machine

LIST = "list"


def _or_list(context: click.Context, _: click.Parameter, given: str | tuple[str, ...]) -> object:
    """For the word ``list``, print the names of the GPUs and leave."""
    named = [given] if isinstance(given, str) else given or ()
    if any(each.strip().lower() == LIST for each in named):
        from devplan.cli.gpus import print_gpus

        print_gpus()
        context.exit()
    return given


_GPUS = "local indices (0,1), sizes (24GiB,12GiB), counts (2x24GiB), names "
_GPUS += "(2xa100-80gb,rtx-4090), a mix of these, or all"

GPUS = Option(
    "--gpus",
    metavar="GPUS",
    callback=_or_list,
    is_eager=True,
    setting=values.set_list,
    help=f"The GPUs: {_GPUS}. The first is the main device. Use list to print the names.",
)
MACHINES = Option(
    "machines",
    "--gpus",
    metavar="GPUS",
    multiple=True,
    callback=_or_list,
    is_eager=True,
    help=f"The GPUs of one machine: {_GPUS} (repeatable, one row for each machine).",
)
CARD = Option(
    "--card",
    metavar="GPU",
    multiple=True,
    callback=_or_list,
    is_eager=True,
    help="A kind of GPU (a100-80gb, 24GiB), to find how many are needed (repeatable).",
)
MEMORY = Option(
    "--memory",
    metavar="SIZES",
    setting=values.set_list,
    help="The memory of GPUs given by index, to plan for GPUs of another machine.",
)
MAIN = Option(
    "--main",
    metavar="DEVICE",
    setting=values.set_index_or_text,
    help="The main device, which receives the inputs, such as cuda:1.",
)
RESERVE = Option(
    "--reserve",
    metavar="SIZE",
    setting=values.set_list,
    help="Memory to keep free on each GPU: 1GiB, one size for each GPU, or 0=2GiB,1=1GiB.",
    default_words="1 GiB, at most an eighth of the GPU",
)
LINKS = Option(
    "--links",
    metavar="LINKS",
    setting=values.set_list,
    help="The links between GPUs: pcie4x16, pcie4x16-host, nvlink, 50GB/s or measured; for some "
    "pairs only: 0-1:nvlink,pcie3x8-host.",
    default_words="the links that GPUs of these names have",
)
OFFLOAD = Option(
    "--offload",
    metavar="TIER[=SIZE]",
    multiple=True,
    setting=values.set_texts,
    help="Offload tiers the map may use: cpu, cpu=64GiB or disk (repeatable).",
    default_words="none",
)

# ---------------------------------------------------------------------------------- the workload

BATCH = Option(
    "--batch",
    metavar="NUMBER",
    read=values.read_count("--batch", "sequences", 1, LARGEST_BATCH),
    setting=values.set_count,
    help="The number of sequences in a batch.",
    default_words="1",
)
CONTEXT = Option(
    "--context",
    metavar="TOKENS",
    read=values.read_context,
    setting=values.set_tokens,
    help="Tokens per sequence, prompt and new tokens together: 32768 or 32k (k is 1,024).",
    default_words="4096, or the model's own limit if that is less",
)
DTYPE = Option(
    "--dtype",
    metavar="DTYPE",
    read=values.read_dtype("--dtype", compute_dtype_name),
    setting=values.set_text,
    help="The compute dtype.",
    default_words="the dtype of the checkpoint",
)
KV_DTYPE = Option(
    "--kv-dtype",
    metavar="DTYPE",
    read=values.read_dtype("--kv-dtype", full_dtype_name),
    setting=values.set_text,
    help="The dtype of the KV cache.",
    default_words="the dtype that the model gives it",
)
IMAGES = Option(
    "--images",
    metavar="NUMBER",
    read=values.read_count("--images", "images", 0, LARGEST_IMAGES),
    setting=values.set_count_or_none,
    help="The number of images in a sequence; 0 for none.",
)
IMAGE_SIZE = Option(
    "--image-size",
    metavar="HxW",
    read=values.read_pixels,
    setting=values.set_text,
    help="The height and width of an image in pixels, such as 448x672. Pipelines generate images "
    "of this size.",
)
FRAMES = Option(
    "--frames",
    metavar="NUMBER",
    read=values.read_count("--frames", "frames", 1, LARGEST_FRAMES),
    setting=values.set_count,
    help="The number of frames in the video that a pipeline generates.",
)
TILING = Option(
    "--tiling",
    is_flag=True,
    setting=values.set_switch,
    help="Let a pipeline's autoencoder work in tiles (enable_tiling).",
)
QUANTIZE = Option(
    "--quantize",
    metavar="4bit|8bit|fp8|FILE.json",
    read=values.read_quantization,
    setting=values.set_text,
    help="Quantize the weights while they are loaded: 4bit or 8bit (bitsandbytes), fp8, or a "
    "quantization config of transformers in a JSON file.",
    default_words="load them as they are stored",
)
WORKLOAD = (BATCH, CONTEXT, DTYPE, KV_DTYPE, IMAGES, IMAGE_SIZE)
"""What every plan is made for."""

# -------------------------------------------------------------------------------------- the plan

OBJECTIVE = Option(
    "--objective",
    metavar="balance|context|fewest|latency",
    read=values.read_objective,
    setting=values.set_objective,
    help="The objective: the smallest share of the fullest GPU (balance), the most tokens "
    "(context), the fewest GPUs (fewest) or the shortest request (latency).",
    default="balance",
)
PIN = Option(
    "pins",
    "--pin",
    metavar="MODULE=DEVICE",
    multiple=True,
    read=values.read_pin,
    setting=values.set_pins,
    help="Place a module on a device (repeatable).",
)
NO_PIN = Option(
    "--no-pin",
    is_flag=True,
    setting=values.set_switch,
    help="Do not keep the embedding, the towers and the head on the main device.",
)
PACKED = Option(
    "--packed",
    is_flag=True,
    help="Count quantized weights at their stored size, even where transformers unpacks them.",
)
NO_VERIFY = Option(
    "--no-verify",
    is_flag=True,
    help="Skip the virtual run; the map says that it is unverified.",
)

# -------------------------------------------------------------------------------------- the runs

PLANNED_CALLS = Option(
    "run",
    "--run",
    metavar="auto|forward|all",
    default="auto",
    help="The calls to plan for: auto (the model's usual call, mostly generate), forward (one call "
    "with all positions) or all (both).",
)
CALLS = Option(
    "run",
    "--run",
    metavar="auto|all|generate|forward|WAYS|FILE.py:FUNCTION",
    default="auto",
    read=values.read_run,
    help="The calls to run: auto (the usual call, and where the model takes them, short calls with "
    "a padded batch, text alone, a video, beam search and labels), some of these "
    "(batch,text,video,beams,loss), generate, forward, all (auto and forward), or your own "
    "function of the model and its inputs.",
)
GENERATION = Option(
    "generation",
    "--generate",
    metavar="NAME=VALUE",
    multiple=True,
    read=values.read_generation,
    help="An argument of generate, such as num_beams=2 (repeatable).",
)
INPUTS = Option(
    "--inputs", metavar="FILE.py:FUNCTION", help="Your own function that makes the model's inputs."
)
FULL = Option("--full", is_flag=True, help="Run every layer, even where layers are alike.")
TIMEOUT = Option(
    "timeout_s",
    "--timeout",
    metavar="SECONDS",
    read=values.read_seconds,
    help="The time limit of the command; with several maps, of each map.",
)

# -------------------------------------------------------------------------------------- the maps

STRATEGY = Option(
    "--device-map",
    metavar="auto|balanced|balanced_low_0|sequential",
    read=values.read_strategy,
    help="A strategy of accelerate, which makes the map in place of a file.",
)
HERE = Option(
    "--here", is_flag=True, help="Compare with this machine too, as `devplan doctor` does."
)
FORCE = Option("--force", is_flag=True, help="Overwrite a map file with different contents.")


def from_map(option: Option) -> Option:
    """An option whose value comes from the map where it is not typed."""
    return option.but(default_words="the map's value")


FOR_MAP = (
    MAP_MODEL,
    *map(from_map, (GPUS, MEMORY, MAIN, BATCH, CONTEXT, IMAGES, IMAGE_SIZE, PACKED, QUANTIZE)),
)
"""What a map is for: model, machine and workload."""

# ---------------------------------------------------------------------------------- the findings

STRICT = Option("--strict", is_flag=True, help="Treat warnings as errors.")
REQUIRE_RUN = Option(
    "--require-run", is_flag=True, help="Fail if a requested call or step did not run."
)
IGNORE = Option(
    "ignores",
    "--ignore",
    metavar="CODE=REASON",
    multiple=True,
    setting=values.set_reasons,
    help="Accept the findings of a rule (repeatable).",
)
BASELINE = Option(
    "--baseline", metavar="FILE", help="Accept the findings that a baseline file lists."
)
WRITE_BASELINE = Option(
    "--write-baseline", is_flag=True, help="Write the findings to the --baseline file."
)

# ------------------------------------------------------------------------------------ the report

JSON = Option("--json", is_flag=True, help="Print the report as JSON.")
FORMAT = Option(
    "form",
    "--format",
    metavar="text|json",
    default="text",
    read=values.read_table_format,
    help="Report format.",
)
FINDINGS_FORMAT = Option(
    "form",
    "--format",
    metavar="text|json|sarif|github|junit",
    default="text",
    read=values.read_findings_format,
    help="Report format.",
)
REPORT = Option(
    "report",
    "-o",
    "--output",
    metavar="FILE",
    help="Write the report to a file; - for stdout.",
)
OUTPUT = Option(
    "output",
    "-o",
    "--output",
    metavar="FILE",
    setting=values.set_text,
    help="Write the map to a file; - for stdout.",
    default_words="maps/<model>__<machine>__<workload>.yaml",
)
EXPLAIN = Option("--explain", is_flag=True, help="Show the parts of each GPU's total.")


SETTINGS: Mapping[str, Option | Argument] = {
    max(option.opts, key=len).lstrip("-"): option
    for option in (
        *(MODEL, GPUS, MEMORY, MAIN, RESERVE, LINKS, *WORKLOAD, QUANTIZE, FRAMES, TILING),
        *(OBJECTIVE, PIN, NO_PIN, OFFLOAD, OUTPUT, IGNORE),
    )
}
"""What a settings file may set, by key."""
