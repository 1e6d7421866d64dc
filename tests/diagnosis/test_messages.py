"""Every message of the table, on a real text: said by the installed library, or recorded.

A recorded text is searched for in the installed library, so that it fails when the words change.
"""

from __future__ import annotations

import mmap
import string
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from devplan.core.units import GIB, MIB
from devplan.diagnosis.messages import messages, recognise
from devplan.rules.table import RULES
from tests.diagnosis import real_libraries, real_torch
from tests.diagnosis.real_libraries import said
from tests.virtual.rules_cases import CASES

TEXTS = Path(__file__).parent / "texts"
SITE = Path(torch.__file__).parents[1]
BY_ID = {message.id: message for message in messages()}
RECORDED = {path.stem for path in TEXTS.glob("*.txt")} & set(BY_ID)
SAID = {*real_torch.RAISED, *real_torch.ONLY_WITHOUT_CUDA, *real_libraries.RAISED}


def what_is_said(call) -> str:
    with pytest.raises(Exception) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("id", real_torch.RAISED)
def test_what_torch_says_is_recognised(id):
    assert recognise(what_is_said(real_torch.RAISED[id])).message.id == id


@pytest.mark.skipif(torch.version.cuda is not None, reason="this build knows CUDA")
def test_what_a_build_without_cuda_says_is_recognised():
    for id, call in real_torch.ONLY_WITHOUT_CUDA.items():
        assert recognise(what_is_said(call)).message.id == id


@pytest.mark.parametrize("id", real_libraries.RAISED)
def test_what_other_libraries_say_is_recognised(id, tmp_path):
    text = what_is_said(lambda: real_libraries.RAISED[id](str(tmp_path)))
    assert recognise(text).message.id == id


@pytest.mark.parametrize("id", sorted(RECORDED))
def test_a_recorded_text_is_recognised(id):
    assert recognise((TEXTS / f"{id}.txt").read_text(encoding="utf-8")).message.id == id


def test_every_message_is_said_or_recorded_and_nothing_else_is():
    assert set(BY_ID) == SAID | RECORDED
    assert len(BY_ID) >= 25


SOURCES = [(message.id, source) for message in messages() for source in message.sources]


@pytest.mark.parametrize("id, source", SOURCES, ids=[f"{i}-{s.library}" for i, s in SOURCES])
def test_the_words_stand_in_the_installed_library(id, source):
    path = SITE / (source.installed or source.file)
    if not path.exists():
        # [builds] CUDA's libraries come with a CUDA build, others where somebody installed them.
        absent = "cuda" in path.name or find_spec(source.library) is None
        assert absent, f"{source.library} is installed and has no {path}"
        pytest.skip(f"{source.library} has no {path.name} here")
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    assert any(holds(each, source.text) for each in files)


def holds(path: Path, text: str) -> bool:
    """Whether a file, of half a gigabyte perhaps, holds a text."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0


@pytest.mark.parametrize("id", BY_ID)
def test_an_entry_is_whole(id):
    message = BY_ID[id]
    texts = [message.meaning, *message.causes]
    texts += [text for fix in message.fixes for text in (fix.text, fix.command)]
    known = {"model", "map", "gpus", "batch", "context", "main", *message.pattern.groupindex}
    for text in texts:
        assert (isinstance(text, str) and not text.endswith(".")) or text == message.meaning
        places = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        assert places <= known, f"{id}: {places - known}"
    assert message.causes and message.fixes and message.sources
    assert message.rule is None or message.rule in RULES


def test_the_versions_are_those_that_were_read():
    """A newer library is read again when the pinned versions move on."""
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text()
    for library in ("torch", "transformers", "accelerate", "diffusers"):
        stated = {s.version for m in messages() for s in m.sources if s.library == library}
        assert len(stated) == 1
        line = next((x for x in pinned.splitlines() if x.startswith(f"{library}==")), None)
        assert line is None or line.partition("==")[2].partition("+")[0] in stated


def test_every_mismatch_that_the_check_can_report_is_in_the_table():
    """The rules of virtual execution say PyTorch's own words; all of them must be known here."""
    for case in CASES:
        for text, far in ((case.cpu, "cpu"), (case.gpu, "cuda:1")):
            if text is None:
                continue
            found = recognise(text.format(near="cuda:0", far=far))
            assert found is not None, text
            assert found.message.kind.value in ("mismatch", "meta"), text


def test_ordinary_errors_are_not_in_the_table():
    for text in (
        "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
        "list index out of range",
        "CUDA error: device-side assert triggered",
        "Input type (torch.cuda.FloatTensor) and weight type (torch.cuda.HalfTensor) "
        "should be the same",
        "expected scalar type Float but found Half",
        "",
    ):
        assert recognise(text) is None, text


def test_said_gives_the_words_of_a_log():
    import logging

    with pytest.raises(real_libraries.Said, match="spilled"), said("accelerate"):
        logging.getLogger("accelerate.x").warning("spilled")


NEW = (
    "CUDA out of memory. Tried to allocate 1.75 GiB. GPU 1 has a total capacity of 23.65 GiB of "
    "which 612.44 MiB is free. Including non-PyTorch memory, this process has 23.04 GiB memory in "
    "use. Of the allocated memory 22.31 GiB is allocated by PyTorch, and 287.12 MiB is reserved"
)
OLD = (
    "CUDA out of memory. Tried to allocate 1024.00 MiB (GPU 0; 8.00 GiB total capacity; 7.19 GiB "
    "already allocated; 0 bytes free; 7.68 GiB reserved in total by PyTorch)"
)


@pytest.mark.parametrize(
    "text, device, sizes",
    [
        (NEW, ("cuda:1",), (1.75 * GIB, 23.65 * GIB, 612.44 * MIB, 22.31 * GIB)),
        (OLD, ("cuda:0",), (1.0 * GIB, 8.0 * GIB, None, 7.19 * GIB)),
        ("CUDA out of memory. Tried to allocate 512 bytes.", (), (512, None, None, None)),
        (
            "HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
            "15.98 GiB of which 0 bytes is free.",
            ("cuda:0",),
            (2 * GIB, 15.98 * GIB, 0, None),
        ),
    ],
)
def test_sizes_of_lack_of_memory(text, device, sizes):
    found = recognise(text)
    assert found.devices == device
    read = tuple(found.size(name) for name in ("requested", "total", "free", "allocated"))
    assert read == tuple(None if size is None else int(size) for size in sizes)


def test_both_words_of_bitsandbytes_for_a_tensor_off_the_cards():
    where = "[(torch.Size([8, 1]), device(type='cpu')), (torch.Size([1]), device(type='cuda'))]"
    for words in (
        "All input tensors need to be on the same GPU, but found some tensors to not be on a GPU:",
        "Input tensors need to be on the same device, but found the following tensor and device "
        "combinations:",
    ):
        assert recognise(f"{words}\n {where}").message.id == "bitsandbytes-not-on-gpu"
