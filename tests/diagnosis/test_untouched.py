"""What diagnosis leaves alone: everything until something fails, and the exception itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
import traceback

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.diagnosis import from_exception
from devplan.diagnosis.from_exception import report_of
from devplan.diagnosis.watching import diagnose
from tests.diagnosis.models import prompt, tiny_llama, without_norm

MISMATCH = "indices should be either on cpu or on the same device as the indexed tensor (cuda:0)"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state_of(model) -> list:
    """Everything that could have been put on the modules of a model, by identity."""
    return [
        (
            *(id(module), type(module), set(vars(module))),
            *(type(module).forward, type(module).__call__),
            *(len(getattr(module, name)) for name in HOOKS),
        )
        for module in model.modules()
    ]


def modes() -> tuple[int, int]:
    from torch.utils._python_dispatch import _len_torch_dispatch_stack

    return torch._C._len_torch_function_stack(), _len_torch_dispatch_stack()


def test_nothing_is_added_while_all_is_well():
    model = tiny_llama()
    before, seen = state_of(model), []
    watch = model.model.norm.register_forward_hook(lambda *_: seen.append(modes()))
    with diagnose(model):
        model.generate(prompt(), max_new_tokens=2)
    watch.remove()
    assert state_of(model) == before
    assert set(seen) == {(0, 0)}


def test_nothing_is_imported_or_read_while_all_is_well(monkeypatch):
    monkeypatch.setattr(from_exception, "add_report", None)  # it would raise
    model = tiny_llama()
    with diagnose(model):
        model(input_ids=prompt())


KINDS = (RuntimeError, ValueError, KeyError, OSError, NotImplementedError, torch.OutOfMemoryError)
ARGUMENTS = st.lists(st.one_of(st.integers(), st.text(max_size=30), st.none()), max_size=3)


def passed_through(error: Exception, watched) -> Exception:
    def inner():
        raise error

    try:
        with watched:
            inner()
    except Exception as caught:
        return caught
    raise AssertionError("it was swallowed")


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(KINDS), arguments=ARGUMENTS, known=st.booleans())
def test_the_exception_keeps_type_arguments_and_traceback(kind, arguments, known):
    given_error = kind(*([MISMATCH] if known else arguments))
    args, text = given_error.args, str(given_error)
    caught = passed_through(given_error, diagnose(torch.nn.Linear(2, 2)))
    assert caught is given_error and type(caught) is kind
    assert (caught.args, str(caught)) == (args, text)
    assert (caught.__cause__, caught.__context__) == (None, None)
    names = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
    assert names == ["passed_through", "inner"]
    assert hasattr(caught, "__notes__") == known


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_other_exceptions_are_untouched(text):
    from devplan.diagnosis.messages import recognise

    if recognise(text) is not None:
        return
    caught = passed_through(RuntimeError(text), diagnose(torch.nn.Linear(2, 2)))
    assert vars(caught) == {}


def test_messages_about_maps_are_left_to_explain():
    error = ValueError("lm_head.weight doesn't have any device set.")
    assert vars(passed_through(error, diagnose(torch.nn.Linear(2, 2)))) == {}


def test_what_ends_the_program_passes():
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(kind) as caught, diagnose(torch.nn.Linear(2, 2)):
            raise kind(MISMATCH)
        assert vars(caught.value) == {}


@pytest.fixture
def broken():
    return without_norm(tiny_llama())


def told(error: BaseException) -> str:
    return report_of(error).module


PLACE = "model.layers.2.input_layernorm"


def test_nested_blocks_tell_once(broken):
    with pytest.raises(RuntimeError) as caught, diagnose(broken), diagnose(broken):
        broken(input_ids=prompt())
    assert len(caught.value.__notes__) == 1


def test_the_inner_one_of_a_chain_is_told(broken):
    with pytest.raises(ValueError) as caught, diagnose(broken):
        try:
            broken(input_ids=prompt())
        except RuntimeError as error:
            raise ValueError("the request failed") from error
    assert not hasattr(caught.value, "__notes__")
    assert len(caught.value.__cause__.__notes__) == 1
    assert told(caught.value) == PLACE


def test_what_was_hidden_on_purpose_stays_hidden(broken):
    with pytest.raises(ValueError) as caught, diagnose(broken):
        try:
            broken(input_ids=prompt())
        except RuntimeError:
            raise ValueError("no details") from None
    assert report_of(caught.value) is None


def test_a_member_of_a_group_is_told(broken):
    with pytest.raises(ExceptionGroup) as caught, diagnose(broken):
        try:
            broken(input_ids=prompt())
        except RuntimeError as error:
            raise ExceptionGroup("two requests", [ValueError("x"), error])  # noqa: B904
    assert told(caught.value) == PLACE


def test_decorated_function(broken):
    @diagnose(broken)
    def answer(ids):
        """Answers."""
        return broken(input_ids=ids)

    assert (answer.__name__, answer.__doc__) == ("answer", "Answers.")
    with pytest.raises(RuntimeError) as caught:
        answer(prompt())
    assert told(caught.value) == PLACE


def test_decorated_generator(broken):
    @diagnose(broken)
    def answers():
        got = yield "first"
        assert got == "more"
        yield broken(input_ids=prompt())

    assert inspect.isgeneratorfunction(answers)
    running = answers()
    assert next(running) == "first"
    with pytest.raises(RuntimeError) as caught:
        running.send("more")
    assert told(caught.value) == PLACE


def test_decorated_coroutine_and_async_generator(broken):
    @diagnose(broken)
    async def answer():
        await asyncio.sleep(0)
        return broken(input_ids=prompt())

    @diagnose(broken)
    async def answers():
        yield 1
        await asyncio.sleep(0)
        yield broken(input_ids=prompt())

    async def all_of():
        return [each async for each in answers()]

    assert inspect.iscoroutinefunction(answer) and inspect.isasyncgenfunction(answers)
    for run in (answer, all_of):
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(run())
        assert told(caught.value) == PLACE


def test_a_with_around_await(broken):
    async def main():
        with diagnose(broken):
            await asyncio.sleep(0)
            broken(input_ids=prompt())

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(main())
    assert told(caught.value) == PLACE


def test_a_future_of_another_thread(broken):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    with pool, pytest.raises(RuntimeError) as caught, diagnose(broken):
        pool.submit(broken, input_ids=prompt()).result()
    assert told(caught.value) == PLACE


def test_a_decorated_target_of_a_thread(broken):
    caught = []

    def work():
        try:
            diagnose(broken)(broken.generate)(prompt(), max_new_tokens=1)
        except RuntimeError as error:
            caught.append(told(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caught == [PLACE] * 3


def test_a_bug_of_ours_does_not_hide_theirs(broken, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(from_exception, "report_of_exception", fails)
    with pytest.raises(RuntimeError, match="expected device") as caught, diagnose(broken):
        broken(input_ids=prompt())
    assert caught.value.__notes__ == ["devplan could not explain this: ZeroDivisionError: ours"]
    assert caught.value.__context__ is None and report_of(caught.value) is None


def test_related_ends_where_exceptions_go_in_circles():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(from_exception.related(first)) == [first, second]
