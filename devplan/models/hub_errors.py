"""What went wrong on the hub: the reason in one clause, and the remedy in another.

huggingface_hub changed its HTTP library twice (requests, httpx, httpx2), and each brings its own
errors for a network that does not answer.  They are told apart here by the package that they come
from; what is no error of the hub, the network or the cache is left to rise.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError

# huggingface_hub 0.x used requests (on urllib3), 1.x httpx, 2.x httpx2 (on httpcore).
_HTTP_PACKAGES = frozenset({"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"})
_LOG_IN = "log in with `hf auth login` or HF_TOKEN"


class OddAnswer(Exception):
    """What answered does not speak as a hub does."""


@dataclass(frozen=True, kw_only=True)
class HubProblem:
    """Why the hub gives no model."""

    reason: str
    remedy: str


def hub_problem(error: BaseException, repo: str, revision: str | None) -> HubProblem | None:
    """What an error of huggingface_hub means, or None where it is none of the hub's."""
    # [requests] it has a JSONDecodeError of its own, from the same base.
    if isinstance(error, OddAnswer | JSONDecodeError):
        return _not_a_hub()
    found = next(filter(None, (_problem(e, repo, revision) for e in _chain(error))), None)
    return found or _without_commit(error) or _unreadable(error)


def _problem(error: BaseException, repo: str, revision: str | None) -> HubProblem | None:
    from huggingface_hub import constants, utils

    endpoint = constants.ENDPOINT
    if isinstance(error, utils.OfflineModeIsEnabled):
        return HubProblem(
            reason="HF_HUB_OFFLINE is set",
            remedy=f"no snapshot is cached in {constants.HF_HUB_CACHE}: unset it once, or give a "
            "local folder",
        )
    if isinstance(error, utils.RevisionNotFoundError):
        return HubProblem(
            reason=f"{repo} has no revision {revision!r}",
            remedy="name a branch, a tag or a whole commit hash",
        )
    if isinstance(error, utils.GatedRepoError):
        return HubProblem(
            reason=f"{repo} is gated", remedy=f"accept its terms at {endpoint}/{repo} and {_LOG_IN}"
        )
    if isinstance(error, utils.RepositoryNotFoundError):
        return HubProblem(
            reason=f"{endpoint} has no {repo}, or it is private",
            remedy=f"correct the name, or {_LOG_IN}",
        )
    # The response is None in the LocalEntryNotFoundError of huggingface_hub 0.x.
    if isinstance(error, utils.HfHubHTTPError) and error.response is not None:
        return _status_problem(error.response.status_code, repo, endpoint)
    return _machine_problem(error)


def _status_problem(status: int, repo: str, endpoint: str) -> HubProblem:
    if status in (401, 403):
        return HubProblem(
            reason=f"{endpoint} refuses access to {repo} (status {status})",
            remedy=f"check the token, or {_LOG_IN}",
        )
    return HubProblem(
        reason=f"{endpoint} answers {repo} with status {status}",
        remedy="try again later, or give a local folder",
    )


def _machine_problem(error: BaseException) -> HubProblem | None:
    """The network or the disk of the cache."""
    from huggingface_hub import constants

    package = type(error).__module__.partition(".")[0]
    if package in _HTTP_PACKAGES or isinstance(error, ConnectionError | TimeoutError):
        return HubProblem(
            reason=f"{constants.ENDPOINT} cannot be reached ({type(error).__name__})",
            remedy="check the network and HF_ENDPOINT, or give a local folder or a name of the "
            "catalogue",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return HubProblem(
            reason=f"the cache {constants.HF_HUB_CACHE} cannot be used ({error.strerror})",
            remedy="set HF_HOME to a folder that can be written",
        )
    return None


def _without_commit(error: BaseException) -> HubProblem | None:
    """An answer without the headers of a hub ends as a file that is not found locally."""
    from huggingface_hub import utils

    return _not_a_hub() if isinstance(error, utils.EntryNotFoundError) else None


def _unreadable(error: BaseException) -> HubProblem | None:
    """huggingface_hub takes answers as they should be: a list in the place of a description of a
    model, or names that are numbers, end as whatever its own code raises then."""
    frames = traceback.walk_tb(error.__traceback__)
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in frames)
    is_theirs = any(module.partition(".")[0] == "huggingface_hub" for module in modules)
    return _not_a_hub() if is_theirs and not isinstance(error, MemoryError) else None


def _not_a_hub() -> HubProblem:
    from huggingface_hub import constants

    return HubProblem(
        reason=f"{constants.ENDPOINT} does not answer as a hub does",
        remedy="check HF_ENDPOINT and the proxy settings",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes; huggingface_hub wraps the telling one in a general one."""
    while error is not None:
        yield error
        error = error.__cause__
