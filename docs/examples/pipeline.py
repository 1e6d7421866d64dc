"""Text through a pipeline of transformers: ``python docs/examples/pipeline.py MAP [CHECKPOINT]``.

The pipeline takes the model as it is: it sends its inputs to the device of the map's first entry,
which in a map of devplan's is the main device.
"""

from __future__ import annotations

import sys

from transformers import AutoTokenizer, pipeline

import devplan


def main(map_path: str, checkpoint: str | None = None, prompt: str = "the", **load) -> str:
    model = devplan.load(checkpoint, map_path, **load)
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer)
    return generate(prompt, max_new_tokens=20, do_sample=False)[0]["generated_text"]


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
