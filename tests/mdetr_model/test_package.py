"""What importing the package does, in new interpreters."""

import subprocess
import sys
from pathlib import Path

import pytest

import mdetr_model
from mdetr_model import MdetrImageProcessor
from tests.mdetr_model.small import tiny_model

HEAVY = ("torch", "transformers", "numpy", "scipy")
# What pip writes for a command of a package.
INSTALLED = "import sys\nfrom mdetr_model.__main__ import main\nsys.exit(main())\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "imports",
    [
        "import mdetr_model\nfrom transformers import {names}",
        "from transformers import {names}\nimport mdetr_model",
    ],
    ids=["before transformers", "behind transformers"],
)
def test_importing_the_package_is_enough_for_the_auto_classes(tmp_path: Path, imports: str) -> None:
    tiny_model().save_pretrained(tmp_path)
    MdetrImageProcessor().save_pretrained(tmp_path)
    names = ("AutoConfig", "AutoModel", "AutoModelForZeroShotObjectDetection", "AutoImageProcessor")
    lines = [imports.format(names=", ".join(names))]
    lines += [f"print(type({name}.from_pretrained({str(tmp_path)!r})).__name__)" for name in names]
    found = run("-c", "\n".join(lines)).stdout.split()
    assert found == ["MdetrConfig", "MdetrModel", "MdetrForGrounding", "MdetrImageProcessor"]


@pytest.mark.parametrize("installed", [False, True], ids=["module", "installed command"])
@pytest.mark.parametrize("arguments", [["--help"], ["ground", "--help"]], ids=" ".join)
def test_help_needs_nothing_heavy(tmp_path: Path, installed: bool, arguments: list[str]) -> None:
    (tmp_path / "mdetr").write_text(INSTALLED)
    program = [str(tmp_path / "mdetr")] if installed else ["-m", "mdetr_model"]
    done = run("-X", "importtime", *program, *arguments)
    assert "usage: mdetr" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported.intersection(HEAVY)


@pytest.mark.parametrize(
    "program, command, own",
    [
        ("-m", "python -m mdetr_model ground", True),
        ("/usr/bin/mdetr", "python /usr/bin/mdetr convert", True),
        # A package that imports this one while Python still looks for its main module.
        ("-m", "python -m trainer", False),
        ("-m", "python -m trainer mdetr_model", False),
        ("-m", "python -u -m mdetr_model train", True),
        ("-m", "python -mtrainer mdetr_model", False),
        ("/home/trainer/__main__.py", "python -m trainer mdetr_model", False),
        ("train.py", "python train.py mdetr", False),
        ("", "python", False),
        ("-c", "python -c", False),
    ],
)
def test_programs_of_others_have_all_of_it(
    monkeypatch: pytest.MonkeyPatch, program: str, command: str, own: bool
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", command.split())
    assert mdetr_model._is_own_command() is own
