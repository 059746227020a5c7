"""Importing the package, in new interpreters."""

import subprocess
import sys
from pathlib import Path

import pytest

import mdetr_model
from mdetr_model import MdetrImageProcessor
from tests.mdetr_model.small import tiny_model

HEAVY = ("torch", "transformers", "numpy", "scipy")
# The script that pip installs for a console command.
CONSOLE_SCRIPT = "import sys\nfrom mdetr_model.__main__ import main\nsys.exit(main())\n"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_importing_a_class_registers_all_auto_classes(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    MdetrImageProcessor().save_pretrained(tmp_path)
    names = ("AutoConfig", "AutoModel", "AutoModelForZeroShotObjectDetection", "AutoImageProcessor")
    lines = [f"from transformers import {', '.join(names)}", "from mdetr_model import MdetrConfig"]
    lines += [f"print(type({name}.from_pretrained({str(tmp_path)!r})).__name__)" for name in names]
    printed = run_python("-c", "\n".join(lines)).stdout.split()
    assert printed == ["MdetrConfig", "MdetrModel", "MdetrForGrounding", "MdetrImageProcessor"]


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'MdetrForCaptioning'"):
        _ = mdetr_model.MdetrForCaptioning


@pytest.mark.parametrize("is_script", [False, True], ids=["python -m", "console script"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["ground", "--help"], ["play", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(tmp_path: Path, is_script: bool, arguments: list[str]) -> None:
    (tmp_path / "mdetr").write_text(CONSOLE_SCRIPT)
    program = [str(tmp_path / "mdetr")] if is_script else ["-m", "mdetr_model"]
    done = run_python("-X", "importtime", *program, *arguments)
    assert "usage: " in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported.intersection(HEAVY)
