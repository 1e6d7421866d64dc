"""Leaves a file when it is imported or called: nothing that is data may do either."""

import os
import pathlib

pathlib.Path(os.environ["CANARY"]).touch()


def plant(*arguments, **options):
    """Leave the file again."""
    pathlib.Path(os.environ["CANARY"]).touch()
