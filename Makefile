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

.PHONY: demo test test-slow quality style install train-quickstart clean

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

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-quickstart: install
	$(BIN)/accelerate launch examples/train_gan.py $(QUICKSTART_FLAGS) --output_dir out/quickstart/gan
	$(BIN)/accelerate launch examples/train_diffusion.py $(QUICKSTART_FLAGS) --output_dir out/quickstart/diffusion

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache
