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
picture = Image.new("RGB", (64, 64))

found = []
for line in Path(file).read_text().splitlines():
    record = json.loads(line)
    text, at, boxes = "", 0, []
    for start, stop, *rest in record["noun_chunks"]:
        if start >= at:  # a phrase has all its boxes together in Kosmos-2's text
            text += (
                record["caption"][at:start] + f"<phrase>{record['caption'][start:stop]}</phrase>"
            )
            at = stop
            boxes.append(tuple(rest[:4]))
    text += record["caption"][at:]
    inputs = processor(images=picture, text=f"<grounding>{text}", bboxes=boxes, return_tensors="pt")
    decoded = fast.decode(inputs["input_ids"][0])
    answer = decoded[decoded.index("<grounding>") :].replace("</s>", "")
    caption, entities = processor.post_process_generation(answer)
    found.append({"caption": caption, "entities": entities, "boxes": boxes})
Path(result).write_text(json.dumps(found))
