# Two commands are all a fresh machine needs: `make demo` and `make test`. Each makes a virtual environment if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The engine of `make demo`: gpu where NVIDIA's driver is or where this environment has it already (there must never be both), else cpu.
ENGINE ?= $(shell command -v nvidia-smi >/dev/null || ls -d $(VENV)/*/*/*/onnxruntime_gpu-* >/dev/null 2>&1 && echo gpu || echo cpu)

.PHONY: demo test quick check docs constraints tritonclient kserveclient schemathesis clean

demo: $(VENV)/.demo
	$(BIN)/deploykit demo

# Memory that is let go stays with the process: the kernel otherwise zeroes it anew for each large array, a fifth of the time of large
# networks. Read by glibc when a process starts.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

# Two processes, each with whole files of tests, so that what the tests of a file share is made once; in the order of tests/conftest.py.
# One that dies ends the run: xdist would go on, and wait for ever for the tests that it had.
test: check
	$(KEEP_MEMORY) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

quick: check
	$(KEEP_MEMORY) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -m "not slow and not gpu"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/docs; a warning is an error. Open build/docs/index.html: it needs no server and no network.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going --quiet --fresh-env --write-all --doctree-dir build/doctrees docs build/docs

# Names and versions of everything that is installed now, and the other engine in the same version; run after the suite has passed with new versions.
constraints: $(VENV)/.dev
	$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools \
		| awk '/^onnxruntime-gpu==/ { other = $$0; sub("-gpu", "", other); print other } { print }' > constraints.txt

# What the tests ask the server with, each in an environment of its own: Triton's and KServe's own clients, whose versions of protobuf and
# ml_dtypes are not those of this project, and schemathesis, which makes requests out of the OpenAPI document.
tritonclient kserveclient schemathesis: %: .venv-%/.done

.venv-tritonclient/.done: PACKAGE := tritonclient[http,grpc]==2.73.0
.venv-kserveclient/.done: PACKAGE := kserve==0.21.0
.venv-schemathesis/.done: PACKAGE := schemathesis==4.32.5

.venv-tritonclient/.done .venv-kserveclient/.done .venv-schemathesis/.done:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check "$(PACKAGE)"
	touch $@

clean:
	rm -rf $(VENV) .venv-tritonclient .venv-kserveclient .venv-schemathesis build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit('deploykit needs Python 3.11 or newer, this is ' + sys.version.split()[0] if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[$(ENGINE),export]"
	echo $(ENGINE) > $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	if [ "$$(cat $(VENV)/.demo 2>/dev/null)" = cpu ]; then $(BIN)/python -m pip uninstall --quiet --yes onnxruntime; fi
	$(PIP) --editable ".[dev]"
	echo gpu > $(VENV)/.demo
	touch $@
