"""How property tests run.

*steady*, by default: the same examples every time, so that a run that fails says something of what
was changed since the last one.  *explore*, in ``make properties``: others each time.  Neither fails
for being slow: the machines that run them are shared.

What a test leaves behind in the process is found after each (`tests.leftovers`), and fails it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.leftovers import Look

_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", _PATIENT, derandomize=True)
settings.register_profile("explore", _PATIENT)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory) -> Iterator[Path]:
    """Where tests write; temporary files of this process get a folder of their own in it."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    own = tmp_path_factory.mktemp("tmp")
    tempfile.tempdir, os.environ["TMPDIR"] = str(own), str(own)
    yield tmp_path_factory.getbasetemp()
    tempfile.tempdir = before[0]
    if before[1] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before[1]


@pytest.fixture(scope="module")
def modules_cache(tmp_path_factory) -> Iterator[None]:
    """Where transformers copies a model's own code to before it runs it: not the user's folder."""
    from transformers import dynamic_module_utils as utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        utils.init_hf_modules()
        yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def nothing_is_left(request, scratch) -> Iterator[None]:
    """Fail a test that leaves something behind which other tests would find.

    Set up before and torn down after every other fixture of the test.
    """
    before = Look(scratch)
    yield
    before.forget_written()
    left = before.differences()
    if left:
        pytest.fail(f"{request.node.nodeid} leaves behind: {'; '.join(left)}", pytrace=False)
