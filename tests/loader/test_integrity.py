"""A damaged checkpoint gets one line, before anything is loaded."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import devplan
from devplan.core.errors import InputError
from devplan.loader.integrity import refuse_pickled_code
from tests.loader.checkpoints import ALL_CPU, assert_same, outputs

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tied, tmp_path) -> Path:
    """A copy of the sharded checkpoint, to be spoilt."""
    return Path(shutil.copytree(tied.folder, tmp_path / "copy"))


@pytest.fixture
def refused(tied, folder, monkeypatch):
    """Load the spoilt copy; gives the one line, and makes sure that nothing was loaded."""

    def never(*_, **__):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", never)

    def load(**arguments) -> str:
        with pytest.raises(InputError) as error:
            devplan.load(folder, tied.map, devices=ALL_CPU, **arguments)
        line = str(error.value)
        assert "\n" not in line and "Traceback" not in line
        return line

    return load


def shards(folder: Path) -> list[Path]:
    found = sorted(folder.glob("model-*.safetensors"))
    assert len(found) > 3
    return found


def save_pickle(folder: Path, content) -> Path:
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    path = folder / "pytorch_model.bin"
    torch.save(content, path)
    return path


def test_a_missing_shard(folder, refused):
    gone = shards(folder)[1]
    gone.unlink()
    line = refused()
    assert gone.name in line and f"1 of the {len(shards(folder)) + 1} shards" in line


def test_an_index_that_names_files_that_never_were(folder, refused):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "model-00099-of-00099.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    assert "model-00099-of-00099.safetensors is missing" in refused()


def test_an_index_that_is_no_json(folder, refused):
    (folder / INDEX).write_text('{"weight_map": {')
    assert "broken JSON" in refused()


@pytest.mark.parametrize("kept", [0.5, 0.99], ids=["half", "all but a hundredth"])
def test_a_truncated_shard(folder, refused, kept):
    cut = shards(folder)[2]
    whole = cut.read_bytes()
    cut.write_bytes(whole[: int(len(whole) * kept)])
    line = refused()
    assert str(cut) in line and f"({cut.stat().st_size} bytes) is truncated" in line


def test_a_shard_that_is_a_web_page(folder, refused):
    shards(folder)[0].write_text("<html>not found</html>" * 100)
    assert "not a safetensors file" in refused()


def test_a_shard_of_another_dtype(folder, refused):
    odd = shards(folder)[1]
    save_file({name: t.to(torch.bfloat16) for name, t in load_file(odd).items()}, odd)
    line = refused()
    assert odd.name in line and "is in bfloat16" in line and "in float32" in line


def test_shards_of_two_dtypes_that_the_index_knows_of(tied, folder):
    """A tower in another dtype is no damage: the bytes are those that the index states."""
    odd = shards(folder)[1]
    save_file({n: t.to(torch.bfloat16) for n, t in load_file(odd).items()}, odd, {"format": "pt"})
    index = json.loads((folder / INDEX).read_text())
    tensors = [t for path in shards(folder) for t in load_file(path).values()]
    index["metadata"]["total_size"] = sum(t.numel() * t.element_size() for t in tensors)
    (folder / INDEX).write_text(json.dumps(index))
    devplan.load(folder, tied.map, devices=ALL_CPU)


def test_a_checkpoint_that_is_packed(folder, refused):
    for path in shards(folder):
        save_file({name: t.to(torch.int8) for name, t in load_file(path).items()}, path)
    index = json.loads((folder / INDEX).read_text())
    index["metadata"] = {}
    (folder / INDEX).write_text(json.dumps(index))
    line = refused()
    assert "stores most weights as I8" in line and "unquantized float32" in line


def test_a_shard_that_lacks_what_the_index_has_in_it(folder, refused):
    some = shards(folder)[1]
    content = load_file(some)
    gone = content.popitem()[0]
    save_file(content, some)
    line = refused()
    assert f"lacks 1 tensors that {INDEX} has in it, such as {gone}" in line


def test_no_weights_at_all(folder, refused):
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    assert "holds no weights that transformers would load" in refused()


def test_a_variant_that_is_not_there(folder, refused):
    assert "model.fp16.safetensors" in refused(variant="fp16")


def test_another_width_is_converted(tied, folder, caplog):
    """Floats of another width are no damage; the log says so."""
    for path in shards(folder):
        save_file(
            {n: t.to(torch.bfloat16) for n, t in load_file(path).items()}, path, {"format": "pt"}
        )
    with caplog.at_level("INFO", logger="devplan"):
        model = devplan.load(folder, tied.map, devices=ALL_CPU)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert any("stored in bfloat16 and converted to float32" in r.message for r in caplog.records)


# ----------------------------------------------------------------------------------- pickles


def test_a_pickle_of_tensors_is_loaded(tied, folder):
    save_pickle(folder, tied.whole().state_dict())
    model = devplan.load(folder, tied.map, devices=ALL_CPU)
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


class Harm:
    """Pickled, this asks for a file to be made when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code(folder, refused, tmp_path):
    mark = tmp_path / "it ran"
    path = save_pickle(folder, {"lm_head.weight": Harm(mark)})
    line = refused()
    assert str(path) in line and "would run code" in line and "weights_only" in line
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the pickle does no harm, so the test says nothing"


def test_an_old_pickle_that_would_run_code(folder, refused, tmp_path):
    """The format before zip files."""
    mark = tmp_path / "it ran"
    path = save_pickle(folder, {})
    path.write_bytes(pickle.dumps({"lm_head.weight": Harm(mark)}))
    assert not zipfile.is_zipfile(path)
    assert "would run code" in refused()
    assert not mark.exists()


def test_a_truncated_pickle(folder, refused):
    path = save_pickle(folder, {"lm_head.weight": torch.ones(100, 100)})
    path.write_bytes(path.read_bytes()[:1000])
    line = refused()
    assert f"{path} (1000 bytes)" in line and "truncated" in line


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickles_of_both_forms_are_opened_and_none_is_read_whole(tmp_path, monkeypatch, is_zip):
    """Only the younger form, a zip file, can be mapped; the older one must be read to be seen."""
    path, asked = tmp_path / "pytorch_model.bin", []
    content = {"lm_head.weight": torch.ones(10, 10)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    real = torch.load

    def load(*args, **kwargs):
        asked.append((kwargs["map_location"], kwargs["weights_only"], kwargs.get("mmap", False)))
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    refuse_pickled_code([path])
    assert asked == [("meta", True, is_zip)]


def test_a_pickle_is_not_taken_where_safetensors_are(tied, folder, tmp_path):
    mark = tmp_path / "it ran"
    torch.save({"lm_head.weight": Harm(mark)}, folder / "pytorch_model.bin")
    devplan.load(folder, tied.map, devices=ALL_CPU)
    assert not mark.exists()
