"""The examples of the docs run, on tiny checkpoints with tokenizers and processors of their own."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from devplan.mapfile.read import read_map
from tests.loader import checkpoints
from tests.loader.checkpoints import ALL_CPU, CPU_AND_DISK
from tests.virtual import tiny

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "the", "cat", "sat", "user", "bot", "what", "is", "in"]
TEMPLATE = (
    "{% for message in messages %}user {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}bot"
)


def tokenizer(vocab_size: int, **special: int) -> PreTrainedTokenizerFast:
    """A word for every id of the vocabulary, so that whatever is generated can be read."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(WORDS)}
    words |= {f"w{number}": number for number in range(len(WORDS), vocab_size)}
    taken = set(special.values())
    words = {word: number for word, number in words.items() if number not in taken} | special
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(special),
    )


def example(name: str):
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


@pytest.fixture(scope="module")
def text(tied) -> checkpoints.Checkpoint:
    tokenizer(512).save_pretrained(tied.folder)
    return tied


@pytest.fixture(scope="module")
def llava(place) -> checkpoints.Checkpoint:
    """A LLaVA with its processor, and the map of it."""
    folder = place / "llava"
    tiny.real_model("llava").save_pretrained(folder, max_shard_size="60KB")
    size = {"height": 56, "width": 56}
    LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size),
        tokenizer(99, **{"<image>": 90}),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return checkpoints.Checkpoint(folder=folder, map=checkpoints.suggest(folder), inputs={})


@pytest.fixture
def picture(tmp_path) -> Path:
    """A real one, as a file."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "picture.png"
    image.radial_gradient("L").resize((80, 60)).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("stand_ins", [ALL_CPU, CPU_AND_DISK], ids=["cpu", "cpu and disk"])
def test_pipeline(text, stand_ins):
    given = example("pipeline")(text.map, text.folder, "the cat sat", devices=stand_ins)
    words = PreTrainedTokenizerFast.from_pretrained(text.folder)
    ids = words("the cat sat", return_tensors="pt")
    made = text.whole().generate(**ids, max_new_tokens=20, do_sample=False)
    new = words.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert given == "the cat sat" + new and len(new.split()) > 3


@pytest.mark.parametrize("stand_ins", [ALL_CPU, CPU_AND_DISK], ids=["cpu", "cpu and disk"])
def test_vision_language(llava, picture, stand_ins):
    main = example("vision_language")
    answer = main(llava.map, picture, llava.folder, devices=stand_ins)
    assert len(set(read_map(llava.map).device_map.values())) > 1
    assert answer == main(llava.map, picture, llava.folder, devices=ALL_CPU)
    assert answer.split()


@pytest.mark.parametrize("stand_ins", [ALL_CPU, CPU_AND_DISK], ids=["cpu", "cpu and disk"])
def test_evaluation(text, tmp_path, stand_ins):
    lines = ["the cat sat", "the cat is in the cat", "what is the cat", "sat", "the the cat cat"]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(lines))
    given = example("evaluation")(text.map, path, text.folder, devices=stand_ins)
    words, whole = PreTrainedTokenizerFast.from_pretrained(text.folder), text.whole()
    loss, num_tokens = 0.0, 0
    for line in lines:
        ids = words(line, return_tensors="pt")["input_ids"]
        if ids.shape[1] > 1:
            with torch.no_grad():
                loss += whole(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            num_tokens += ids.shape[1] - 1
    assert given == pytest.approx(torch.tensor(loss / num_tokens).exp().item(), rel=1e-4)


def test_every_example_is_tested():
    tested = {"pipeline", "vision_language", "evaluation"}
    assert {path.stem for path in FOLDER.glob("*.py")} == tested
