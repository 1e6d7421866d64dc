"""The class that comes with a model: built only where the user said ``--trust-remote-code``."""

from __future__ import annotations

import traceback
from typing import Any

from devplan.core import InputError, UserCodeError
from devplan.models.native import native_class, remote_class_reference
from devplan.models.source import ModelSource
from devplan.models.unasked import never_asked


def is_trusted_code(source: ModelSource) -> bool:
    """Whether the class is code that comes with the model, is there, and may run."""
    if not source.trust_remote_code or source.code_folder is None:
        return False
    return native_class(source) is None and remote_class_reference(source) is not None


def own_class(source: ModelSource) -> tuple[type, Any]:
    """The class and its configuration object, by the model's own code.

    Raises
    ------
    InputError
        When the code needs packages that are not here, or the configuration has no class.
    UserCodeError
        When the code raises while it is imported.
    """
    from transformers import AutoConfig
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    folder, reference = source.code_folder, remote_class_reference(source)
    try:
        with never_asked():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
            found = get_class_from_dynamic_module(reference, folder)
    except (ImportError, OSError, ValueError) as error:
        # [transformers] says in one of these that a package, a file or a model type is missing.
        reason = " ".join(str(error).split())
        raise InputError(
            f"{source.id}: its own code cannot be used ({reason}); install what is missing, or "
            "leave out --trust-remote-code to plan from the names and shapes of its tensors"
        ) from error
    except Exception as error:
        raise UserCodeError(
            f"{source.id}: its own code raised {type(error).__name__}: {error}",
            traceback_text=traceback.format_exc(),
        ) from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return found, config
