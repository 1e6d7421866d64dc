"""Every form of one real traceback gives the same frames, message and place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.diagnosis import messages
from devplan.diagnosis.from_text import explain_text
from devplan.diagnosis.lines import source_line
from devplan.diagnosis.pasted import cleaning
from devplan.diagnosis.pasted.cleaning import cleaned_pieces
from devplan.diagnosis.pasted.reading import read_pasted
from devplan.diagnosis.sites import sites_of
from devplan.report.explanation import explained_text
from devplan.report.terminal import Terminal
from tests.diagnosis.forms import FORMS, python, rich_of_width, without_head
from tests.diagnosis.models import prompt, tiny_llama, without_norm

MESSAGE = (
    "Expected all tensors to be on the same device, but found at least two devices, cuda:1 and "
    "cuda:0!"
)
OF_A_WRAPPER = (
    f"{MESSAGE} (when checking argument for argument index in method wrapper_CUDA__index_select)"
)


@pytest.fixture(scope="module")
def error():
    """A real failure with the message that it has on two cards."""
    model = without_norm(tiny_llama())
    with pytest.raises(RuntimeError) as caught:
        model.generate(prompt(), max_new_tokens=2)
    traceback = caught.value.__traceback__
    last = [site for site in sites_of(caught.value) if not site.is_inside_op][-1]
    last.traceback.tb_next = None  # on cards the op is C++, and PyTorch's Python is not in it
    return RuntimeError(MESSAGE).with_traceback(traceback)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_frames(form, error):
    (stream,) = [s for s in read_pasted(FORMS[form](error)) if s.errors]
    (found,) = stream.errors
    expected = [(site.line.file, site.line.line, site.line.function) for site in sites_of(error)]
    frames = [(source_line(f).file, f.line, f.function) for f in found.frames]
    assert frames[1:] == expected[1:]  # [0] the test itself lies elsewhere on Windows
    assert (found.type, " ".join(found.message.split())) == ("RuntimeError", MESSAGE)
    assert found.frames[-1].text == sites_of(error)[-1].line.text


def test_no_width_of_a_terminal_hides_a_frame(tmp_path):
    """A box that is too narrow ends its line within a path or at a blank, wherever that falls."""
    file = tmp_path / "modeling_wide.py"
    file.write_text("def in_forward():\n    raise RuntimeError('two devices')\n")
    names: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(RuntimeError) as caught:
        names["in_forward"]()
    for width in range(40, len(str(file)) + 40):
        (stream,) = read_pasted(rich_of_width(caught.value, width))
        (found,) = stream.errors
        assert (found.frames[-1].file, found.frames[-1].line) == (str(file), 2), width
        assert found.frames[-1].function == "in_forward", width


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_explained_alike(form, error):
    (report,) = explain_text(FORMS[form](error)).reports
    assert report.id == "two-devices"
    assert report.devices == ("cuda:1", "cuda:0")
    assert report.op == "aten.mul"
    assert report.source.file == "transformers/models/llama/modeling_llama.py"
    assert report.source.function == "forward"
    assert report.module_class == "LlamaRMSNorm"
    assert not [note for note in report.notes if "another release" in note]


def test_a_fragment_is_explained(error):
    (report,) = explain_text(without_head(error)).reports
    assert (report.id, report.module_class) == ("two-devices", "LlamaRMSNorm")


def test_a_message_alone_is_explained():
    (report,) = explain_text(OF_A_WRAPPER).reports
    assert (report.id, report.op, report.source) == ("two-devices", "aten.index_select", None)


def test_a_wrapped_message_is_explained():
    wrapped = MESSAGE.replace("but found", "\n   but found")
    (report,) = explain_text(f"RuntimeError: {wrapped}\n\nbye").reports
    assert report.id == "two-devices"


def test_ranks_that_say_the_same_are_one_report(error):
    lines = python(error).splitlines()
    mixed = [f"[rank{rank}]: {line}" for line in lines for rank in (0, 1, 2)]
    (report,) = explain_text("\n".join(mixed)).reports
    assert report.ranks == ("rank0", "rank1", "rank2")


def test_a_chain_is_explained_by_what_went_wrong_first(error):
    try:
        try:
            raise error
        except RuntimeError as first:
            raise ValueError("the request failed") from first
    except ValueError as outer:
        text = python(outer)
    found = explain_text(text)
    assert [report.id for report in found.reports] == ["two-devices"]
    assert [each.type for each in found.unknown] == ["ValueError"]


def test_an_exception_group_is_read(error):
    text = python(error).replace("\n", "\n    | ")
    group = f"  + Exception Group Traceback (most recent call last):\n    | {text}\n    +----"
    (report,) = explain_text(group).reports
    assert (report.id, report.module_class) == ("two-devices", "LlamaRMSNorm")


def test_warnings_before_the_error_are_named(error):
    warned = "Some parameters are on the meta device because they were offloaded to the cpu."
    (report,) = explain_text(f"{warned}\n{python(error)}").reports
    assert "the text also holds: parameters-were-offloaded" in report.notes


def test_another_release_is_said(error):
    text = python(error).replace("self.weight * hidden", "self.scale * hidden")
    (report,) = explain_text(text).reports
    assert any("another release" in note for note in report.notes)


def test_two_failures_are_two_reports(error):
    other = "RuntimeError: Cannot copy out of meta tensor; no data!"
    found = explain_text(f"{python(error)}\n{other}\n")
    assert [report.id for report in found.reports] == ["two-devices", "meta-copied"]


@pytest.mark.parametrize("text", ["", "\n", "hello", "Traceback (most recent call last):", "\x1b["])
def test_what_is_no_error_gives_nothing(text):
    assert explain_text(text).reports == ()


def test_a_report_that_is_in_the_text_already_is_no_part_of_the_message():
    (report,) = explain_text(f"RuntimeError: {MESSAGE}\ndevplan: DP301 device mismatch\n").reports
    assert report.message == MESSAGE


def test_long_lines_are_cut():
    text = f"{'x' * 200_000}\n{' ' * 200_000}|\nRuntimeError: {MESSAGE}\n"
    (piece,) = cleaned_pieces(text)
    assert max(map(len, piece[""])) <= 4_000
    assert [report.id for report in explain_text(text).reports] == ["two-devices"]


HEAD_AND_FRAME = """\
Traceback (most recent call last):
  File "/x/site-packages/transformers/models/llama/modeling_llama.py", line 66, in forward
    return self.weight * hidden_states.to(input_dtype)
"""
HOSTILE = (
    "x",
    " ",
    "/ in ",
    "| ",
    "│ ",
    'File "',
    "Traceback (",
    "a.",
    "1:",
    "\x1b[",
    "[",
    "[](http",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_pattern_goes_astray_on_long_lines(piece):
    """Each of these took minutes with a pattern that tries every way to divide a line."""
    (report,) = explain_text(f"{piece * 20_000}\nRuntimeError: {MESSAGE}\n").reports
    assert report.id == "two-devices"


LONG = {
    "equal errors": HEAD_AND_FRAME + f"RuntimeError: {MESSAGE}\n",
    "one after another": "AError\n\n",
    "an arrow and blanks": f"File x.py:3, in f\n--> 1 x{' ' * 3_000}y\n",
    "open boxes": "╭────\n│ /x/y\n",
    "heads of frames in boxes that do not end": f"│/{'x' * 60}│\n",
    "frames without an error": HEAD_AND_FRAME,
    "chains": f"RuntimeError: {MESSAGE}\n\nDuring handling of the above exception, another "
    "exception occurred:\n\n",
    "progress": " 7%|##   | 7/100 [00:01<00:09]\r",
    "one line": "x" * 1_000,
    "a group and blanks": f"| {' ' * 490}\n",
    "a message without its end": "`size` ",
    "names without an end": f"{'x' * 290} is on the meta device ",
    "sizes without an end": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ",
    "prefixes": "> [rank1]: 2026-03-02 14:07:50 INFO ",
    "links": "[a](http",
    "quotes": 'File "',
}


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
def test_time_grows_with_the_text_and_no_faster(piece):
    """2 MB take a second or two; what is quadratic takes hours."""
    text = piece * (2_000_000 // len(piece))
    found = explain_text(f"{text}\n\nRuntimeError: Cannot copy out of meta tensor; no data!\n")
    assert "meta-copied" in [report.id for report in found.reports]


def test_what_is_said_again_is_told_once_with_its_number():
    found = explain_text(f"{HEAD_AND_FRAME}RuntimeError: {MESSAGE}\n" * 800)
    (report,) = found.reports
    assert report.count == 800
    assert "said 800 times" in explained_text(found, Terminal())


def test_of_many_different_errors_both_ends_are_told():
    said = [f"{HEAD_AND_FRAME}RuntimeError: {MESSAGE}\n".replace("66", str(n)) for n in range(500)]
    noise = [f"ValueError: {n}\n\n" for n in range(5_000)]
    found = explain_text("".join([*said[:250], "\n", *noise, *said[250:]]))
    lines = [report.source.line for report in found.reports]
    assert lines == [*range(10), *range(490, 500)]
    assert sum(error.count for error in found.unknown) == 20
    assert found.left_out == 480 + 4_980
    assert "5,460 more errors" in explained_text(found, Terminal())


def test_a_message_across_the_border_of_two_pieces_is_found(monkeypatch):
    monkeypatch.setattr(cleaning, "_PIECE", 1_000)
    monkeypatch.setattr(messages, "_SCANNED", 1_000)
    monkeypatch.setattr(messages, "_OVERLAP", 500)
    for before in range(900, 1_100, 7):
        text = "word " * (before // 5) + "\n" + MESSAGE.replace(" ", "\n") + "\nword" * 500
        (report,) = explain_text(text).reports
        assert report.devices == ("cuda:1", "cuda:0"), before


def test_bytes_are_read_as_text_is(error):
    text = "\ufeff" + python(error) + "\n\né\udcff"
    data = text.encode("utf-8", errors="surrogateescape")
    assert explain_text(data).reports == explain_text(python(error)).reports


@pytest.mark.parametrize(
    "text",
    [
        f'  File "/{"x" * 300}.py", line 3, in f\n    y\n',
        f'  File "/x/y.py", line {"9" * 400}, in f\n    y\n',
        f"  File x.py:3, in f\n--> {'9' * 3_000} x\n",
        f'  File "/x/y.py", line 3, in f\n    {"-" * 3_000}1\n',
        '  File "/x/y.py", line 3, in f\n    x = "\\d"[\x00]\n',
        f"CUDA out of memory. Tried to allocate {'9' * 400} bytes.\n",
        f"CUDA out of memory. Tried to allocate {'9' * 5_000}.0 GiB.\n",
    ],
)
def test_numbers_and_names_beyond_every_bound_are_read(text, recwarn):
    explained_text(explain_text(f"{text}RuntimeError: {MESSAGE}\n"), Terminal())
    assert not recwarn.list


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_can_be_read(text):
    read_pasted(text)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_traceback_that_was_cut_anywhere_can_be_read(data):
    lines = _LINES
    first = data.draw(st.integers(0, len(lines) - 1))
    kept = [line for line in lines[first:] if data.draw(st.integers(0, 9)) > 0]
    found = explain_text("\n".join([*kept, f"RuntimeError: {MESSAGE}"]))
    assert [report.id for report in found.reports] == ["two-devices"]


_LINES = [
    "Traceback (most recent call last):",
    '  File "/x/site-packages/transformers/models/llama/modeling_llama.py", line 66, in forward',
    "    return self.weight * hidden_states.to(input_dtype)",
    "           ~~~~~~~~~~~~^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
    '  File "/x/site-packages/accelerate/hooks.py", line 175, in new_forward',
    "    output = module._old_forward(*args, **kwargs)",
    "  [Previous line repeated 2 more times]",
    '  File "/x/site-packages/torch/nn/functional.py", line 2542, in embedding',
    "    return torch.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)",
]


SAME = "RuntimeError: Expected all tensors to be on the same device, but "
OF_INDEX = "(when checking argument for argument index in method wrapper_{}_index_select)"


@pytest.mark.parametrize(
    "said",
    [
        f"found at least two devices, cuda:0 and cpu! {OF_INDEX.format('CUDA_')}",
        f"found at least two devices, cuda:3 and cpu! {OF_INDEX.format('')}",
        "got index is on cpu, different from other tensors on cuda:1 (when checking argument in "
        "method wrapper_CUDA__index_select)",
    ],
)
def test_inputs_that_were_left_on_the_cpu_are_the_first_cause(said):
    (report,) = explain_text(SAME + said).reports
    assert report.causes[0].startswith("the inputs were not moved")
    assert report.fixes[0].command == "inputs = devplan.to_main(model, inputs)"


@pytest.mark.parametrize("devices", ["cpu and cuda:0", "cuda:1 and cuda:0"])
def test_a_table_that_lies_elsewhere_is_no_forgotten_input(devices):
    said = f"{SAME}found at least two devices, {devices}! {OF_INDEX.format('CUDA_')}"
    assert explain_text(said).reports[0].id == "two-devices"


@pytest.mark.parametrize(
    "said",
    [
        "found at least two devices, cuda:1 and cuda:0! (when checking argument for argument "
        "target in method wrapper_CUDA_nll_loss_forward)",
        "got target is on cuda:0, different from other tensors on cuda:1 (when checking argument "
        "in method wrapper_CUDA_nll_loss2d_forward)",
    ],
)
def test_labels_on_another_device_than_the_logits_are_named(said):
    (report,) = explain_text(SAME + said).reports
    assert "labels" in report.meaning and set(report.devices) == {"cuda:0", "cuda:1"}
    assert report.fixes[0].command == "labels = labels.to(logits.device)"
