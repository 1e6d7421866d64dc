"""Every code and its rule: the one place that names them.

A code is never used again for another rule.  ``docs/rules/README.md`` says how to add one.  The
docstring of a rule's module is its page: it opens with one line, ``Title.``, and has the sections
of `SECTIONS` in their order, each under a heading with a colon at the end of the line::

    Uncovered tensor.

    What it does:
        ...
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from devplan.core import Finding, Severity
from devplan.rules import (
    absent_device,
    assumed_op,
    back_and_forth,
    cache_on_wrong_device,
    card_missing,
    card_of_another_kind,
    card_smaller,
    cards_hidden,
    cards_moved,
    cards_unusable,
    device_mismatch,
    disk_needs_folder,
    embedding_off_main,
    hidden_transfers,
    made_up_value,
    main_device_not_taken,
    memory_in_use,
    model_differs,
    model_error,
    module_not_executed,
    not_run,
    offload_not_asked_for,
    offload_room,
    offloaded_weight_read,
    over_capacity,
    release_too_old,
    root_entry_overruled,
    setting_in_the_way,
    shadowed_entry,
    split_layer,
    split_no_split_module,
    split_tied_weights,
    step_not_run,
    stray_parameter,
    stray_tensor,
    uncovered_tensor,
    unknown_device,
    unknown_module,
    versions_differ,
    weights_unpacked,
)
from devplan.rules.context import CheckContext

SECTIONS = ("What it does", "Why it breaks", "Example", "Use instead", "Limits")

Check = Callable[[CheckContext], Iterator[Finding]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the table."""

    code: str
    name: str
    """``device-mismatch``."""
    severity: Severity
    """What it usually gives; a finding may be milder, and then says why."""
    check: Check
    doc: str

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0].rstrip(".")

    @property
    def sections(self) -> dict[str, str]:
        """Heading -> text; paragraphs keep their line breaks."""
        found: dict[str, list[str]] = {}
        heading = ""
        for line in self.doc.splitlines()[1:]:
            if line and not line.startswith(" ") and line.endswith(":"):
                heading = line[:-1]
                found[heading] = []
            elif heading:
                found[heading].append(line)
        return {
            name: textwrap.dedent("\n".join(lines)).strip("\n") for name, lines in found.items()
        }


def rule_of(code: str, module: ModuleType) -> Rule:
    """The rule that a module of ``devplan.rules`` holds."""
    return Rule(
        code=code,
        name=module.__name__.rpartition(".")[2].replace("_", "-"),
        severity=module.SEVERITY,
        check=module.check,
        doc=inspect.cleandoc(module.__doc__ or ""),
    )


_MODULES: Mapping[str, ModuleType] = {
    "DP001": uncovered_tensor,
    "DP002": unknown_module,
    "DP003": unknown_device,
    "DP004": absent_device,
    "DP005": shadowed_entry,
    "DP006": root_entry_overruled,
    "DP101": over_capacity,
    "DP201": split_no_split_module,
    "DP202": split_layer,
    "DP203": split_tied_weights,
    "DP204": stray_parameter,
    "DP205": embedding_off_main,
    "DP206": back_and_forth,
    "DP301": device_mismatch,
    "DP302": model_error,
    "DP303": stray_tensor,
    "DP304": cache_on_wrong_device,
    "DP305": hidden_transfers,
    "DP401": offload_not_asked_for,
    "DP402": disk_needs_folder,
    "DP403": offloaded_weight_read,
    "DP501": versions_differ,
    "DP502": main_device_not_taken,
    "DP503": card_missing,
    "DP504": card_smaller,
    "DP505": memory_in_use,
    "DP506": card_of_another_kind,
    "DP507": cards_moved,
    "DP508": cards_unusable,
    "DP509": model_differs,
    "DP510": offload_room,
    "DP511": cards_hidden,
    "DP512": setting_in_the_way,
    "DP513": release_too_old,
    "DP514": weights_unpacked,
    "DP901": not_run,
    "DP902": module_not_executed,
    "DP903": made_up_value,
    "DP904": assumed_op,
    "DP905": step_not_run,
}

RULES: Mapping[str, Rule] = {code: rule_of(code, module) for code, module in _MODULES.items()}

FAMILIES: Mapping[str, str] = {
    "DP0": "names and devices",
    "DP1": "memory",
    "DP2": "structure",
    "DP3": "execution",
    "DP4": "offload and loading",
    "DP5": "environment",
    "DP9": "limits of the check itself",
}
"""First letters of a code -> what its family is about."""
