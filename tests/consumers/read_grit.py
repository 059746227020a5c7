"""Kosmos-2's processor encodes and decodes captions and boxes of GRIT: RESULT JSONL.

Its tokenizer is a byte-level one, built here. Decoded boxes are on a grid of 32 by 32.
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

captions = []
for line in Path(file).read_text().splitlines():
    record = json.loads(line)
    caption, end, text = record["caption"], 0, ""
    boxes: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for start, stop, *box, _ in record["ref_exps"]:
        boxes.setdefault((start, stop), []).append(tuple(box))
    for start, stop in sorted(boxes):  # the boxes of a phrase follow its text
        assert start >= end, "a phrase within a phrase"
        text += caption[end:start] + f"<phrase>{caption[start:stop]}</phrase>"
        end = stop
    phrase_boxes = [boxes[span] for span in sorted(boxes)]
    text = f"<grounding>{text}{caption[end:]}"
    inputs = processor(images=image, text=text, bboxes=phrase_boxes, return_tensors="pt")
    decoded = fast.decode(inputs["input_ids"][0])
    answer = decoded[decoded.index("<grounding>") :].replace("</s>", "")
    clean, entities = processor.post_process_generation(answer)
    captions.append({"caption": clean, "entities": entities})
Path(result).write_text(json.dumps(captions))
