"""One check, in the environment of one release: a bug as JSON in, what was found as JSON out.

Run by ``tools.corpus.running`` with the interpreter of that environment.  It calls
`devplan.check` as a user would, with a configuration of the installed transformers.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def check_bug(bug: Mapping[str, Any]) -> dict[str, Any]:
    """What `devplan.check` says of the model and the map of a bug."""
    import devplan

    result = devplan.check(_model(bug["model"]), bug["map"], **_how(bug))
    return {
        "errors": [
            _finding(item, at) for item in result.errors for at in (item.source, *item.also_at)
        ],
        "phases": [phase for run in result.runs[:1] for phase in run.phases],
        "inputs": [run.inputs for run in result.runs],
        "notes": [d.message for d in result.findings if d.severity.value == "note"],
        "ran": bool(result.runs),
    }


def patch_for_bug(bug: Mapping[str, Any]) -> dict[str, Any]:
    """What `devplan.needed_patch` advises for the model and the map of a bug."""
    import devplan

    advice = devplan.needed_patch(_model(bug["model"]), bug["map"], **_how(bug))
    return {
        "names": list(advice.names),
        "device": advice.device,
        "before": [str(error.source or error.code) for error in advice.before.errors],
        "after": [str(error.source or error.code) for error in advice.after.errors]
        if advice.after
        else None,
    }


def _how(bug: Mapping[str, Any]) -> dict[str, Any]:
    """How the check is told to run."""
    from devplan.checker.run_options import RunOptions
    from devplan.inputs.request import InputRequest
    from devplan.machine.parse import parse_gpus

    run = dict(bug.get("run", {}))
    request = InputRequest(**{k: run.pop(k) for k in tuple(run) if k in _request_fields()})
    for name in ("inputs", "run"):
        if ".py:" in str(run.get(name)):
            run[name] = str(HERE / run[name])
    return {
        "machine": parse_gpus(bug["gpus"]) if "gpus" in bug else None,
        "main_device": bug.get("main"),
        "options": RunOptions(request=request, **run),
    }


def _request_fields() -> frozenset[str]:
    from dataclasses import fields

    from devplan.inputs.request import InputRequest

    return frozenset(field.name for field in fields(InputRequest))


def _model(model: Mapping[str, Any]) -> Any:
    """A name, the function of a file that makes a model, or a configuration."""
    if "name" in model:
        return model["name"]
    if "factory" in model:
        return f"tools.corpus.{model['factory']}"
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[model["type"]](**model.get("config", {}))
    config.architectures = [model["class"]]
    return config


def _finding(item: Any, source: Any) -> dict[str, Any]:
    return {
        "code": item.code,
        "op": item.op,
        "at": str(source) if source else None,
        "line": source.text if source else None,
        "module": item.module,
        "message": item.pytorch_message or item.message,
    }


def main() -> None:
    bug = json.load(sys.stdin)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        result = patch_for_bug(bug) if "patch" in sys.argv else check_bug(bug)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
