"""Perplexity of texts, a batch at a time: ``python docs/examples/evaluation.py MAP TEXT_FILE``."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer

import devplan

BATCH = 4


def main(map_path: str, text_file: str, checkpoint: str | None = None, **load) -> float:
    model = devplan.load(checkpoint, map_path, **load)
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, padding_side="right")
    lines = Path(text_file).read_text(encoding="utf-8").splitlines()
    loss, num_tokens = 0.0, 0
    for start in range(0, len(lines), BATCH):
        batch = tokenizer(lines[start : start + BATCH], padding=True, return_tensors="pt")
        batch = devplan.to_main(model, batch)
        with torch.inference_mode():
            logits = model(**batch, use_cache=False).logits
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels, reduction="sum"
        )
        loss, num_tokens = loss + each.item(), num_tokens + int((labels != -100).sum())
    return math.exp(loss / num_tokens)


if __name__ == "__main__":
    print(f"{main(*sys.argv[1:]):.2f}")
