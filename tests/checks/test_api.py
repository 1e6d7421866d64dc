"""What a caller in Python does with a result."""

from __future__ import annotations

import pytest

import devplan

BROKEN = "maps/broken/founding-case.yaml"
CLEAN = "maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"
MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.fixture(scope="module")
def broken() -> devplan.CheckResult:
    return devplan.check(MODEL, BROKEN)


def test_findings_are_raised_one_a_line(broken):
    assert broken.is_clean is False
    with pytest.raises(devplan.DeviceMapError) as raised:
        broken.raise_for_findings()
    head, *lines = str(raised.value).splitlines()
    assert head == f"{BROKEN} does not fit {MODEL}:"
    assert len(lines) == len(broken.errors) == len(raised.value.findings)
    for line, finding in zip(lines, broken.errors, strict=True):
        assert finding.code in line and finding.message in line
        assert finding.where in line


def test_warnings_are_raised_only_where_they_count():
    result = devplan.check(MODEL, CLEAN)
    assert result.is_clean is True
    result.raise_for_findings()
    if not result.is_strictly_clean:
        with pytest.raises(devplan.DeviceMapError):
            result.raise_for_findings(strict=True)


def test_a_result_is_shown_in_one_line(broken):
    shown = repr(broken)
    assert BROKEN in shown and f"{len(broken.errors)} errors" in shown
    assert "\n" not in shown and len(shown) < 200
