"""Hostile texts in every place where strangers write, over every format."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import yaml

from tests.cli.conftest import checkpoint, devplan, here  # noqa: F401
from tests.strangers.hostile import HOSTILE, assert_fit

FORMATS = ("text", "json", "sarif", "github", "junit")
CARDS = ("--gpus", "1GiB,1GiB")


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request) -> str:
    return request.param


def said(answer, *, form: str = "text") -> str:
    """What a command said, looked at."""
    assert_fit(answer.out, commands=form == "github", is_json=form in ("json", "sarif"))
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
def test_names_and_devices_of_a_map(devplan, here, checkpoint, hostile, form):  # noqa: F811
    (here / "map.json").write_text(
        json.dumps({"": 0, hostile: 1, f"model.layers.1.{hostile}": 0, "lm_head": hostile})
    )
    answer = devplan("check", "map.json", "--model", checkpoint, *CARDS, "--format", form)
    report = parsed(said(answer, form=form), form)
    if form == "json" and answer.status < 2 and len(hostile) < 1_000:
        keys = {(each["entry"] or {}).get("key") for each in report["maps"][0]["findings"]}
        assert hostile in keys


def test_the_file_and_the_model(devplan, here, checkpoint, hostile):  # noqa: F811
    said(devplan("check", hostile, "--model", checkpoint, *CARDS))
    (here / "map.json").write_text('{"": 0}')
    said(devplan("check", "map.json", "--model", hostile, *CARDS))
    content = yaml.safe_dump({"model": hostile, "device_map": {"": 0}})
    (here / "map.yaml").write_text(content.encode("utf-8", "backslashreplace").decode())
    said(devplan("check", "map.yaml", *CARDS))


@pytest.mark.parametrize(
    "arguments",
    [
        ("suggest", "{model}", "--gpus", "{hostile}"),
        ("suggest", "{model}", "--gpus", "1GiB", "--pin", "{hostile}=0"),
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
def test_what_was_typed(devplan, checkpoint, hostile, arguments):  # noqa: F811
    said(devplan(*(each.format(hostile=hostile, model=checkpoint) for each in arguments)))


def test_keys_and_values_of_settings(devplan, here, checkpoint, hostile):  # noqa: F811
    for content in ({hostile: 1}, {"gpus": hostile}, {"ignore": {hostile: "x"}}, {"main": hostile}):
        (here / "devplan.yaml").write_text(json.dumps(content))
        said(devplan("suggest", checkpoint))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_pasted_text(devplan, here, hostile, form):  # noqa: F811
    text = (
        "Traceback (most recent call last):\n"
        f'  File "/x/{hostile}.py", line 3, in {hostile}\n    {hostile}\n'
        "RuntimeError: Invalid device string: '"
        f"{hostile}'\n\nValueError: {hostile}\n\n{hostile}Error: {hostile}\n"
    )
    (here / "log.txt").write_bytes(text.replace("\0", "").encode("utf-8", "surrogatepass"))
    json_option = ("--json",) if form == "json" else ()
    parsed(said(devplan("explain", "log.txt", *json_option), form=form), form)
