# `make run` trains RAGAN on the embedded data set; `make test` runs the tests, and `make slow` those
# that take long; `make parity` compares the metrics and imported weights with their references,
# `make addons` those of TensorFlow Addons; `make browser` tests the page of --mode=demo; `make scale`
# sets trainings on several devices and by several processes beside the same on one; `make serving`
# exports and serves every model; `make chaos` kills trainings, fills their disks, and takes their
# data and workers away; `make docs` builds the documentation as a site; `make package` installs the
# package as a user does; `make fuzz` damages files and requests, and translates 20,000 pictures;
# `make guides` runs the commands of the guides.
# Each sets up all that it needs in .venv, and installs nothing when that is done already.
PYTHON ?= python3
VENV ?= .venv
ADDONS_PYTHON ?= python3.11
ADDONS ?= .venv-addons

.PHONY: run test slow parity addons browser scale serving chaos fuzz guides docs package lint clean
.DELETE_ON_ERROR:

# Small and fast, so that the animals have heads and legs within three minutes on two cores.
RUN = --set width=32 --set learning_rate=0.001 --precision=bfloat16 --steps=1400
run: $(VENV)/user
	$(VENV)/bin/python main.py --model=ragan --dataset=creatures/small $(RUN) --save_every=500 --run_dir=runs/animals
	@echo; echo "Try next:"
	@echo "  $(VENV)/bin/python main.py --mode=sample --weights=runs/animals --seed=1 --output=new.png"
	@if [ "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; \
	then echo "  $(VENV)/bin/python -m pip install -r requirements-demo.txt && $(VENV)/bin/python main.py --mode=demo"; \
	else echo "  $(VENV)/bin/python main.py --mode=gallery --output=gallery"; fi

test: $(VENV)/dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

# The tests that `make test` leaves out: whole studies, and every model in a graph, on two devices
# and resumed.
slow: $(VENV)/dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m slow

# Our metrics and FID's network against torch-fidelity, torchmetrics and SciPy, imported weights
# against PyTorch: a few minutes.
parity: $(VENV)/parity
	$(VENV)/bin/python -m pytest tests/parity_metrics.py tests/parity_inception.py tests/parity_bridge.py \
		tests/parity_translators.py tests/parity_steps.py

# Weights of TensorFlow Addons' layers, trained and saved by TensorFlow 2.15 in an environment of
# its own (1.3 GB).
addons: $(VENV)/dev $(ADDONS)/done
	ADDONS=$(ADDONS) $(VENV)/bin/python -m pytest tests/parity_addons.py

# The page in Chromium: the system's, or else the one that Playwright fetches.
browser: $(VENV)/browser
	$(VENV)/bin/python -m pytest tests/browser_demo.py

# Every model for 20 steps on one device, on two, by two and by four processes, and through XLA.
scale: $(VENV)/user
	$(VENV)/bin/python tools/scale.py

# Every model exported and served, each signature asked by REST and gRPC; writes docs/signatures.md.
serving: $(VENV)/dev
	$(VENV)/bin/python tools/serving_check.py

# A hundred kills at random moments of RAGAN and of AttentionGAN, and the other ends that a run may
# meet, each going on to the end of one that nothing disturbed.
chaos: $(VENV)/user
	$(VENV)/bin/python tools/chaos.py

# 20,000 damaged files and requests, each read or refused in one sentence; 20,000 pictures of 200
# sizes, translated within the same memory.
fuzz: $(VENV)/user
	$(VENV)/bin/python tools/fuzz.py --number=20000
	$(VENV)/bin/python tools/soak.py

# Every command of docs/guides, in order, with networks of a few weights and two steps: ten minutes.
guides: $(VENV)/dev
	$(VENV)/bin/python tools/check_guides.py

# The site, in site/, and the page that its gallery shows.
docs: $(VENV)/docs $(VENV)/user
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	$(VENV)/bin/python main.py --mode=gallery --output=site/gallery/page

# The wheel in a fresh environment, beside Hugging Face's packages: ten minutes and 3 GB.
package: $(VENV)/dev
	$(VENV)/bin/python tools/check_package.py

# Also whether a table of the documentation differs from docs/results.
lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python tools/results.py --check

$(VENV)/pip:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, not %d.%d: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	touch $@

# The package too, by a link to this checkout, so that `import attention_zoo` works in .venv.
$(VENV)/user: requirements.txt pyproject.toml | $(VENV)/pip
	$(VENV)/bin/python -m pip install --quiet -e .
	touch $@

# The official messages of TensorFlow Serving, without the `tensorflow` that they ask for: another
# build of it may be there.
$(VENV)/dev: requirements-dev.txt $(VENV)/user
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps tensorflow-serving-api==2.21.0
	touch $@

$(VENV)/parity: requirements-parity.txt $(VENV)/dev
	$(VENV)/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)/bin/python -m pip install --quiet --no-deps -r requirements-parity.txt
	touch $@

$(VENV)/docs: requirements-docs.txt | $(VENV)/pip
	$(VENV)/bin/python -m pip install --quiet -r requirements-docs.txt
	touch $@

$(VENV)/browser: requirements-demo.txt $(VENV)/dev
	$(VENV)/bin/python -m pip install --quiet -r requirements-demo.txt 'playwright>=1.65'
	command -v chromium || command -v chromium-browser || command -v google-chrome || $(VENV)/bin/python -m playwright install chromium
	touch $@

$(ADDONS)/done:
	$(ADDONS_PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 9) <= v[:2] <= (3, 11) else "Python 3.9, 3.10 or 3.11 is needed, not %d.%d: make ADDONS_PYTHON=python3.11 addons" % v[:2])'
	$(ADDONS_PYTHON) -m venv $(ADDONS)
	$(ADDONS)/bin/python -m pip install --quiet tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
	touch $@

clean:
	rm -rf $(VENV) $(ADDONS) build dist site *.egg-info
