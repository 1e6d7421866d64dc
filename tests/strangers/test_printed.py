"""Hostile texts in every place where strangers write, over every format."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import yaml

from tests.cli.conftest import checkpoint, devplan, here  # noqa: F401
from tests.strangers.hostile import HOSTILE, MOST, TOGETHER, assert_fit

FORMATS = ("text", "json", "sarif", "github", "junit")
CARDS = ("--gpus", "1GiB,1GiB")


def said(answer, *, form: str = "text", most: int = MOST) -> str:
    """What a command said, looked at."""
    is_json = form in ("json", "sarif")
    assert_fit(answer.out, commands=form == "github", is_json=is_json, most=most)
    assert_fit(answer.err)
    assert "Traceback" not in answer.err
    assert answer.status in (0, 1, 2), answer
    if answer.status == 2:
        assert answer.err.startswith("devplan: ") and answer.err.count("\n") == 1, answer.err
    return answer.out


def parsed(text: str, form: str):
    if form in ("json", "sarif"):
        return json.loads(text)
    return ElementTree.fromstring(text) if form == "junit" else None


@pytest.mark.parametrize("form", FORMATS)
def test_names_and_devices_of_a_map(devplan, here, checkpoint, form):  # noqa: F811
    keys = [text for text in HOSTILE.values() if len(text) < 1_000]  # YAML has no longer ones
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    whole = [f"model.layers.{layer}.self_attn.{part}" for layer in range(6) for part in parts]
    whole += [f"model.layers.{layer}.mlp" for layer in range(6)]
    whole += [f"model.layers.{layer}.input_layernorm" for layer in range(6)]
    devices = dict(zip(whole, HOSTILE.values(), strict=False))
    assert len(devices) == len(HOSTILE)
    content = {"": 0, **dict.fromkeys(whole, 0), **dict.fromkeys(keys, 1), **devices}
    (here / "map.json").write_text(json.dumps(content))
    answer = devplan("check", "map.json", "--model", checkpoint, *CARDS, "--format", form)
    assert answer.status == 1, answer
    report = parsed(said(answer, form=form, most=10 * MOST), form)
    if form == "json":
        named = {(each["entry"] or {}).get("key") for each in report["maps"][0]["findings"]}
        assert named >= set(keys)


def test_the_file_and_the_model(devplan, here, checkpoint):  # noqa: F811
    (here / "map.json").write_text('{"": 0}')
    for hostile in TOGETHER:
        said(devplan("check", hostile, "--model", checkpoint, *CARDS))
        said(devplan("check", "map.json", "--model", hostile, *CARDS))
        content = yaml.safe_dump({"model": hostile, "device_map": {"": 0}})
        (here / "map.yaml").write_text(content.encode("utf-8", "backslashreplace").decode())
        said(devplan("check", "map.yaml", *CARDS))


@pytest.mark.parametrize(
    "arguments",
    [
        ("suggest", "{model}", "--gpus", "{hostile}"),
        ("suggest", "{model}", "--gpus", "1GiB", "--objective", "{hostile}"),
        ("suggest", "{model}", "--gpus", "1GiB", "--{hostile}"),
        ("suggest", "{model}", "--gpus", "1GiB", "--context", "{hostile}"),
        ("check", "none.yaml", "--ignore", "{hostile}"),
        ("check", "none.yaml", "--format", "{hostile}"),
        ("check", "none.yaml", "--generate", "{hostile}"),
        ("explain", "{hostile}"),
        ("models", "{hostile}"),
        ("doctor", "{hostile}"),
        ("lock", "{hostile}"),
        ("diff", "{hostile}", "auto"),
        ("graph", "{hostile}"),
        ("{hostile}",),
    ],
    ids=" ".join,
)
def test_what_was_typed(devplan, checkpoint, arguments):  # noqa: F811
    for hostile in TOGETHER:
        said(devplan(*(each.format(hostile=hostile, model=checkpoint) for each in arguments)))


def test_a_pinned_name(devplan, checkpoint):  # noqa: F811
    """The model is built for it, so that one text stands for all."""
    pin = HOSTILE["colour"] + HOSTILE["override"] + HOSTILE["command in a line"]
    answer = devplan("suggest", checkpoint, "--gpus", "1GiB", "--pin", f"{pin}=0")
    said(answer)
    assert answer.status == 2


@pytest.mark.parametrize("place", ["key", "gpus", "ignore", "main"])
def test_keys_and_values_of_settings(devplan, here, checkpoint, place):  # noqa: F811
    for hostile in TOGETHER:
        values = {"key": {hostile: 1}, "ignore": {"ignore": {hostile: "x"}}}
        content = values.get(place, {place: hostile})
        (here / "devplan.yaml").write_text(json.dumps(content))
        answer = devplan("suggest", checkpoint)
        said(answer)
        assert answer.status == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_pasted_text(devplan, here, form):  # noqa: F811
    for hostile in TOGETHER:
        text = (
            "Traceback (most recent call last):\n"
            f'  File "/x/{hostile}.py", line 3, in {hostile}\n    {hostile}\n'
            "RuntimeError: Invalid device string: '"
            f"{hostile}'\n\nValueError: {hostile}\n\n{hostile}Error: {hostile}\n"
        )
        (here / "log.txt").write_bytes(text.replace("\0", "").encode("utf-8", "surrogatepass"))
        json_option = ("--json",) if form == "json" else ()
        parsed(said(devplan("explain", "log.txt", *json_option), form=form), form)
