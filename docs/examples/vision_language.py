"""A question about a picture: ``python docs/examples/vision_language.py MAP PICTURE [FOLDER]``."""

from __future__ import annotations

import sys

from PIL import Image
from transformers import AutoProcessor

import devplan

QUESTION = "what is in the picture"


def main(map_path: str, picture: str, checkpoint: str | None = None, **load) -> str:
    model = devplan.load(checkpoint, map_path, **load)
    processor = AutoProcessor.from_pretrained(model.name_or_path)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}])
    inputs = processor(images=Image.open(picture), text=prompt, return_tensors="pt")
    inputs = devplan.to_main(model, inputs).to(model.dtype)
    made = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    return processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
