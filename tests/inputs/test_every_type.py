from __future__ import annotations

import pytest

from devplan.inputs import InputRequest
from tests.inputs.sweep import share_that_ran, sweep


@pytest.mark.slow
def test_nine_in_ten_types_run():
    rows = sweep([], None, InputRequest())
    failed = [f"{row['type']}: {row.get('error')}" for row in rows if row["stage"] == "run"]
    assert share_that_ran(rows) >= 0.9, "\n".join(failed)
