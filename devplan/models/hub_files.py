"""Where the files of a model lie: on the hub, and in huggingface_hub's cache."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from devplan.core import InputError
from devplan.models import from_catalog
from devplan.models.config import CONFIG_FILE
from devplan.models.hub_errors import OddAnswer
from devplan.models.inside import is_below

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""Of git, by SHA-1 or SHA-256."""


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A repository, a commit-ish of it, and a folder in it."""

    text: str
    """As the user typed it."""
    repo: str
    revision: str | None
    subfolder: str | None

    @property
    def model(self) -> str:
        """Repository and subfolder, without the revision: how the user would type it again."""
        return f"{self.repo}/{self.subfolder}" if self.subfolder else self.repo

    def path(self, name: str) -> str:
        """Path of a file of the model inside the repository."""
        return f"{self.subfolder}/{name}" if self.subfolder else name


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where huggingface_hub keeps the files of one commit."""

    root: Path
    folder: Path
    """`root`, or the subfolder of the component."""

    @property
    def commit(self) -> str:
        return self.root.name


def parse_address(model: str, revision: str | None) -> HubAddress:
    """The parts of ``org/name``, ``org/name@revision`` or ``org/name/subfolder``.

    Raises
    ------
    InputError
        When it cannot be a hub id, or two revisions are given.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    path, _, inline = model.partition("@")
    if inline and revision is not None and inline != revision:
        raise InputError(f"{model} and revision {revision!r} contradict each other; give one")
    org, name, *below = path.rstrip("/").split("/")
    try:
        validate_repo_id(f"{org}/{name}")
    except HFValidationError as error:
        raise InputError(
            f"{model!r} is no folder, not in the catalogue, and no hub id, which is written "
            f"org/name in letters, digits, '-', '_' and '.'{from_catalog.did_you_mean(model)}"
        ) from error
    for part in ("/".join(below), inline, revision):
        if part and not is_below(part):
            raise InputError(
                f"{model!r}: {part!r} is no folder or revision of {org}/{name}; write "
                "org/name/folder or org/name@revision"
            )
    return HubAddress(
        text=model,
        repo=f"{org}/{name}",
        revision=inline or revision,
        subfolder="/".join(below) or None,
    )


def download(address: HubAddress, name: str) -> Path:
    """Local path of a file of the model, fetched where the cache does not have it."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(address.repo, address.path(name), revision=address.revision)
    return Path(path)


def snapshot_of(address: HubAddress, config_path: Path) -> Snapshot:
    """The snapshot that a downloaded config.json lies in."""
    folder = config_path.parent
    depth = len(Path(address.subfolder).parts) if address.subfolder else 0
    snapshot = Snapshot(root=config_path.parents[depth], folder=folder)
    if not _COMMIT.fullmatch(snapshot.commit):
        raise OddAnswer(f"{snapshot.commit} is no commit")
    return snapshot


def cached_snapshot(address: HubAddress, name: str = CONFIG_FILE) -> Snapshot | None:
    """The snapshot in the cache that has a file, without asking the hub; None: there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repo, address.path(name), revision=address.revision)
    # [pruned] a cache that was cleared by hand holds links to files that are gone.
    if not isinstance(found, str) or not os.path.isfile(found):
        return None
    try:
        return snapshot_of(address, Path(found))
    except OddAnswer:
        return None
