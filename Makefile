# make setup | demo | test | check | bench | lock | clean
.PHONY: setup demo test check bench lock clean
VENV := .venv
PY := $(VENV)/bin/python
# CPU-only torch (about 0.2 GB instead of several GB of CUDA libraries): make setup TORCH=cpu
TORCH ?=
DEMO ?= demo

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock
	@test -x $(PY) || python3 -m venv $(VENV) || { echo "make: python3 -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: prodrec needs Python >= 3.11; python3 here is $$($(PY) -V)" >&2; exit 2; }
	@test -x $(VENV)/bin/uv || $(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	@# Compiled once: else every process that may not write bytecode (Ray starts many) compiles torch anew, 5 s instead of 2.
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(PY) --constraints requirements.lock $(if $(TORCH),--torch-backend $(TORCH)) --editable '.[dev]'
	@touch $@

demo: setup
	rm -rf $(DEMO)
	$(VENV)/bin/prodrec sample $(DEMO)/catalogue
	$(VENV)/bin/prodrec prepare $(DEMO)/catalogue $(DEMO)/shards --short-side 160
	$(VENV)/bin/prodrec train $(DEMO)/shards --recipe demo --out $(DEMO)/run
	$(VENV)/bin/prodrec evaluate $(DEMO)/run/bundle $(DEMO)/shards --out $(DEMO)/evaluation
	$(VENV)/bin/prodrec sample $(DEMO)/scenes --scenes --products 8 --images 400
	$(VENV)/bin/prodrec prepare $(DEMO)/scenes $(DEMO)/box-shards --short-side 256
	$(VENV)/bin/prodrec train $(DEMO)/box-shards --recipe fasterrcnn_tiny --out $(DEMO)/tagger --local --set train.epochs=15
	$(VENV)/bin/prodrec recognize $(DEMO)/scenes/test/*44.jpg --tagger $(DEMO)/tagger/bundle --draw $(DEMO)/tags
	@echo "open $(DEMO)/run/report/index.html, $(DEMO)/tagger/report/index.html and the pictures in $(DEMO)/tags"

# Two processes: one begins with what shares a Ray cluster, the other with what starts Rays of its own (tests/conftest.py).
test: setup
	$(VENV)/bin/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder tests

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup
	$(PY) benchmarks/ingest.py

lock: setup
	$(VENV)/bin/uv pip compile --quiet pyproject.toml --extra dev --python-version 3.11 --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock

clean:
	rm -rf $(VENV) $(DEMO) runs scratch
