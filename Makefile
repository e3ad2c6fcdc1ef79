# Every target makes its own environment in .venv first; set PYTHON to choose the interpreter.
PYTHON ?= python3
LOWEST_PYTHON ?= python3.10
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

.PHONY: demo app space docs figures test test-slow test-browser browser quality style package test-lowest bench install \
	train-quickstart clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/feat2img compare examples/quickstart/gan examples/quickstart/diffusion --dataset scikit-image \
		--verifier none --output_dir out/demo
	@echo "report: out/demo/report.html"

app: install
	$(BIN)/feat2img app

# A folder to upload as a Space: the app's files, the package, and the quickstart pair.
SPACE ?= out/space
space:
	rm -rf $(SPACE) && mkdir -p $(SPACE)/pipelines
	cp examples/space/* $(SPACE)/
	cp -r feat2img $(SPACE)/ && find $(SPACE) -name __pycache__ -prune -exec rm -rf {} +
	cp -r examples/quickstart/* $(SPACE)/pipelines/
	@echo "upload with: hf upload USER/NAME $(SPACE) . --repo-type space"

# Tests run side by side, each with one thread: most are small, and many wait for processes of their own.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test: install
	$(PYTEST) -m "not slow"

test-slow: install
	$(PYTEST)

test-browser: browser $(VENV)/.installed-browser
	FEAT2IMG_BROWSER=1 $(BIN)/python -m pytest -q tests/evaluation/test_browser.py tests/app/test_app_browser.py

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
	$(BIN)/mypy --config-file setup.cfg

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# sdist and wheel in dist/; the wheel in an environment of its own, away from this folder.
package: install
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/package
	build/package/bin/python -m pip install --quiet dist/feat2img-*.whl
	cd build/package && bin/feat2img --version && bin/feat2img reconstruct ../../examples/quickstart/gan \
		../../docs/source/figures/quickstart.jpg --output_dir out

# The lowest versions of setup.cfg and the oldest Python; what pins them together is read from setup.cfg.
test-lowest:
	$(LOWEST_PYTHON) -m venv build/lowest
	build/lowest/bin/python tests/lowest.py train > build/lowest/requirements.txt
	build/lowest/bin/python -m pip install --quiet -r build/lowest/requirements.txt --editable ".[test]"
	$(subst $(BIN),build/lowest/bin,$(PYTEST)) -m "not slow"

# BENCH_FLAGS="--dataset FOLDER" measures on photos of yours, BENCH_FLAGS=--quick tries whether all of it runs.
bench: install
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

train-quickstart: install
	$(BIN)/accelerate launch examples/train_gan.py $(QUICKSTART_FLAGS) --output_dir out/quickstart/gan
	$(BIN)/accelerate launch examples/train_diffusion.py $(QUICKSTART_FLAGS) --first_guess out/quickstart/gan \
		--output_dir out/quickstart/diffusion

# Every warning is an error: a broken link, a reference to something that is not there, a page that nothing leads to.
docs: install
	$(BIN)/python -m sphinx -W --keep-going -n -q docs/source out/docs
	@echo "documentation: out/docs/index.html"

figures: install
	$(BIN)/python docs/figures.py

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
