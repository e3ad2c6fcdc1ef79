# Every target makes its own environment in .venv first; set PYTHON to choose the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

# Data and settings of `make train-quickstart`.
DATASET ?= frgfm/imagenette
MINUTES ?= 60
ENCODER_WEIGHTS ?=
QUICKSTART_FLAGS = --preset quickstart --dataset_name $(DATASET) --max_train_minutes $(MINUTES) \
	--resume_from_checkpoint latest $(if $(ENCODER_WEIGHTS),--encoder_weights $(ENCODER_WEIGHTS))

# The browser that `make test-browser` shows the report in.
HAS_BROWSER = { command -v chromium || command -v google-chrome; } >/dev/null && command -v chromedriver >/dev/null
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo test test-slow test-browser browser quality style bench install train-quickstart clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/feat2img compare examples/quickstart/gan examples/quickstart/diffusion --dataset scikit-image \
		--num_inference_steps 4 25 --verifier none --output_dir out/demo
	@echo "report: out/demo/report.html"

test: install
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -q

test-browser: browser $(VENV)/.installed-browser
	FEAT2IMG_BROWSER=1 $(BIN)/python -m pytest -q tests/evaluation/test_browser.py

$(VENV)/.installed-browser: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[browser]"
	touch $@

browser:
	@if ! { $(HAS_BROWSER); } && command -v apt-get >/dev/null; then \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium chromium-driver; fi; \
	{ $(HAS_BROWSER); } || { echo "make test-browser needs chromium and chromedriver on the PATH" \
		"(Debian: apt-get install chromium chromium-driver)" >&2; exit 1; }

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# BENCH_FLAGS="--dataset FOLDER" measures on photos of yours, BENCH_FLAGS=--quick tries whether all of it runs.
bench: install
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

train-quickstart: install
	$(BIN)/accelerate launch examples/train_gan.py $(QUICKSTART_FLAGS) --output_dir out/quickstart/gan
	$(BIN)/accelerate launch examples/train_diffusion.py $(QUICKSTART_FLAGS) --first_guess out/quickstart/gan \
		--output_dir out/quickstart/diffusion

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache
