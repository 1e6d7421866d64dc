"""The names of the calls that a check makes, as ``--run`` takes them.

=================  =============================================================================
``auto``           how the class is used, and every way below that it has; the default
``all``            the same, and ``forward`` at the workload
``generate``       this call alone
``forward``        this call alone
``batch``          two sequences, one of them padded
``text``           no image, video or sound, where the model takes them beside text
``video``          a video, where the model takes images as well
``beams``          beam search, with the cache reordered
``loss``           one forward over all positions, with labels
=================  =============================================================================

Several of the last five may be named, separated by commas; the call at the workload comes first.
"""

from __future__ import annotations

from devplan.core import InputError, nearest

USUAL, ALL = "auto", "all"
CALLS = ("generate", "forward")
WAYS = ("batch", "text", "video", "beams", "loss")
RUNS = (USUAL, ALL, *CALLS, *WAYS)

PLANNED = (USUAL, "forward", ALL)
"""Values of ``devplan suggest --run``: the calls whose memory is planned for."""

IN_WORDS = {
    "batch": "a padded batch of 2",
    "text": "text alone",
    "video": "a video",
    "beams": "beam search",
    "loss": "a forward over all positions with labels",
}
"""Way -> what a report calls it."""


def checked_run(run: str) -> str:
    """The value of ``--run``.

    Raises
    ------
    InputError
        When it names no call.
    """
    if ":" in run:
        return run
    for name in run.split(","):
        if name not in RUNS or (name not in WAYS and name != run):
            raise InputError(
                f"--run {run!r} is not one of {', '.join((USUAL, ALL, *CALLS))}, nor some of "
                f"{','.join(WAYS)}, nor FILE.py:FUNCTION{nearest(name, RUNS)}"
            )
    return run
