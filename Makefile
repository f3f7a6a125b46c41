# Every target sets itself up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN = $(VENV)/.run
DEV = $(VENV)/.dev
INIT = $(VENV)/init
MARKERS = --model marker-cnn --data markers-on-textures
NOWHERE = 0000000000000000000000000000000000000000

.PHONY: cards update calibrate test check bench test-peers test-oldest

cards: $(RUN)  ## measure the embedded subjects (quick) and leave cards in out/
	$(BIN)/cardgen run --budget quick --methods core --out out
	$(BIN)/cardgen run --budget quick --methods core $(MARKERS) --out out
	$(BIN)/cardgen compare evaluations out/evaluations

update: $(RUN)  ## measure at the budget of the committed cards and rewrite evaluations/ and cards/
	$(BIN)/cardgen run --budget standard --methods core --out .
	$(BIN)/cardgen run --budget standard --methods core $(MARKERS) --out .
	$(BIN)/cardgen run --budget quick --methods all --out .

calibrate: $(RUN)  ## how often verdicts are wrong; hours
	$(BIN)/cardgen calibrate --out .

test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cardgen catalogue --check
	$(BIN)/cardgen build --check
	$(BIN)/cardgen verify
	rm -rf $(INIT) && mkdir -p $(INIT)/.git
	cd $(INIT) && ../bin/cardgen init --repository octo/cards --action octo/cardgen@$(NOWHERE)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml $(INIT)/.github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/zizmor --offline --quiet --config .github/zizmor.yml .github action.yml $(INIT)/.github/workflows/*.yml

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks

test-peers: $(VENV)/.peers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/peers -m peers

test-oldest:
	$(MAKE) test VENV=.venv-oldest OLDEST="torch==2.6.0 torchvision==0.21.0"

$(RUN): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . $(OLDEST)
	touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' $(OLDEST)
	touch $@

$(VENV)/.peers: $(DEV)
	$(BIN)/python -m pip install --quiet --group peers
	touch $@
