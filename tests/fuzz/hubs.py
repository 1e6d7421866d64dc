"""Answers of a hub."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.fuzz.mutate import mutated_json
from tests.fuzz.values import TEXTS
from tests.sources.hub_server import COMMIT

_NAMES = ("config.json", "model.safetensors", "tokenizer_config.json")
_INFO = {
    "id": "acme/x",
    "sha": COMMIT,
    "lastModified": "2024-01-01T00:00:00.000Z",
    "siblings": [{"rfilename": name} for name in _NAMES],
    "tags": ["transformers"],
    "cardData": {"license": "mit"},
}


def answer(rng: Random) -> dict[str, Any]:
    """One or two answers that no hub should give, to what is asked of a model."""
    raw = {}
    for _ in range(rng.choice((1, 1, 2))):
        where = rng.random()
        body = mutated_json(rng, _INFO)
        paths = ["/api/models/acme/x", "/api/models/acme/x/revision/main"]
        headers = {"Content-Type": "application/json"}
        if where > 0.55:
            name = rng.choice(_NAMES)
            paths = [f"/acme/x/resolve/{commit}/{name}" for commit in (COMMIT, "main")]
            headers = {"ETag": '"a"', "X-Repo-Commit": COMMIT}
            body = mutated_json(rng, {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
        if rng.random() < 0.3:
            key = rng.choice((*headers, "Location", "X-Error-Code", "X-Error-Message", "Link"))
            value = rng.choice(TEXTS)[:200]
            headers[key] = (
                "".join(c for c in value if c not in "\r\n\0").encode("ascii", "ignore").decode()
            )
        status = rng.choice((200, 200, 200, 200, 206, 302, 401, 403, 404, 429, 500))
        text = body.decode("utf-8", errors="replace")
        for path in paths:
            raw[path] = {"status": status, "headers": headers, "body": text}
    run = ["suggest", "acme/x", "--gpus", "1GiB,1GiB", "--context", "16", "--no-verify", "-o", "-"]
    return {
        "files": {"repo": {"copy": "llama"}},
        "hub": {"repositories": {"acme/x": "repo"}, "raw": json.loads(json.dumps(raw))},
        "run": run,
    }
