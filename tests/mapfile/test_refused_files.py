"""Every file in ``broken/`` and ``contradictory/`` is refused, with the line and the remedy.

Each file opens with its story and with ``# refused: LINE: words of the message``; a new file
needs no test code.  Those in ``broken/`` are refused by the published JSON Schema too; those in
``contradictory/`` are wrong in a way that JSON Schema cannot say.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from devplan.core.errors import InputError
from devplan.mapfile.read import read_map

HERE = Path(__file__).parent
SCHEMA = Path(HERE.parents[1] / "devplan" / "schema.json")
BROKEN = sorted((HERE / "broken").glob("*.yaml"))
CONTRADICTORY = sorted((HERE / "contradictory").glob("*.yaml"))


def expectation(path: Path) -> tuple[int, str]:
    match = re.search(r"^# refused: (\d+): (.+)$", path.read_text(), re.MULTILINE)
    assert match, f"{path} does not say why it is refused"
    return int(match[1]), match[2]


def schema_validator():
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", BROKEN + CONTRADICTORY, ids=lambda path: path.stem)
def test_reader_refuses_with_line_and_remedy(path):
    line, words = expectation(path)
    with pytest.raises(InputError) as caught:
        read_map(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_schema_refuses(path):
    assert not schema_validator().is_valid(yaml.safe_load(path.read_text()))


def test_the_folders_are_not_empty():
    assert len(BROKEN) > 30
    assert len(CONTRADICTORY) > 15
