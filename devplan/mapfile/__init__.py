"""The map file: what `devplan suggest` writes, people read and ``from_pretrained`` takes.

A map file is YAML with everything that a map was made for around the map itself.  One table
(``keys``) says what it holds, and all else follows from it::

    keys -> json_schema, reference    what is published (python -m devplan.mapfile.publish)
    composing -> nodes -> consistency what is read, with line numbers
    hf                                the only border between "cuda:0" and 0
    entries                           placement of blocks <-> entries of a map
    of_plan                           a plan -> DeviceMapFile
    document                          DeviceMapFile <-> plain dicts and lists
    write, read, splice               the files, and one section of them
    default_name, header, load_code   what a person sees of it

To add a key: the field in ``types.py``, its line in ``keys.py``, both directions in
``document.py``, then run ``publish``.  A changed meaning or a removed key raises
``SCHEMA_VERSION``.
"""

from __future__ import annotations

from devplan.mapfile.default_name import default_path
from devplan.mapfile.entries import contract_entries, covering_modules, expand_entries
from devplan.mapfile.hf import from_hf_device_map, to_hf_device_map
from devplan.mapfile.load_code import import_lines, load_code, load_heading, load_line
from devplan.mapfile.read import loads_map, read_map
from devplan.mapfile.write import dump_map, write_map
from devplan.writing import WriteOutcome

__all__ = [
    "WriteOutcome",
    "contract_entries",
    "covering_modules",
    "default_path",
    "dump_map",
    "expand_entries",
    "from_hf_device_map",
    "import_lines",
    "load_code",
    "load_heading",
    "load_line",
    "loads_map",
    "read_map",
    "to_hf_device_map",
    "write_map",
]
