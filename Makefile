# Two commands do everything from a fresh clone with nothing but Python:
#   make demo   segments a synthetic sample with the built-in model and draws the result
#   make test   lint, types, tests and the documentation, as CI does
# and, for those who change what can be seen:
#   make pictures   draws the pictures of the documentation anew
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --constraint

.PHONY: demo test lint types tests docs browser pictures clean

demo: $(VENV)/.demo
	mkdir -p demo
	$(BIN)/sct_rootlets sample demo/sample_T2w.nii.gz
	$(BIN)/sct_deepseg rootlets -model starter -i demo/sample_T2w.nii.gz -qc demo/qc
	$(BIN)/sct_rootlets picture -i demo/sample_T2w.nii.gz \
		-s demo/sample_T2w_rootlets.nii.gz -o demo/sample_T2w_rootlets.png
	@echo "Look at demo/sample_T2w_rootlets.png, or open demo/qc/index.html in a browser."

test: lint types docs tests

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

tests: $(VENV)/.test browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

docs: $(VENV)/.test
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html

pictures: $(VENV)/.test browser
	$(BIN)/python docs/make_pictures.py

# The report's tests drive a real browser. Where it is missing and cannot be installed, they are
# skipped, or fail in CI.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } \
		|| echo "Chromium is not installed; the tests that need it are skipped."

$(VENV)/.demo: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) constraints.txt --no-compile --editable '.[qc]'
	touch $@

$(VENV)/.test: setup.cfg constraints.txt constraints-checks.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) constraints-checks.txt --editable '.[torch,qc,test,docs]'
	touch $@

clean:
	rm -rf $(VENV) demo docs/_build docs/generated build *.egg-info
