"""Links of a machine as ``--links`` takes them: the inverse of `devplan.machine.links`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devplan.core import CPU, Link

_PCIE = re.compile(r"PCIe (\d)\.0 x(\d+)( through the host)?")
_NVLINK = re.compile(r"NVLink ?(\d?)")
_HOST = "-host"


def links_option(links: Sequence[Link]) -> str:
    """``pcie4x16`` where all cards are joined alike, else ``0-1:nvlink3,0-cpu:pcie4x16``; may be
    empty.

    Only what the user gave or measured is told: the rest follows from the names of the cards.
    """
    told = [link for link in links if link.basis in ("given", "measured")]
    untold = [link for link in links if link not in told and not _to_host(link)]
    between = {link_word(link) for link in told if not _to_host(link)}
    if untold or len(between) != 1:
        return ",".join(map(_pair, told))
    (word,) = between
    implied = word.removesuffix(_HOST) if _is_pcie(word) else None
    to_host = [link for link in told if _to_host(link) and link_word(link) != implied]
    return ",".join([word, *map(_pair, to_host)])


def link_word(link: Link) -> str:
    """``pcie4x16-host``, ``nvlink3`` or ``50GB/s``."""
    pcie, nvlink = _PCIE.fullmatch(link.name), _NVLINK.fullmatch(link.name)
    if pcie:
        return f"pcie{pcie[1]}x{pcie[2]}{_HOST if pcie[3] else ''}"
    if nvlink:
        return f"nvlink{nvlink[1]}"
    giga, rest = divmod(link.bytes_per_s, 10**9)
    return f"{link.bytes_per_s}B/s" if rest else f"{giga}GB/s"


def _to_host(link: Link) -> bool:
    return CPU in (link.source, link.target)


def _is_pcie(word: str) -> bool:
    return word.startswith("pcie")


def _pair(link: Link) -> str:
    ends = (end.removeprefix("cuda:") for end in (link.source, link.target))
    return f"{'-'.join(ends)}:{link_word(link)}"
