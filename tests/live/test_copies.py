"""A copy that is handed out always equals a fresh one, whatever was written in between.

There is one device here: ``clone`` stands for the copy to another, the device is only a key.
"""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.runtime.copies import Copies

ONE, TWO = torch.device("cuda", 1), torch.device("cuda", 2)


def get(copies: Copies, tensor: torch.Tensor, device: torch.device = ONE):
    return copies.get(tensor, device, tensor.clone)


@pytest.fixture
def copies() -> Copies:
    return Copies()


def test_the_same_copy_for_the_same_tensor_and_device(copies):
    tensor = torch.arange(6.0)
    first, made = get(copies, tensor)
    again, made_again = get(copies, tensor)
    assert made and not made_again and again is first
    assert get(copies, tensor, TWO)[1] and len(copies) == 2
    assert get(copies, tensor.clone())[1]


WRITES = {
    "in place": lambda t: t.add_(1),
    "to an item": lambda t: t.__setitem__(0, 7.0),
    "through a view": lambda t: t.view(-1)[2:].mul_(3),
    "through a detached tensor": lambda t: t.detach().add_(1),
    "by copying": lambda t: t.copy_(torch.full_like(t, 5)),
    "as one of many": lambda t: torch._foreach_add_([t], 1),
    "by another's out": lambda t: torch.add(t, 1, out=t),
    "of its data": lambda t: setattr(t, "data", torch.full_like(t, 9)),
    "of its shape": lambda t: t.resize_(3, 2),
    "of its layout": lambda t: t.t_(),
    "of its storage": lambda t: t.set_(torch.full_like(t, 4)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("on_copy", [False, True], ids=["original", "copy"])
def test_written_to_and_copied_again(copies, write, on_copy):
    tensor = torch.arange(6.0).view(2, 3)
    copy, _ = get(copies, tensor)
    write(copy if on_copy else tensor)
    fresh, made = get(copies, tensor)
    assert made and fresh is not copy and torch.equal(fresh, tensor)
    assert get(copies, tensor)[0] is fresh


def test_the_base_of_a_view(copies):
    base = torch.arange(6.0)
    view = base[2:]
    get(copies, view)
    base[4] = -1
    copy, made = get(copies, view)
    assert made and copy[2] == -1


def test_a_tensor_that_carries_gradients_is_copied_each_time(copies):
    tensor = torch.arange(3.0, requires_grad=True)
    first, second = get(copies, tensor)[0], get(copies, tensor)[0]
    assert first is not second
    (first.sum() + (second * 2).sum()).backward()
    assert torch.equal(tensor.grad, torch.full((3,), 3.0))
    with torch.no_grad():
        assert get(copies, tensor)[0] is get(copies, tensor)[0]
    assert get(copies, tensor)[0].requires_grad


def test_a_mask_is_shared_where_gradients_flow_beside_it(copies):
    mask, weight = torch.arange(3.0), torch.ones(3, requires_grad=True)
    first, second = get(copies, mask)[0], get(copies, mask)[0]
    assert first is second
    ((weight * first).sum() + (weight * second).sum()).backward()
    assert torch.equal(weight.grad, 2 * mask)


def test_a_copy_that_was_asked_for_gradients_is_not_shared(copies):
    tensor = torch.arange(3.0)
    get(copies, tensor)[0].requires_grad_()
    assert not get(copies, tensor)[0].requires_grad


def test_tensors_whose_writes_are_not_counted(copies):
    with torch.inference_mode():
        tensor = torch.arange(3.0)
        assert get(copies, tensor)[1] and get(copies, tensor)[1]
        counted = torch.arange(3.0).clone()
    plain = torch.arange(3.0)
    with torch.inference_mode():
        assert get(copies, plain)[1] and get(copies, plain)[1]
    assert get(copies, counted)[1] and not len(copies)


def test_a_sparse_tensor(copies):
    tensor = torch.eye(3).to_sparse()
    assert get(copies, tensor)[1] and get(copies, tensor)[1] and not len(copies)


def test_under_vmap(copies):
    def row(item: torch.Tensor) -> torch.Tensor:
        first, second = get(copies, item)[0], get(copies, item)[0]
        return first + second

    assert torch.equal(torch.vmap(row)(torch.arange(6.0).view(2, 3)).sum(), torch.tensor(30.0))


def test_it_goes_with_its_tensor(copies):
    tensor = torch.arange(3.0)
    copy = weakref.ref(get(copies, tensor)[0])
    assert copy() is not None and len(copies) == 1
    del tensor
    gc.collect()
    assert copy() is None and len(copies) == 0


def test_cleared(copies):
    tensor = torch.arange(3.0)
    copy = weakref.ref(get(copies, tensor)[0])
    copies.clear()
    assert copy() is None and get(copies, tensor)[1]


def test_a_number_that_is_used_again(copies):
    """CPython gives the address of a freed object to the next of its size."""
    ids = set()
    for value in range(200):
        tensor = torch.full((4,), float(value))
        ids.add(id(tensor))
        assert torch.equal(get(copies, tensor)[0], tensor)
        del tensor
    assert len(ids) < 200


# ------------------------------------------------------------------------------------- sequences

ITEMS = st.integers(0, 3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["read", "read", "read", "write", "write copy", "view", "data", "new", "t"]
        ),
        ITEMS,
        st.sampled_from([ONE, TWO]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_sequence_of_reads_and_writes(steps):
    """Against the truth: a fresh copy at every read."""
    copies = Copies()
    tensors = [torch.arange(6.0).view(2, 3) + 10 * number for number in range(4)]
    served: dict[tuple[int, torch.device], torch.Tensor] = {}
    for number, (what, item, device, no_grad) in enumerate(steps):
        tensor = tensors[item]
        if what == "read":
            with torch.set_grad_enabled(not no_grad):
                copy, _ = get(copies, tensor, device)
            assert torch.equal(copy, tensor) and copy.stride() == tensor.clone().stride()
            served[item, device] = copy
        elif what == "write":
            (tensor.detach() if no_grad else tensor).add_(number + 1)
        elif what == "write copy" and (item, device) in served:
            served[item, device][:, 0].sub_(number + 1)
        elif what == "view":
            tensors[item] = tensor[:, :2] if tensor.shape[1] > 1 else tensor
        elif what == "data":
            tensor.data = torch.full_like(tensor, float(number))
        elif what == "new":
            tensors[item] = tensor.clone()
            del tensor
        elif what == "t":
            tensor.t_()
