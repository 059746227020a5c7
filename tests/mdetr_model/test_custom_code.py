"""A folder saved with its code is loaded by a process that cannot import this project."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SAVE = """
import sys
from mdetr_model import MdetrProcessor, register_custom_code
from mdetr_model.modeling import MdetrForGrounding, MdetrForQuestionAnswering
register_custom_code()
processor = MdetrProcessor.from_pretrained(sys.argv[1])
config = MdetrForGrounding.from_pretrained(sys.argv[1]).config
for kind, folder in zip((MdetrForGrounding, MdetrForQuestionAnswering), sys.argv[2:]):
    config.answer_heads = [["total", 3]] if kind is MdetrForQuestionAnswering else []
    kind(config).save_pretrained(folder)
    processor.save_pretrained(folder)
"""
THIRD_PERSON = """
import importlib.util, sys
sys.path.append(sys.argv[1])
for package in ("mdetr_model", "schemas", "shards", "pipelines"):
    assert importlib.util.find_spec(package) is None, package
import torch
from PIL import Image
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline
from transformers import AutoModelForZeroShotObjectDetection
grounding, answering, path = sys.argv[2:]
image, options = Image.open(path), {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(grounding, **options)
inputs = processor(images=image, text="a red ball", return_tensors="pt")
model = AutoModelForZeroShotObjectDetection.from_pretrained(grounding, **options).eval()
[result] = processor.post_process_grounded_object_detection(
    model(**inputs), threshold=0, text_threshold=0, target_sizes=[(image.height, image.width)]
)
assert result["text_labels"] == ["a red ball"] * 6, result
labels = processor.make_labels("a red ball", [[[(2, 10)]]], [[(1, 2, 30, 40)]], [(60, 200)])
assert model(**inputs, labels=labels).loss.isfinite()
detector = pipeline("zero-shot-object-detection", model=grounding, **options)
objects = detector(image, candidate_labels=["cat", "red dog"], threshold=0.0)
assert len(objects) == 12 and {each["label"] for each in objects} == {"cat", "red dog"}
model = AutoModelForVisualQuestionAnswering.from_pretrained(answering, **options).eval()
assert processor.post_process_answers(model(**inputs))[0]["type"] == "total"
"""


@pytest.fixture(scope="module")
def folders(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model for grounding and one for question answering."""
    root = tmp_path_factory.mktemp("with_code")
    paths = [root / "grounding", root / "answering"]
    subprocess.run([sys.executable, "-c", SAVE, model_folder, *paths], check=True, timeout=300)
    return paths


def test_third_person_grounds_a_caption(folders: list[Path], image: Path, tmp_path: Path) -> None:
    # Without site, the .pth file of an editable installation is not read.
    site_packages = sysconfig.get_paths()["purelib"]
    home = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | home
    command = [sys.executable, "-I", "-S", "-c", THIRD_PERSON, site_packages, *folders, image]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_code_is_saved_only_when_asked_for(model_folder: Path) -> None:
    assert not list(model_folder.glob("*.py"))
