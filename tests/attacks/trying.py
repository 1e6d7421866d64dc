"""An attack, tried: from its file to what is wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.attacks.attack import Attack
from tests.attacks.guard import Outcome, Request
from tests.attacks.judging import complaints, seen_files, stray_files
from tests.attacks.making import content_bytes, make_files, make_world
from tests.attacks.zygote import Zygote

PIPELINES = (
    "diffusers",
    "diffusers.pipelines.flux.pipeline_flux",
    "diffusers.models.transformers.transformer_flux",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.t5.modeling_t5",
    "transformers.models.clip.modeling_clip",
)
_SPECIAL = ("closed", "/dev/zero", "/dev/full")


def try_attack(attack: Attack, zygote: Zygote, root: Path) -> tuple[Outcome, list[str]]:
    """What became of an attack in a folder of its own, and what is wrong with that."""
    here = make_world(root)
    make_files(here, attack.files)
    request = request_of(attack, root)
    before = seen_files(root)
    must = attack.must
    if attack.name.startswith("pipelines/"):
        zygote.import_first(PIPELINES)
    outcome = zygote.run(request, seconds=must.seconds, interrupt=attack.interrupt)
    found = complaints(attack.run, outcome, seconds=must.seconds, mib=must.mib)
    if 130 in must.status:
        found = [line for line in found if line != "ended with status 130"]
    if attack.stderr or attack.stdout == "broken":  # nobody is there to be told
        found = [line for line in found if line != "refused without a word"]
    after = seen_files(root)
    found += stray_files(before, after, must.files, hub=attack.hub is not None)
    found += _unmet(attack, outcome)
    shutil.rmtree(root, ignore_errors=True)
    return outcome, found


def request_of(attack: Attack, root: Path) -> Request:
    """What is asked of the process; its stdin is written beside the current folder."""
    return Request(
        argv=[_filled(argument, root / "here") for argument in attack.run],
        root=str(root),
        env=dict(attack.env),
        stdin=_stdin(attack, root),
        stdout=attack.stdout,
        stderr=attack.stderr,
        file_bytes=attack.disk_bytes,
        hub=dict(attack.hub) if attack.hub else None,
    )


def _filled(argument: str, here: Path) -> str:
    """``{long:5000}`` is that many characters, ``{here}`` the current folder."""
    argument = argument.replace("{here}", str(here))
    argument = re.sub(r"\{(.):(\d+)\}", lambda match: match[1] * int(match[2]), argument)
    return argument.replace("{surrogate}", "\udcff")


def _stdin(attack: Attack, root: Path) -> str:
    if attack.stdin is None or attack.stdin in _SPECIAL:
        return attack.stdin or ""
    path = root / "stdin"
    if isinstance(attack.stdin, str):
        path.write_text(attack.stdin, encoding="utf-8", errors="surrogatepass", newline="")
    else:
        path.write_bytes(content_bytes(attack.stdin))
    return str(path)


def _unmet(attack: Attack, outcome: Outcome) -> list[str]:
    must, found = attack.must, []
    if outcome.status not in must.status:
        found.append(f"status {outcome.status} instead of {' or '.join(map(str, must.status))}")
    # Stories and reports are wrapped: words are looked for as if they were in one line.
    err, out = " ".join(outcome.err.split()), " ".join(outcome.out.split())
    found += [f"stderr lacks {text!r}" for text in must.err if text not in err]
    found += [f"stdout lacks {text!r}" for text in must.out if text not in out]
    found += [f"{text!r} is shown" for text in must.never if text in err or text in out]
    lines = outcome.err.count("\n")
    if must.err_lines is not None and lines != must.err_lines:
        found.append(f"{lines} lines on stderr instead of {must.err_lines}")
    return found
