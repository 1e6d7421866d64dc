"""Why a folder or repository without config.json cannot be used, and what to give instead.

The same answers hold for a local folder and for a hub repository: both are a list of file names and
a way to read one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devplan.core import InputError
from devplan.models.config import CONFIG_FILE, parse_object

ADAPTER_CONFIG_FILE = "adapter_config.json"


def without_config(where: str, names: Sequence[str], read: Callable[[str], str]) -> InputError:
    """The one line about `where`, which has no config.json.

    Parameters
    ----------
    where : str
        The folder or hub id as the user typed it.
    names : sequence of str
        Its files with their path below it, ``/`` between folders.
    read : callable
        Text of one of the files.
    """
    if ADAPTER_CONFIG_FILE in names:
        return _adapter(where, read)
    gguf = [name for name in names if name.endswith(".gguf")]
    if gguf:
        return InputError(
            f"{where} holds GGUF files only ({gguf[0]}); devplan plans checkpoints with a "
            f"{CONFIG_FILE}: give the model that it was converted from"
        )
    below = sorted(n.rpartition("/")[0] for n in names if n.endswith("/" + CONFIG_FILE))
    if below:
        return InputError(
            f"{where} has no {CONFIG_FILE}, but its {_listing(below, 'folder')} has: give "
            f"{where.rstrip('/')}/{below[-1]}"
        )
    held = _listing(sorted(n for n in names if "/" not in n), "file") if names else "nothing"
    return InputError(
        f"{where} has no {CONFIG_FILE} (it holds {held}); give the folder that save_pretrained "
        "wrote, or a hub id org/name"
    )


def _adapter(where: str, read: Callable[[str], str]) -> InputError:
    content = parse_object(read(ADAPTER_CONFIG_FILE), f"{where}/{ADAPTER_CONFIG_FILE}")
    base = content.get("base_model_name_or_path")
    remedy = f"plan its base model instead: {base}" if base else "give its base model instead"
    return InputError(f"{where} is an adapter without a {CONFIG_FILE}; {remedy}")


def _listing(names: Sequence[str], what: str, *, limit: int = 4) -> str:
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{what}{'s' if len(names) > 1 else ''} {shown}"
