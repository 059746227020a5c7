"""Open-vocabulary detectors of transformers: boxes and scores of the phrases of a text.

Scores are computed from the outputs of the model. The post-processing of transformers would assign
each box to its best phrase only, and compose the phrases of Grounding DINO from tokens above a
threshold.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mdetr_model.modeling import MdetrConfig
from mdetr_model.modeling.positive_map import positive_map
from mdetr_model.modeling.postprocess import boxes_in_pixels
from mdetr_model.pretrained_files import pretrained_files
from schemas import Span

#: By ``model_type``; LLMDet is a model of the type mm-grounding-dino.
TOKEN_MODELS = ("grounding-dino", "mm-grounding-dino")
QUERY_MODELS = ("owlvit", "owlv2")
HUB_NAME = r"[\w.-]+/[\w.-]+"
SEPARATOR = ". "  # between the class names of a prompt


class Prompt(NamedTuple):
    """A text, and the spans of each phrase in it that is to be detected."""

    text: str
    phrases: list[list[Span]]

    def words(self) -> list[str]:
        """Returns the text of each phrase."""
        return [" ".join(self.text[begin:end] for begin, end in spans) for spans in self.phrases]


class Detections(NamedTuple):
    """The detected objects of a phrase.

    Attributes:
        boxes: (N, 4) float32, as xyxy in pixels.
        scores: (N,) float32.
    """

    boxes: Tensor
    scores: Tensor


class Detector(Protocol):
    """A model that detects the phrases of texts in images."""

    def class_prompts(self, names: Sequence[str]) -> list[Prompt]:
        """Returns prompts whose phrases are the class names, in order."""

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[list[Detections]]:
        """Returns the detections of each phrase of each pair of image and prompt."""


def is_other_detector(source: str) -> bool:
    """Returns whether a folder has a model other than MDETR, or a name is of the hub.

    A name whose first part is a folder is a path, such as ``RUN/model`` with a typing error.
    """
    if not Path(source).is_dir():
        is_path = Path(source.partition("/")[0]).is_dir()
        return not is_path and re.fullmatch(HUB_NAME, source) is not None
    config = Path(source, "config.json")
    return config.is_file() and _model_type(source) != MdetrConfig.model_type


def _model_type(source: str) -> str | None:
    kind: str | None = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    return kind


def read_detector(source: str, device: torch.device | str) -> Detector:
    """Reads a detector of transformers with its tokenizer and image processor.

    Args:
        source: a folder, or the name of a model in the hub.
        device: of the model.

    Raises:
        OSError: there is no such model, or it lacks a file.
        ValueError: a file is damaged, or the model is of another type.
    """
    with pretrained_files(source):
        kind = _model_type(source)
        if kind not in TOKEN_MODELS + QUERY_MODELS:
            supported = ", ".join(("mdetr", *TOKEN_MODELS, *QUERY_MODELS))
            raise ValueError(f"a model of type {kind!r}; the supported types are {supported}")
        model = AutoModelForZeroShotObjectDetection.from_pretrained(source).eval().to(device)
        image_processor = AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(source)
    detector = TokenDetector if kind in TOKEN_MODELS else QueryDetector
    return detector(model, image_processor, tokenizer)


class _TransformersDetector:
    """A model of transformers with its image processor and tokenizer."""

    def __init__(
        self, model: PreTrainedModel, image_processor: Any, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer


class TokenDetector(_TransformersDetector):
    """Grounding DINO, MM-Grounding-DINO and LLMDet, which score each token of a text.

    The score of a phrase is the mean of its tokens' probabilities, as in mmdetection. Texts are in
    lower case and end with a full stop.
    """

    def __init__(
        self, model: PreTrainedModel, image_processor: Any, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__(model, image_processor, tokenizer)
        self._max_tokens = int(model.config.max_text_len)

    def class_prompts(self, names: Sequence[str]) -> list[Prompt]:
        """Returns "cat. dog. ...", with as many classes in each prompt as the model can read."""
        texts = [name + SEPARATOR for name in names]
        lengths = [
            len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        ]
        groups: list[list[str]] = []
        free = 0
        for name, length in zip(names, lengths, strict=True):
            if length > free:
                groups.append([])
                free = self._max_tokens - self._tokenizer.num_special_tokens_to_add()
            groups[-1].append(name)
            free -= length
        return [joined(group) for group in groups]

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[list[Detections]]:
        """Returns all queries of each phrase; none if the text ends before, at its last token."""
        text = self._tokenizer(
            [_with_full_stop(prompt.text) for prompt in prompts],
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = text.pop("offset_mapping")
        pixels = self._image_processor(images=list(images), return_tensors="pt")
        device = self._model.device
        outputs = self._model(**text.to(device), **pixels.to(device))
        probabilities = outputs.logits.float().sigmoid().cpu()  # (B, Q, tokens)
        sizes = torch.tensor([(image.height, image.width) for image in images])
        boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
        detections = []
        for item, prompt in enumerate(prompts):
            rows = positive_map(offsets[item].numpy(), prompt.phrases).rows
            tokens = torch.from_numpy(rows[:, : probabilities.shape[-1]])
            detections.append(
                [
                    Detections(boxes[item], probabilities[item][:, of_phrase].mean(-1))
                    if of_phrase.any()
                    else NOTHING
                    for of_phrase in tokens
                ]
            )
        return detections


class QueryDetector(_TransformersDetector):
    """OWL-ViT and OWLv2, which score a list of texts: the phrases, without their context."""

    def __init__(
        self, model: PreTrainedModel, image_processor: Any, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__(model, image_processor, tokenizer)
        # OWLv2 pads images to a square, on the right and at the bottom.
        self._is_padded = model.config.model_type == "owlv2"

    def class_prompts(self, names: Sequence[str]) -> list[Prompt]:
        """Returns a prompt of all classes."""
        return [joined(names)]

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[list[Detections]]:
        """Returns a box of every patch for each phrase; the end of a phrase may not be read."""
        count = max(1, *(len(prompt.phrases) for prompt in prompts))
        queries = [prompt.words() for prompt in prompts]
        text = self._tokenizer(
            [query for words in queries for query in words + [" "] * (count - len(words))],
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        pixels = self._image_processor(images=list(images), return_tensors="pt")
        device = self._model.device
        outputs = self._model(
            input_ids=text["input_ids"].to(device),
            attention_mask=text["attention_mask"].to(device),
            pixel_values=pixels["pixel_values"].to(device),
        )
        scores = outputs.logits.float().sigmoid().cpu()  # (B, patches, count)
        sides = [(image.height, image.width) for image in images]
        sizes = torch.tensor(
            [(max(side), max(side)) if self._is_padded else side for side in sides]
        )
        boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
        return [
            [Detections(boxes[item], scores[item, :, number]) for number in range(len(words))]
            for item, words in enumerate(queries)
        ]


def joined(names: Sequence[str]) -> Prompt:
    """Returns a prompt of class names.

    >>> joined(["cat", "dog"])
    Prompt(text='cat. dog', phrases=[[(0, 3)], [(5, 8)]])
    """
    phrases: list[list[Span]] = []
    begin = 0
    for name in names:
        phrases.append([(begin, begin + len(name))])
        begin += len(name) + len(SEPARATOR)
    return Prompt(SEPARATOR.join(names), phrases)


#: The detections of a phrase that a model does not read.
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0))


def _with_full_stop(text: str) -> str:
    """Returns the text in lower case, and with a full stop; spans remain valid.

    "İ" is the only character that becomes two in lower case.
    """
    lower = text.replace("İ", "I").lower()
    return lower if lower.rstrip().endswith((".", "?")) else f"{lower}."
