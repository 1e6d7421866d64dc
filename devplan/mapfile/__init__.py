"""The map file: what `devplan suggest` writes, people read and ``from_pretrained`` takes.

A map file is YAML with everything that a map was made for around the map itself.  One table
(``keys``) says what it holds, and all else follows from it::

    keys -> json_schema, reference    what is published (make pages)
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

from devplan.mapfile.default_name import (
    default_path,
)
from devplan.mapfile.device_map_files import (
    as_device_map,
    read_device_map,
)
from devplan.mapfile.document import (
    machine_document,
    model_document,
    to_document,
    workload_document,
)
from devplan.mapfile.entries import (
    contract_entries,
    covering_modules,
)
from devplan.mapfile.environment_document import (
    lock_document,
)
from devplan.mapfile.header import (
    gib_cell,
    part_cell,
    shown_parts,
)
from devplan.mapfile.keys import (
    SCHEMA_VERSION,
)
from devplan.mapfile.loading_code import (
    dtype_keyword,
    hub_parts,
    import_lines,
    load_code,
    load_dtype,
    load_heading,
    load_line,
)
from devplan.mapfile.of_plan import (
    UNVERIFIED,
    map_file_of,
)
from devplan.mapfile.read import (
    loads_map,
    read_map,
)
from devplan.mapfile.splice import (
    spliced,
)
from devplan.mapfile.versions import (
    installed_versions,
)
from devplan.mapfile.write import (
    LOCK,
    dump_map,
    lock_text,
    write_map,
)

__all__ = [
    "LOCK",
    "SCHEMA_VERSION",
    "UNVERIFIED",
    "as_device_map",
    "contract_entries",
    "covering_modules",
    "default_path",
    "dtype_keyword",
    "dump_map",
    "gib_cell",
    "hub_parts",
    "import_lines",
    "installed_versions",
    "load_code",
    "load_dtype",
    "load_heading",
    "load_line",
    "loads_map",
    "lock_document",
    "lock_text",
    "machine_document",
    "map_file_of",
    "model_document",
    "part_cell",
    "read_device_map",
    "read_map",
    "shown_parts",
    "spliced",
    "to_document",
    "workload_document",
    "write_map",
]
