"""Numbers and names that no model, machine or map has: refused in one line, and at once."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

CARDS = ("--gpus", "1GiB,512MiB")
SECONDS = 10


@pytest.fixture
def at_once(refused):
    """As `refused`, and within the time that is promised."""

    def run(*arguments: object) -> str:
        began = time.monotonic()
        line = refused(*arguments)
        assert time.monotonic() - began < SECONDS
        return line

    return run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_hidden_layers": 2**31}, "num_hidden_layers is 2147483648, and devplan builds up to"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_attention_heads": 10**9}, "num_attention_heads is 1000000000"),
        ({"vocab_size": 10**30}, "vocab_size is a number of 31 digits"),
        ({"hidden_size": 10**60, "head_dim": 16}, "hidden_size is a number of 61 digits"),
        ({"hidden_size": 2**40, "head_dim": 16}, "parameters, and devplan plans up to"),
        ({"intermediate_size": [1, 2]}, "refuses the configuration"),
        ({"intermediate_size": {"a": {}}}, "refuses the configuration"),
        ({"head_dim": "x"}, "refuses the configuration"),
        ({"hidden_act": "no such"}, "cannot be built from the configuration (KeyError"),
        ({"model_type": ["llama"]}, "\"model_type\" is ['llama'] where text is needed"),
        ({"model_type": {"a": 1}}, '"model_type" is'),
        ({"model_type": 5}, '"model_type" is 5'),
        ({"architectures": {"a": "b" * 9000}}, '"architectures" is'),
        ({"quantization_config": "9" * 9000}, '"quantization_config" is'),
        ({"quantization_config": {"quant_method": "awq", "group_size": 0}}, "group_size of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_of_a_configuration(at_once, here, checkpoint, change, said):
    config = json.loads((checkpoint / "config.json").read_text())
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps({**config, **change}))
    assert said in at_once("suggest", "./model", *CARDS)


def test_special_floats_reach_the_class(devplan, here, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (here / "model").mkdir()
    text = json.dumps({**config, "rms_norm_eps": {"__float__": "Infinity"}})
    (here / "model" / "config.json").write_text(text)
    answer = devplan("suggest", "./model", *CARDS, "--no-verify", "-o", "-")
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a", "a.b"), "'a.b' and 'a'"),
        (("b.c", "b"), "'b.c' and 'b'"),
        (("_parameters",), "called '_parameters'"),
        (("forward.weight",), "called 'forward'"),
        (("x.training",), "called 'training'"),
        (("",), "a tensor ''"),
        ((".",), "a tensor '.'"),
        (("a..b",), "a tensor 'a..b'"),
        (("a.",), "a tensor 'a.'"),
        (("x" * 4000 + ".forward",), "called 'forward'"),
    ],
)
def test_names_of_tensors_that_no_module_can_have(at_once, here, names, said):
    unknown_model(here / "model", names)
    assert said in at_once("suggest", "./model", *CARDS)


def test_names_that_devplan_itself_could_have_taken(devplan, here):
    unknown_model(here / "model", ("embedding.weight", "head.weight", "layers.0.a.weight"))
    answer = devplan("suggest", "./model", *CARDS, "-o", "-")
    assert answer.status == 0, answer.err
    assert "head" in answer.out


def unknown_model(folder, names) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({name: np.zeros((4, 4), np.float32) for name in names}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"]}))


@pytest.mark.parametrize(
    "shard", ["x" * 5000 + ".safetensors", "y/" * 3000 + "z.safetensors", "a\0b"]
)
def test_names_of_shards_that_no_file_can_have(devplan, here, checkpoint, shard):
    shutil.copytree(checkpoint, here / "model")
    index = here / "model" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    first = next(iter(content["weight_map"]))
    content["weight_map"][first] = shard
    index.write_text(json.dumps(content))
    answer = devplan("suggest", "./model", *CARDS)
    assert answer.status == 2
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "device", ["cuda:20000000", "20000000", "128", "cuda:" + "9" * 5000, "9" * 90, "xpu:500"]
)
def test_devices_of_a_map_that_no_machine_has(devplan, here, checkpoint, device):
    (here / "m.yaml").write_text(f"model: {device}\n")
    began = time.monotonic()
    answer = devplan("check", "m.yaml", "--model", checkpoint)
    assert time.monotonic() - began < SECONDS
    assert answer.status in (1, 2)
    assert "internal error" not in answer.err


@pytest.mark.parametrize("main", ["20000000", "cuda:20000000", "9" * 5000, "-1"])
def test_main_devices_that_no_machine_has(at_once, here, checkpoint, main):
    (here / "m.yaml").write_text("model: 0\nlm_head: 0\n")
    at_once("check", "m.yaml", "--model", checkpoint, f"--main={main}")
    at_once("suggest", checkpoint, *CARDS, f"--main={main}")


@pytest.mark.parametrize(
    "option",
    [
        "--batch=1e9",
        f"--batch={10**9}",
        f"--context={10**30}",
        f"--context={'9' * 5000}",
        f"--gpus=99999999x{24}GiB",
        f"--gpus={'9' * 400}GiB",
        f"--gpus={'9' * 5000}",
        f"--reserve={'9' * 400}GiB",
        f"--images={10**9}",
        f"--images={'9' * 5000}",
        f"--image-size={10**9}x{10**9}",
        "--image-size=99999x99999",
        f"--frames={10**9}",
        f"--pin=model={'9' * 5000}",
        f"--offload=cpu={'9' * 400}GiB",
        f"--links=pcie{'9' * 5000}x16",
    ],
)
def test_numbers_of_options(at_once, checkpoint, option):
    gpus = () if option.startswith("--gpus") else CARDS
    at_once("suggest", checkpoint, *gpus, option)


@pytest.mark.parametrize("option", ["-o", "--baseline", "--inputs", "--model", "MAP"])
@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000 + "y"], ids=["long", "deep"])
def test_names_of_files_that_no_file_can_have(at_once, here, checkpoint, option, name):
    (here / "m.yaml").write_text("'': 0\n")
    given = [name] if option == "MAP" else ["m.yaml", option, name]
    if option == "--inputs":
        given[-1] += ".py:f"
    if option != "--model":
        given += ["--model", checkpoint]
    began = time.monotonic()
    at_once("check", *given)
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "0", "1e400", "1e300", "x"])
def test_times_that_are_none(at_once, here, checkpoint, seconds):
    (here / "m.yaml").write_text("'': 0\n")
    assert "--timeout" in at_once("check", "m.yaml", "--model", checkpoint, f"--timeout={seconds}")


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", 2**20),
        ("--batch", 2**20, "--context", 2**30),
        ("--batch", 100_000, "--context", 4096),
    ],
)
def test_inputs_that_would_fill_the_memory_are_not_made(devplan, here, checkpoint, options):
    (here / "m.yaml").write_text("'': 0\n")
    began = time.monotonic()
    answer = devplan("check", "m.yaml", "--model", checkpoint, *options, "--gpus", "1GiB")
    assert time.monotonic() - began < 3 * SECONDS
    assert answer.status in (0, 1), answer.err


def never_ending(path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


@pytest.mark.parametrize("make", [os.mkfifo, never_ending, sparse])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_files_of_a_tokenizer_that_have_no_end(devplan, here, checkpoint, make, name):
    shutil.copytree(checkpoint, here / "model")
    (here / "model" / "preprocessor_config.json").write_text("{}")
    make(here / "model" / name)
    (here / "m.yaml").write_text("'': 0\n")
    began = time.monotonic()
    answer = devplan("check", "m.yaml", "--model", "./model")
    assert time.monotonic() - began < 3 * SECONDS
    assert answer.status == 0, answer.err


def test_a_library_that_panics_is_one_line():
    from devplan.core.errors import InputError
    from devplan.models.boundary import of_the_library

    panic = type("PanicException", (BaseException,), {})
    refused = pytest.raises(InputError, match=r"cannot be read .PanicException: no.")
    with refused, of_the_library("x cannot be read"):
        raise panic("no")
    with pytest.raises(KeyboardInterrupt), of_the_library("x cannot be read"):
        raise KeyboardInterrupt
