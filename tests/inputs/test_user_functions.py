from __future__ import annotations

import pytest
import torch

from devplan.core.errors import InputError, UserCodeError
from devplan.inputs.user import user_inputs


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text("import torch\n" + text)
        return str(path)

    return write


def test_floats_become_abstract_and_integers_stay(written):
    path = written(
        "def make():\n"
        "    return {'input_ids': torch.tensor([[3, 4]]),\n"
        "            'pictures': [torch.ones(2, 3, dtype=torch.float16)]}\n"
    )
    kwargs = user_inputs(f"{path}:make", torch.nn.Linear(1, 1), None).kwargs
    assert kwargs["input_ids"].tolist() == [[3, 4]]
    picture = kwargs["pictures"][0]
    assert picture.device.type == "meta" and picture.dtype == torch.float16


def test_the_function_may_ask_for_model_and_configuration(written):
    path = written("def make(model, config):\n    return {'x': torch.tensor([config + 1])}\n")
    assert user_inputs(f"{path}:make", torch.nn.Linear(1, 1), 4).kwargs["x"].tolist() == [5]


def test_an_exception_keeps_its_own_traceback(written):
    path = written("def helper():\n    raise KeyError('wheels')\n\ndef make():\n    helper()\n")
    with pytest.raises(UserCodeError) as raised:
        user_inputs(f"{path}:make", torch.nn.Linear(1, 1), None)
    assert "KeyError" in str(raised.value) and "\n" not in str(raised.value)
    text = raised.value.traceback_text
    assert "in make" in text and "in helper" in text and "user.py" not in text


def test_an_exception_at_import_is_the_users_too(written):
    path = written("import a_package_that_is_not_there\n")
    with pytest.raises(UserCodeError, match="a_package_that_is_not_there"):
        user_inputs(f"{path}:make", torch.nn.Linear(1, 1), None)


@pytest.mark.parametrize(
    ("reference", "fact"),
    [
        ("mine.py", "file.py:function"),
        ("{}:1x", "file.py:function"),
        ("nowhere.py:make", "there is no file"),
        ("{}:mak", "did you mean make?"),
        ("{}:make", "gave int"),
    ],
)
def test_refusals_are_one_line(written, reference, fact):
    path = written("def make():\n    return 5\n")
    with pytest.raises(InputError) as raised:
        user_inputs(reference.format(path), torch.nn.Linear(1, 1), None)
    assert fact in str(raised.value) and "\n" not in str(raised.value)
