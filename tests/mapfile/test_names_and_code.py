"""Default file names, and the Python that loads the model."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devplan.machine import machine_label
from devplan.mapfile import default_path, import_lines, load_code, load_line
from devplan.types import Workload
from tests.report.example_plans import MAP_FILE, MAP_PATH, machine


def named(on, *names):
    cards = zip(on.cards, names, strict=True)
    return replace(on, cards=tuple(replace(card, name=name) for card, name in cards))


def test_the_example_of_the_readme():
    path = default_path(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        machine_label(machine(24, 12)),
        Workload(context_tokens=32768),
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
    assert default_path(model_id, "24gib", Workload()).name.split("__")[0] == label


def test_dtypes_in_the_name():
    workload = Workload(batch=4, context_tokens=8, dtype="float16", kv_dtype="float8_e4m3fn")
    assert default_path("m", "g", workload).stem.endswith("b4-c8-float16-kv-float8_e4m3fn")


@given(st.text(), st.text())
def test_every_name_is_safe(model_id, label):
    path = default_path(model_id, label, Workload())
    assert path.parent.as_posix() == "maps"
    assert len(path.name.encode()) <= 255
    assert path.name == path.name.lower()
    assert not set(path.name) - set("abcdefghijklmnopqrstuvwxyz0123456789._+-")
    assert not path.name.startswith(".")


def test_long_names_stay_apart():
    first, second = (default_path("o/" + "x" * 300 + end, "g", Workload()) for end in "ab")
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
