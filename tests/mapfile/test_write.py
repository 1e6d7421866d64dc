"""Files: whole or not at all, never over something else without being asked."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from devplan.core.errors import InputError
from devplan.io.writing import WriteOutcome
from devplan.mapfile.read import loads_map, read_map
from devplan.mapfile.write import dump_map, write_map
from tests.report.example_plans import MAP_FILE

OTHER = replace(MAP_FILE, notes=("another map",))


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        write_map(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_writes_with_missing_folders_and_reads_back(tmp_path):
    path = tmp_path / "new" / "folders" / "map.yaml"
    assert write_map(MAP_FILE, path) is WriteOutcome.WRITTEN
    assert read_map(path) == MAP_FILE
    assert os.listdir(path.parent) == ["map.yaml"]


def test_same_input_same_bytes_and_no_second_write(tmp_path):
    path = tmp_path / "map.yaml"
    write_map(MAP_FILE, path)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert write_map(MAP_FILE, path) is WriteOutcome.UNCHANGED
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_something_else_is_kept_unless_forced(tmp_path):
    path = tmp_path / "map.yaml"
    write_map(MAP_FILE, path)
    message = refusal(OTHER, path)
    assert "--force" in message
    assert str(path) in message
    assert read_map(path) == MAP_FILE
    assert write_map(OTHER, path, force=True) is WriteOutcome.REPLACED
    assert read_map(path) == OTHER


def test_a_folder_is_no_file(tmp_path):
    assert "it is a folder" in refusal(MAP_FILE, tmp_path, force=True)


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal(MAP_FILE, tmp_path / "file" / "map.yaml")
    assert message.startswith("cannot write ")
    assert "-o" in message


def test_a_device_is_no_file():
    assert "not a regular file" in refusal(MAP_FILE, "/dev/null", force=True)


def test_a_name_that_is_too_long(tmp_path):
    assert "cannot write" in refusal(MAP_FILE, tmp_path / ("x" * 300 + ".yaml"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("a reason of its own"), "a reason of its own"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_the_reason_is_named_in_one_line(tmp_path, monkeypatch, error, reason):
    def fail(*_):
        raise error

    monkeypatch.setattr("os.replace", fail)
    message = refusal(MAP_FILE, tmp_path / "map.yaml")
    assert message.startswith(f"cannot write {tmp_path / 'map.yaml'}: {reason}; ")
    assert os.listdir(tmp_path) == []


def test_a_path_with_a_null_byte_is_refused_with_a_reason():
    assert "null" in refusal(MAP_FILE, "a\0b/map.yaml").partition(": ")[2]


def test_lines_end_behind_the_hundredth_column():
    """Lists of names are broken behind the first name that reaches over it."""
    lengths = set()
    for length in (1, 2, 3):
        names = ("n" * length, *(f"{index}" for index in range(100, 180)))
        pin = MAP_FILE.pins[0]
        many = replace(MAP_FILE, pins=tuple(replace(pin, block=name) for name in names))
        lines = [line for line in dump_map(many).splitlines() if line.count(", ") > 8]
        lengths |= {len(line) for line in lines if line.endswith(",")}
    assert min(lengths) == 101


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in refusal(MAP_FILE, tmp_path / "map.yaml")


def test_nothing_is_left_when_the_move_fails(tmp_path, monkeypatch):
    path = tmp_path / "map.yaml"
    write_map(MAP_FILE, path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert "No space left on device" in refusal(OTHER, path, force=True)
    assert os.listdir(tmp_path) == ["map.yaml"]
    assert read_map(path) == MAP_FILE


def test_a_link_is_followed_and_the_mode_kept(tmp_path):
    real = tmp_path / "real.yaml"
    write_map(MAP_FILE, real)
    real.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    write_map(OTHER, link, force=True)
    assert link.is_symlink()
    assert read_map(real) == OTHER
    assert real.stat().st_mode & 0o777 == 0o640


def test_new_files_honour_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_map(MAP_FILE, tmp_path / "map.yaml")
    finally:
        os.umask(before)
    assert (tmp_path / "map.yaml").stat().st_mode & 0o777 == 0o644


def test_header_names_the_path_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_map(MAP_FILE, "maps/a.yaml")
    assert 'open("maps/a.yaml")' in (tmp_path / "maps" / "a.yaml").read_text()
    write_map(MAP_FILE, tmp_path / "b.yaml")
    text = (tmp_path / "b.yaml").read_text()
    assert 'open("b.yaml")' in text
    assert str(tmp_path) not in text


def test_read_says_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: No such file"):
        read_map(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="it is a folder; give a regular file"):
        read_map(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"schema: 1\nname: gr\xf6\xdfe\n")
    with pytest.raises(InputError, match=r"latin\.yaml:2: byte 0xf6 is not UTF-8"):
        read_map(tmp_path / "latin.yaml")


def test_read_takes_a_byte_order_mark(tmp_path):
    path = tmp_path / "map.yaml"
    write_map(MAP_FILE, path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_map(path) == MAP_FILE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: \x00", "x:1: the character U+0000 is not allowed in YAML"),
        ("\n\na: \x07", "x:3: the character U+0007"),
        ("[" * 10_000, "x:1: nested too deeply"),
        ("a: *b", "x:1: not YAML: found undefined alias"),
        ("schema: " + "9" * 5000, "x:1: "),
    ],
)
def test_hostile_text(text, words):
    with pytest.raises(InputError) as caught:
        loads_map(text, "x")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
