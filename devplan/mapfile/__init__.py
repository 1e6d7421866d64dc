"""The map file: what `devplan suggest` writes, people read and ``from_pretrained`` takes.

A map file is YAML with everything that a map was made for around the map itself.  One table
declares its keys, and reader, writer, JSON Schema and reference page are derived from it::

    shape, keys, plan_keys   the table
    of_plan                  a plan -> `DeviceMapFile`
    document                 `DeviceMapFile` <-> plain dicts and lists
    write, read              plain values <-> text, with line numbers in messages
    consistency              values that must agree with each other
    device_map(_files)       any device map, of devplan or not, as `check` takes it
    default_name, header, loading_code   the file's name, its comment, the Python that loads with it
"""

from devplan.mapfile.default_name import (
    default_path,
)
from devplan.mapfile.device_map_files import (
    MapLike,
    as_device_map,
    model_before_map,
    read_device_map,
)
from devplan.mapfile.document import (
    lock_document,
    machine_document,
    model_document,
    prediction_document,
    to_document,
    workload_document,
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
    contract_entries,
    covering_modules,
    installed_versions,
    map_file_of,
)
from devplan.mapfile.read import (
    loads_map,
    read_map,
)
from devplan.mapfile.write import (
    LOCK,
    dump_map,
    lock_text,
    spliced,
    write_map,
)

__all__ = [
    "LOCK",
    "SCHEMA_VERSION",
    "UNVERIFIED",
    "MapLike",
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
    "model_before_map",
    "model_document",
    "part_cell",
    "prediction_document",
    "read_device_map",
    "read_map",
    "shown_parts",
    "spliced",
    "to_document",
    "workload_document",
    "write_map",
]
