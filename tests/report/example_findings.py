"""Results of checks as a report meets them: every field of a finding is there once."""

from __future__ import annotations

from dataclasses import replace

from devplan.core.device_map import Entry
from devplan.core.findings import (
    CheckResult,
    Finding,
    Fix,
    OperandFact,
    RunRecord,
    Severity,
    SourceLine,
)

MAP = "maps/a map, 50%.yaml"
ENTRIES = (
    Entry(key="model.visual", device="cuda:0", written="0", file=MAP, line=3),
    Entry(key="model.language_model", device="cuda:1", written="1", file=MAP, line=4),
    Entry(key="lm_head", device="cuda:1", written="1", file=MAP, line=5),
)

MISMATCH = Finding(
    code="DP301",
    severity=Severity.ERROR,
    message="aten.index.Tensor in model mixes self on cuda:0 and indices[0] on cuda:1 (prefill)",
    module="model",
    op="aten.index.Tensor",
    source=SourceLine(
        file="transformers/models/qwen2_vl/modeling_qwen2_vl.py",
        line=1489,
        function="get_rope_index",
        text="input_ids = input_ids[attention_mask[i] == 1]",
    ),
    tensors=(
        OperandFact(argument="self", device="cuda:0", shape=(64,), dtype="int64", num_bytes=512),
        OperandFact(argument="indices[0]", device="cuda:1", shape=(), dtype="bool", num_bytes=1),
    ),
    entry=ENTRIES[1],
    pytorch_message="indices should be either on cpu or on the same device as the indexed tensor "
    "(cuda:0)",
    fix=Fix(
        text="change the map, or move indices[0] to the device of the others in that line of code",
        changed_entries={"model.language_model.embed_tokens": "cuda:0", "lm_head": "cuda:0"},
    ),
    count=3,
)
EMBEDDING = Finding(
    code="DP205",
    severity=Severity.WARNING,
    message="the input embedding model.language_model.embed_tokens is on cuda:1, the inputs enter "
    "at cuda:0",
    module="model.language_model.embed_tokens",
    entry=ENTRIES[1],
    fix=Fix(
        text="put it on cuda:0", changed_entries={"model.language_model.embed_tokens": "cuda:0"}
    ),
)
VERSIONS = Finding(
    code="DP501",
    severity=Severity.NOTE,
    message="the map was made with torch 2.12.1 (installed: 2.13.0)\nand <other> & \x1b[1mthings",
    module="torch",
)
TIED = replace(
    EMBEDDING,
    code="DP203",
    severity=Severity.ERROR,
    message="model.embed_tokens.weight on cuda:0 is the same tensor as lm_head.weight on cuda:1",
    ignored_because="the head is trained apart",
)

RUN = RunRecord(
    phases=("prefill", "decode 1"),
    inputs="text of 64 tokens, 1 image of 224 x 448; batch 1",
    num_ops=35_000,
    notes=("28 layers were folded into 2",),
)
FOUND = CheckResult(
    map_name=MAP,
    model="Qwen/Qwen2-VL-7B-Instruct",
    class_name="Qwen2VLForConditionalGeneration",
    findings=(MISMATCH, EMBEDDING, VERSIONS),
    ignored=(TIED,),
    entries=ENTRIES,
    runs=(RUN,),
    versions={"torch": "2.13.0"},
)
CLEAN = replace(FOUND, map_name="device_map", findings=(), ignored=(), entries=())
