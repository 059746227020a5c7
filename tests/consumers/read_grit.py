"""Kosmos-2's processor takes captions and boxes of GRIT, and gives them back: RESULT JSONL.

Its tokenizer is one of single bytes, made here. Boxes come back on its grid of 32 by 32.
"""

import json
import sys
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Kosmos2Processor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

result, file = sys.argv[1:]
special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
words = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
processor = Kosmos2Processor(CLIPImageProcessorPil(size={"shortest_edge": 224}), fast)
image = Image.new("RGB", (64, 64))

found = []
for line in Path(file).read_text().splitlines():
    record = json.loads(line)
    caption, at, text = record["caption"], 0, ""
    boxes: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for start, stop, *box, _ in record["ref_exps"]:
        boxes.setdefault((start, stop), []).append(tuple(box))
    for start, stop in sorted(boxes):  # Kosmos-2's text has the boxes behind their phrase
        assert start >= at, "a phrase within a phrase"
        text += caption[at:start] + f"<phrase>{caption[start:stop]}</phrase>"
        at = stop
    of_phrases = [boxes[span] for span in sorted(boxes)]
    text = f"<grounding>{text}{caption[at:]}"
    inputs = processor(images=image, text=text, bboxes=of_phrases, return_tensors="pt")
    decoded = fast.decode(inputs["input_ids"][0])
    answer = decoded[decoded.index("<grounding>") :].replace("</s>", "")
    clean, entities = processor.post_process_generation(answer)
    found.append({"caption": clean, "entities": entities})
Path(result).write_text(json.dumps(found))
