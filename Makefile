# Two commands do everything, set-up included:  make demo  and  make test.
#
# PYTHON  the interpreter to begin with (3.11 or newer)
# TORCH   what to install as torch; its build differs by machine, so it comes first and without a hash

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test lint bench bench-quick bench-page faults lock slurm browser clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'peftbench needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet "$(TORCH)"
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(RUN) -m pip check
	touch $(READY)

demo: $(READY)
	$(VENV)/bin/peftbench demo

test: $(READY)
	$(RUN) -m pytest -n $(WORKERS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The page: checked, tested and built into src/peftbench/site/assets. Needs Node 20 or newer, and nothing of Python.
.PHONY: web
web:
	cd web && npm ci --no-fund --no-audit && npm run check && npm test && npm run build

# The documentation as a site in build/docs, which opens from the disk.
.PHONY: docs
docs: $(READY)
	$(VENV)/bin/mkdocs build --strict --quiet

bench: $(READY)
	$(RUN) -m bench.table

bench-quick: $(READY)
	$(RUN) -m bench.table --quick

bench-page: $(READY)
	$(RUN) -m bench.page

# What the tests of clusters need beside Python packages. They skip, and say so, where it is not.
slurm:
	@if [ -n "$$(PATH=$$PATH:/usr/sbin command -v slurmctld)" ]; then \
		echo "SLURM is here."; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "SLURM cannot be installed without root and apt-get: its tests will skip."; \
	else \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
			slurm-wlm munge > /dev/null; } || echo "SLURM could not be installed: its tests will skip."; \
	fi

# What the tests of the page need: a browser to see it in, and Node to build it. They skip, and say so, without.
browser:
	@if command -v chromium > /dev/null && command -v npm > /dev/null; then \
		echo "Chromium and Node are here."; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "Chromium and Node cannot be installed without root and apt-get: tests of the page will skip."; \
	else \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
			$$(command -v chromium > /dev/null || echo chromium) \
			$$(command -v npm > /dev/null || echo nodejs npm) > /dev/null; } \
			|| echo "Chromium or Node could not be installed: tests of the page will skip."; \
	fi

faults: $(READY)
	$(RUN) -m tests.faults
	$(RUN) -m bench.kills

lock:
	$(PYTHON) tools/lock.py

clean:
	rm -rf $(VENV)
