"""Every code and its rule: the one place that names them.

A code is never used again for another rule.  ``docs/rules/README.md`` says how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

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
from devplan.rules.rule import Rule, rule_of

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
