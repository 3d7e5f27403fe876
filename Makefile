# Everything sets itself up: a virtual environment in .venv, then the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Small networks and batches are fastest on one thread each.
export OMP_NUM_THREADS ?= 1
ifndef DEMO
DEMO := runs/demo-$(shell date +%Y%m%d-%H%M%S)
endif

.PHONY: demo demo-all test test-slow test-all lint format bench notebooks clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.benchmarks: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[benchmarks]'
	touch $@

$(VENV)/.notebooks: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[notebooks]'
	touch $@

demo: $(VENV)/.installed  ## train on the default environment, compare, draw: a small version of the README's commands
	$(BIN)/python -m train ppo --out $(DEMO)/ppo
	$(BIN)/python -m train compare --out $(DEMO)/compare --episodes 100 \
	  --agents price sdp budget exact sparrow end-cloud end-edge random ppo:$(DEMO)/ppo
	$(BIN)/python -m train evaluate ppo:$(DEMO)/ppo --episodes 100 --picture $(DEMO)/drive.png
	$(BIN)/python -m train reproduce training-offload --out $(DEMO)/paper
	@echo "all results are in $(DEMO); watch the training with: $(BIN)/tensorboard --logdir $(DEMO)"

demo-all: demo  ## the same on every other environment
	$(BIN)/python -m train ppo --env mec/EarlyExitPartition-v2 --total-timesteps 150_000 \
	  --out $(DEMO)/early-exit/ppo
	$(BIN)/python -m train compare --env mec/EarlyExitPartition-v2 --out $(DEMO)/early-exit/compare \
	  --episodes 100 --agents price exact dapdee dads mincut device-only random \
	  ppo:$(DEMO)/early-exit/ppo
	$(BIN)/python -m train evaluate ppo:$(DEMO)/early-exit/ppo \
	  --episodes 100 --picture $(DEMO)/early-exit/episode.png
	$(BIN)/python -m train reproduce early-exit --out $(DEMO)/early-exit/paper
	$(BIN)/python -m train ppo --env mec/DistributedInference-v1 --total-timesteps 80_000 \
	  --out $(DEMO)/inference/ppo
	$(BIN)/python -m train mtl-a3c --env mec/DistributedInference-v1 --total-timesteps 80_000 \
	  --out $(DEMO)/inference/mtl-a3c
	$(BIN)/python -m train compare --env mec/DistributedInference-v1 --out $(DEMO)/inference/compare \
	  --episodes 100 --agents ppo:$(DEMO)/inference/ppo mtl-a3c:$(DEMO)/inference/mtl-a3c \
	  deadline-descent coordinate-descent sequential-greedy greedy neurosurgeon edge-only \
	  device-only clairvoyant
	$(BIN)/python -m train evaluate ppo:$(DEMO)/inference/ppo \
	  --episodes 100 --picture $(DEMO)/inference/episode.png
	$(BIN)/python -m train ppo --env mec/PipelineTraining-v0 --total-timesteps 40_000 \
	  --out $(DEMO)/pipeline/ppo
	$(BIN)/python -m train compare --env mec/PipelineTraining-v0 --out $(DEMO)/pipeline/compare \
	  --episodes 100 --agents patience hysteresis replan keep single-device clairvoyant \
	  ppo:$(DEMO)/pipeline/ppo
	$(BIN)/python -m train evaluate ppo:$(DEMO)/pipeline/ppo \
	  --episodes 100 --picture $(DEMO)/pipeline/episode.png
	$(BIN)/python -m train ppo --env mec/FederatedTraining-v0 --total-timesteps 8_192 \
	  --eval-episodes 4 --out $(DEMO)/federated/ppo
	$(BIN)/python -m train compare --env mec/FederatedTraining-v0 --out $(DEMO)/federated/compare \
	  --episodes 8 --agents linear random-m random ppo:$(DEMO)/federated/ppo
	$(BIN)/python -m train evaluate ppo:$(DEMO)/federated/ppo \
	  --episodes 1 --picture $(DEMO)/federated/episode.png
	$(BIN)/python -m train ppo --env mec/GossipTraining-v0 --total-timesteps 4_096 \
	  --eval-episodes 4 --out $(DEMO)/gossip/ppo
	$(BIN)/python -m train compare --env mec/GossipTraining-v0 --out $(DEMO)/gossip/compare \
	  --episodes 8 --agents linear all-reduce matching nobody ppo:$(DEMO)/gossip/ppo
	$(BIN)/python -m train evaluate ppo:$(DEMO)/gossip/ppo \
	  --episodes 1 --picture $(DEMO)/gossip/episode.png
	@echo "all results are in $(DEMO); watch the training with: $(BIN)/tensorboard --logdir $(DEMO)"

test: $(VENV)/.installed  ## the fast tests: a few minutes on 2 cores
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(VENV)/.installed  ## the others: real training runs, notebooks, large scenarios
	$(BIN)/python -m pytest -n auto -m slow

test-all: test test-slow  ## every test

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.benchmarks  ## speed: environments, solvers, searches, PPO, A3C
	$(BIN)/python -m benchmarks

notebooks: $(VENV)/.notebooks
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
