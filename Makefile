# `make run` trains RAGAN on the embedded data set; `make test` runs the tests; `make parity` compares
# the metrics with their references. Each sets up all that it needs in .venv, and installs nothing
# when that is done already.
PYTHON ?= python3
VENV ?= .venv

.PHONY: run test parity lint clean
.DELETE_ON_ERROR:

run: $(VENV)/user
	$(VENV)/bin/python main.py --model=ragan --dataset=creatures --sample_every=200 --save_every=200

test: $(VENV)/dev
	$(VENV)/bin/python -m pytest

# Our metrics and FID's network against torch-fidelity, torchmetrics and SciPy: a few minutes.
parity: $(VENV)/parity
	$(VENV)/bin/python -m pytest tests/parity_metrics.py tests/parity_inception.py

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .

$(VENV)/pip:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, not %d.%d: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/user: requirements.txt | $(VENV)/pip
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/user
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@

$(VENV)/parity: requirements-parity.txt $(VENV)/dev
	$(VENV)/bin/python -m pip install --quiet torch==2.13.0 scipy
	$(VENV)/bin/python -m pip install --quiet --no-deps -r requirements-parity.txt
	touch $@

clean:
	rm -rf $(VENV)
