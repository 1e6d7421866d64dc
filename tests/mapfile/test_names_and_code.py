"""Default file names, and the Python that loads the model."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devplan.core.workload import Workload
from devplan.machine.label import machine_label
from devplan.mapfile import load_code
from devplan.mapfile.default_name import default_path
from devplan.mapfile.loading_code import import_lines, load_line
from devplan.mapfile.write import dump_map
from tests.report.example_plans import MAP_FILE, MAP_PATH, machine


def named(on, *names):
    cards = zip(on.cards, names, strict=True)
    return replace(on, cards=tuple(replace(card, name=name) for card, name in cards))


def test_the_example_of_the_readme():
    path = default_path(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        machine_label(machine(24, 12)),
        Workload(context=32768),
    )
    assert path.as_posix() == MAP_PATH


@pytest.mark.parametrize(
    ("model_id", "label"),
    [
        ("owner/Name", "name"),
        ("name", "name"),
        ("./my-checkpoint/", "my-checkpoint"),
        ("/data/models/Llama 3", "llama-3"),
        ("tencent/HunyuanVideo-1.5/transformer", "hunyuanvideo-1.5-transformer"),
        ("package.module:factory", "package.module-factory"),
        ("..", "unnamed"),
        ("owner/größe", "gr-e"),
    ],
)
def test_model_in_the_name(model_id, label):
    assert default_path(model_id, "24gib", Workload(context=4096)).name.split("__")[0] == label


def test_dtypes_in_the_name():
    workload = Workload(batch=4, context=8, dtype="float16", kv_dtype="float8_e4m3fn")
    assert default_path("m", "g", workload).stem.endswith("b4-c8-float16-kv-float8_e4m3fn")


@given(st.text(), st.text())
def test_every_name_is_safe(model_id, label):
    path = default_path(model_id, label, Workload(context=4096))
    assert path.parent.as_posix() == "maps"
    assert len(path.name.encode()) <= 255
    assert path.name == path.name.lower()
    assert not set(path.name) - set("abcdefghijklmnopqrstuvwxyz0123456789._+-")
    assert not path.name.startswith(".")


def test_long_names_stay_apart():
    first, second = (
        default_path("o/" + "x" * 300 + end, "g", Workload(context=4096)) for end in "ab"
    )
    assert first != second


# ---------------------------------------------------------------------------------------- code


def test_the_line():
    assert load_line(MAP_FILE, MAP_PATH) == (
        "model = Qwen2_5_VLForConditionalGeneration.from_pretrained("
        '"Qwen/Qwen2.5-VL-7B-Instruct", dtype="bfloat16", '
        f'device_map=yaml.safe_load(open("{MAP_PATH}"))["device_map"])'
    )


@pytest.mark.parametrize(
    ("version", "keyword"),
    [("4.45.0", "torch_dtype"), ("4.55.4", "torch_dtype"), ("4.56.0", "dtype"), ("5.0", "dtype")],
)
def test_keyword_of_the_dtype(version, keyword):
    map_file = replace(MAP_FILE, versions={"transformers": version})
    assert f', {keyword}="bfloat16"' in load_line(map_file, "m.yaml")


def test_a_stored_quantized_dtype_is_left_to_the_checkpoint():
    model = replace(MAP_FILE.model, dtype="float8_e4m3fn", quantization="fp8")
    assert 'dtype="auto"' in load_line(replace(MAP_FILE, model=model), "m.yaml")
    asked = replace(MAP_FILE, model=model, workload=Workload(dtype="float16"))
    assert 'dtype="float16"' in load_line(asked, "m.yaml")


def test_disk_needs_a_folder_and_cpu_does_not():
    disk = replace(MAP_FILE, device_map={"a": "disk"})
    assert 'offload_folder="offload"' in load_line(disk, "m.yaml")
    cpu = replace(MAP_FILE, device_map={"a": "cpu"})
    assert "offload_folder" not in load_line(cpu, "m.yaml")


def test_diffusers_takes_a_torch_dtype_and_a_subfolder():
    map_file = replace(
        MAP_FILE,
        versions={"diffusers": "0.42.1"},
        model=replace(MAP_FILE.model, id="owner/video/transformer", class_name="Video3DModel"),
    )
    line = load_line(map_file, "m.yaml")
    assert 'Video3DModel.from_pretrained("owner/video", subfolder="transformer"' in line
    assert "torch_dtype=torch.bfloat16" in line
    assert import_lines(map_file) == ["import torch, yaml", "from diffusers import Video3DModel"]


def test_a_factory_is_called():
    model = replace(MAP_FILE.model, id="package.module:make")
    lines = load_code(replace(MAP_FILE, model=model), "m.yaml")
    assert "from package.module import make" in lines
    assert "    make()," in lines


OPEN = 'device_map=yaml.safe_load(open("m.yaml"))["device_map"]'
QWEN, HUB = MAP_FILE.model.class_name, MAP_FILE.model.id
FACTORY = ["import yaml", "from accelerate import load_checkpoint_and_dispatch"]
DIFFUSERS = {"diffusers": "0.42.1"}


def call(imports, head, *arguments):
    return [*imports, f"model = {head}(", *(f"    {each}," for each in arguments), ")"]


@pytest.mark.parametrize(
    ("model", "versions", "code"),
    [
        (
            {"revision": "abc"},
            {},
            call(
                ["import yaml", f"from transformers import {QWEN}"],
                f"{QWEN}.from_pretrained",
                *(f'"{HUB}"', 'revision="abc"', 'dtype="bfloat16"', OPEN),
            ),
        ),
        # a part of a repository: where there is one, and no folder that looks like it
        (
            {"id": "a/b/c/d", "revision": "abc", "class_name": "Text"},
            {},
            call(
                ["import yaml", "from transformers import Text"],
                "Text.from_pretrained",
                *('"a/b"', 'subfolder="c/d"', 'revision="abc"', 'dtype="bfloat16"', OPEN),
            ),
        ),
        (
            {"id": "a/b/c", "class_name": "Text"},
            {},
            call(
                ["import yaml", "from transformers import Text"],
                "Text.from_pretrained",
                *('"a/b/c"', 'dtype="bfloat16"', OPEN),
            ),
        ),
        (
            {"id": "./a/b/c", "class_name": "Text", "dtype": "float8_e4m3fn"},
            DIFFUSERS,
            call(
                ["import yaml", "from diffusers import Text"],
                *("Text.from_pretrained", '"./a/b/c"', OPEN),
            ),
        ),
        # code that comes with the model
        (
            {"auto_class": "AutoModelForCausalLM", "class_name": "Own", "id": "a/b"},
            {"transformers": "4.55.0"},
            call(
                ["import yaml", "from transformers import AutoModelForCausalLM"],
                "AutoModelForCausalLM.from_pretrained",
                *('"a/b"', 'torch_dtype="bfloat16"', "trust_remote_code=True", OPEN),
            ),
        ),
        # names that Python cannot write
        (
            {"class_name": "class", "id": "a/b"},
            {},
            call(
                ["import yaml", "import transformers"],
                'getattr(transformers, "class").from_pretrained',
                *('"a/b"', 'dtype="bfloat16"', OPEN),
            ),
        ),
        (
            {"class_name": "3D", "id": "a/b"},
            DIFFUSERS,
            call(
                ["import torch, yaml", "import diffusers"],
                'getattr(diffusers, "3D").from_pretrained',
                *('"a/b"', "torch_dtype=torch.bfloat16", OPEN),
            ),
        ),
        # factories
        (
            {"id": "a.b:Model.make"},
            {"transformers": "4.45.0"},
            call(
                [*FACTORY, "from a.b import Model"],
                "load_checkpoint_and_dispatch",
                *("Model.make()", 'checkpoint="CHECKPOINT"', 'dtype="bfloat16"', OPEN),
            ),
        ),
        (
            {"id": "a:make", "dtype": "int8"},
            {},
            call(
                [*FACTORY, "from a import make"],
                "load_checkpoint_and_dispatch",
                *("make()", 'checkpoint="CHECKPOINT"', OPEN),
            ),
        ),
        # pipelines
        (
            {"components": ("unet",), "id": "a:make"},
            DIFFUSERS,
            ["import devplan", 'pipeline = devplan.load(map="m.yaml")'],
        ),
    ],
)
@pytest.mark.parametrize("path", ["m.yaml", PureWindowsPath("m.yaml")])
def test_the_code_of_every_kind_of_model(model, versions, code, path):
    map_file = replace(MAP_FILE, model=replace(MAP_FILE.model, **model), versions=versions)
    assert load_code(map_file, path) == code
    line = load_line(map_file, path)
    imports = import_lines(map_file)
    assert code[: len(imports)] == imports
    assert [line] == code[1:] or line.replace(" ", "") == "".join(code[len(imports) :]).replace(
        " ", ""
    ).replace(",)", ")")


def test_a_pipeline_decodes_in_tiles_where_the_workload_does():
    model = replace(MAP_FILE.model, components=("vae",))
    tiled = replace(MAP_FILE, model=model, workload=replace(MAP_FILE.workload, tiling=True))
    path = PureWindowsPath("maps\\m.yaml")
    lines = ['pipeline = devplan.load(map="maps/m.yaml")', "pipeline.vae.enable_tiling()"]
    assert load_code(tiled, path) == ["import devplan", *lines]
    assert load_line(tiled, path) == "; ".join(lines)
    assert import_lines(tiled) == ["import devplan"]


def test_the_heading_says_when_packed_weights_have_to_stay_so():
    packed = replace(MAP_FILE, model=replace(MAP_FILE.model, packed=True))
    for map_file, said in (
        (MAP_FILE, "# Load the model with it:\n"),
        (packed, "# Load the model with it, where its weights stay packed (DP514):\n"),
    ):
        assert said in dump_map(map_file)


@example("0:0", "")
@example("for:in", "")
@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
def test_whatever_the_names_it_is_python_in_one_line(model_id, path):
    map_file = replace(MAP_FILE, model=replace(MAP_FILE.model, id=model_id))
    for code in (load_line(map_file, path), "\n".join(load_code(map_file, path))):
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        opened = [call for call in calls if getattr(call.func, "id", "") == "open"]
        assert opened[0].args[0].value == path
    assert "\n" not in load_line(map_file, path)


def test_nothing_here_imports_torch():
    code = "import sys, devplan.mapfile, devplan.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
