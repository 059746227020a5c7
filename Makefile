PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/demo

.PHONY: demo demo-shards test check clean

demo: demo-shards $(VENV)/.installed-model
	OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node=2 -m mdetr_model train demo \
		--root $(DEMO) --output $(DEMO)/training
	$(BIN)/python -m mdetr_model evaluate grounding --model $(DEMO)/training/model \
		--shards $(DEMO)/shards --split val --output $(DEMO)/evaluation --pictures 12

demo-shards: $(VENV)/.installed
	rm -rf $(DEMO)
	$(BIN)/python -m pipelines.world $(DEMO)/world --images 3000 --brevity 1.5
	$(BIN)/python -m pipelines.build demo --root=$(DEMO)/world --output=$(DEMO)/shards

test: $(VENV)/.installed-model
	$(BIN)/python -m pytest

check: $(VENV)/.installed-model
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The language model has its own file, because pip asks for the hash of every line or of none.
$(VENV)/.installed: pyproject.toml constraints.txt model.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement model.txt
	touch $@

# The composer does without torch.
$(VENV)/.installed-model: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,model]"
	touch $@

clean:
	rm -rf $(VENV) build
