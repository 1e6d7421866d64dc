"""A local folder: its config.json and the headers of its safetensors files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from devplan.core import InputError, nearest
from devplan.models.config import CONFIG_FILE, read_config_text
from devplan.models.files import source_of_files
from devplan.models.source import ModelSource
from devplan.models.stored_tensors import StoredWeights, read_folder_weights


@dataclass(frozen=True, kw_only=True)
class FolderFiles:
    """The files of a folder (`devplan.models.files.Files`)."""

    typed: str
    folder: Path
    identity: ModelSource

    def names(self) -> list[str]:
        """Files of the folder, and the config.json files one folder below it."""
        folder = self.folder
        here = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
        below = sorted(
            path.relative_to(folder).as_posix() for path in folder.glob(f"*/{CONFIG_FILE}")
        )
        return here + below

    def where(self, name: str) -> str:
        return str(self.folder / name)

    def read(self, name: str) -> str | None:
        path = self.folder / name
        is_there = path.is_file() if "/" in name else path.exists()
        return read_config_text(path) if is_there else None

    def weights(self, component: str = "") -> StoredWeights:
        return read_folder_weights(self.folder / component)

    def code_folder(self) -> str:
        return str(self.folder)


def folder_files(model: str, folder: Path, *, trust_remote_code: bool = False) -> FolderFiles:
    """The files of a folder that the user typed as `model`."""
    identity = ModelSource(
        id=model,
        origin="folder",
        location=str(folder),
        library="transformers",
        trust_remote_code=trust_remote_code,
    )
    return FolderFiles(typed=model, folder=folder, identity=identity)


def is_path(model: str) -> bool:
    """Whether MODEL names something on this machine, or can only be a path."""
    return model.startswith((".", "~")) or os.path.isabs(model) or os.path.exists(model)


def resolve_folder(model: str, *, trust_remote_code: bool) -> ModelSource:
    """The model in a folder.

    Raises
    ------
    InputError
        When there is no such folder, or what it holds cannot be planned for.
    """
    folder = Path(model).expanduser()
    _require_folder(model, folder)
    return source_of_files(folder_files(model, folder, trust_remote_code=trust_remote_code))


def _require_folder(model: str, folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise InputError(f"{model} is a file; give the folder that holds {CONFIG_FILE}")
    around = folder.parent
    known = [entry.name for entry in around.iterdir() if entry.is_dir()] if around.is_dir() else []
    near = nearest(folder.name, known)
    raise InputError(
        f"there is no folder {model}"
        f"{'' if around.is_dir() else f' ({around} does not exist either)'}"
        f"{near or f'; give the folder that holds {CONFIG_FILE}'}"
    )
