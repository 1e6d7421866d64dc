"""Private names of other libraries: listed, in listed files only, and in the installed releases."""

from __future__ import annotations

import importlib
from importlib import resources

import pytest

from devplan.environment import private_names
from devplan.environment.private_names import PrivateName, has_name, missing_notes
from tools.private_names import TABLE, renewed, rows, touched

LISTED = private_names.private_names()


def test_every_private_name_is_listed_with_its_files():
    unlisted = {name: sorted(places) for name, places in touched().items()}
    unlisted = {name: unlisted[name] for name in unlisted.keys() - {row["name"] for row in rows()}}
    assert not unlisted, "list it in devplan/environment/private_names.json, with its owner"
    assert TABLE.read_text(encoding="utf-8") == renewed(), "run `python -m tools.private_names`"
    assert all(each.files for each in LISTED), "nothing touches it: take it off the list"


def test_accelerates_hooks_are_read_in_one_file():
    of_hooks = {each.files for each in LISTED if each.library == "accelerate"}
    assert of_hooks == {("virtual/hooks.py",)}


@pytest.mark.parametrize("each", LISTED, ids=lambda each: f"{each.owner}.{each.name}")
def test_the_installed_release_has_it(each):
    if each.is_required:
        assert has_name(_owner(each.owner), each.name)


def _owner(dotted: str) -> object:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AssertionError(dotted)


def test_a_missing_name_is_a_note(monkeypatch):
    import torch

    assert missing_notes() == ()
    gone = [
        PrivateName(owner="torch.nn.Module", name="_gone", files=()),
        PrivateName(owner="torch.nn.NoClass", name="_parameters", files=()),
        PrivateName(owner="torch.nn.Module", name="_old", files=(), until="torch 2"),
        PrivateName(owner="torch.not_imported", name="_gone", files=()),
    ]
    monkeypatch.setattr(private_names, "private_names", lambda: gone)
    (note,) = missing_notes()
    assert note == (
        f"this torch ({torch.__version__}) is not a release that devplan knows: it lacks "
        "torch.nn.Module._gone, torch.nn.NoClass._parameters; numbers may be wrong"
    )


def test_the_list_is_part_of_the_package():
    assert resources.files("devplan.environment").joinpath("private_names.json").is_file()
