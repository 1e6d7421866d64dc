"""``devplan doctor``: what is on this machine, and whether a map fits it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devplan.cli.command import Argument, Option, Options, command
from devplan.cli.options import FORCE, JSON, LOCAL_MODEL, TRUST_REMOTE_CODE
from devplan.cli.printing import progress_on_stderr, say_report

if TYPE_CHECKING:
    from devplan.core import DeviceMapFile, Environment, ModelFacts

DIFFERS = 1

MAP = Argument("map_path", metavar="[MAP]", required=False, help="A map file that devplan wrote.")
MEASURE = Option(
    "--measure", is_flag=True, help="Measure copies between the GPUs, and to and from the host."
)
REMAP = Option(
    "--remap",
    metavar="FILE",
    help="Write the map to a file, with the GPU numbers of this machine.",
)
OFFLOAD_FOLDER = Option(
    "--offload-folder",
    metavar="DIR",
    default="offload",
    help="The folder for offloaded weights, to see how much disk it has.",
)


@command(
    *("doctor", MAP, LOCAL_MODEL, MEASURE, REMAP, FORCE, OFFLOAD_FOLDER, JSON, TRUST_REMOTE_CODE)
)
def doctor_command(options: Options) -> int:
    """Show this machine, and how it differs from the machine of MAP; works without GPUs.

    \b
    devplan doctor
    devplan doctor maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml --model ./checkpoint
    devplan doctor maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml --remap maps/here.yaml
    """
    from devplan.cli.suggest import look_at_target, written
    from devplan.environment import remapped
    from devplan.mapfile import read_map
    from devplan.report import doctor_json, doctor_text
    from devplan.rules import differences, errors, obstacles

    map_path, remap = options.map_path, options.remap
    _refuse_without_map(map_path, model=options.model, remap=remap)
    map_file = read_map(map_path) if map_path else None
    refused = None
    if remap is not None:
        look_at_target(remap, force=options.force, option="--remap")
    environment = look_around(options.offload_folder, measure=options.measure)
    notes: list[str] = []
    if map_file is None:
        found = obstacles(environment)
    else:
        facts = facts_at_hand(
            map_file, map_path, options.model, notes, trust_remote_code=options.trust_remote_code
        )
        if remap is not None:
            here = remapped(map_file, environment)
            outcome, refused = written(here, remap, options.force, option="--remap")
            told = "the GPUs have their numbers already" if here is map_file else here.notes[-1]
            notes.append(f"{remap} ({outcome}): {told}")
            map_file, map_path = here, remap
        found = differences(map_file, environment, facts)
    about = {"map_file": map_file, "notes": notes}
    remapped_to = None if refused else remap
    say_report(
        lambda terminal: doctor_text(
            environment, found, terminal, map_name=map_path or "", **about
        ),
        lambda: doctor_json(
            environment, found, map_name=map_path, remapped_to=remapped_to, **about
        ),
        options.json,
    )
    if refused is not None:
        raise refused
    return DIFFERS if errors(found) else 0


def look_around(offload_folder: str, *, measure: bool = False) -> Environment:
    """This machine; torch is imported here."""
    from devplan.environment import measured, read_environment

    with progress_on_stderr() as progress:
        progress("looking at the GPUs and the driver")
        environment = read_environment(offload_folder)
        if measure and environment.cards:
            progress("timing copies between the cards")
            environment = measured(environment)
    return environment


def facts_at_hand(
    map_file: DeviceMapFile,
    map_path: str,
    model: str | None,
    notes: list[str],
    *,
    trust_remote_code: bool,
) -> ModelFacts:
    """The model that is to be loaded, as far as it can be read.

    Raises
    ------
    InputError
        When it cannot be read and was typed, or the map names code.
    """
    from devplan.core import InputError, NamedInFile
    from devplan.environment import class_facts, is_local, read_model_facts
    from devplan.models import model_path, refuse_named_code

    folder = Path(map_path).parent
    planned = NamedInFile(text=map_file.model.id, file=map_path, folder=folder)
    if model is None:
        refuse_named_code(planned)
    named = model or planned
    if model is None and not is_local(model_path(planned)):
        notes.append(
            f"{named} is not here: its configuration was not compared; --model FOLDER does"
        )
        return class_facts(map_file)
    with progress_on_stderr() as progress:
        progress(f"building {named} without weights")
        try:
            return read_model_facts(named, trust_remote_code=trust_remote_code)
        except InputError as error:
            if model is not None:
                raise
            notes.append(f"the model was not compared: {error}")
            return class_facts(map_file)


def _refuse_without_map(map_path: str | None, **options: str | None) -> None:
    from devplan.core import InputError

    for name, value in options.items():
        if map_path is None and value is not None:
            raise InputError(f"--{name} goes with a map: devplan doctor MAP --{name} {value}")
