# `make demo` and `make test` need only Python 3.11+ and make: each makes its own environment from the pinned lock.
PYTHON    ?= python3
DEMO_ARGS ?= --as-of 2013-06-30
VENV      := .venv
BIN       := $(VENV)/bin

.PHONY: demo loop test pytest test-long test-cluster lint reference lock image clean

# A short form: make demo DEMO_ARGS="--as-of 2013-04-30 --from 2013-04-24"
demo: $(VENV)/.runtime
	$(BIN)/ml-assets run flight_delay $(DEMO_ARGS)

# One new day a minute of the example, in a folder .loop; docs/operate.md says what to look at.
loop: $(VENV)/.runtime
	$(BIN)/ml-assets loop

# Tests wait for clocks and other processes a quarter of their time, and mypy takes one core for half a minute: with four
# workers, and linters beside them, two cores are busy.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs 2 pytest lint

# The sources are compiled again, because each process that a test starts would otherwise compile what has changed.
pytest: $(VENV)/.dev
	$(COMPILE) definitions.py ml_assets resources sensors
	$(BIN)/pytest -n 4 -q -m 'not long'

# Whole flows: through kills and outages, on other hosts, again from manifests.
test-long: $(VENV)/.dev
	$(BIN)/pytest -n 3 -q -m long

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The JSON Schema and the reference of declarations, both generated from their types.
reference: $(VENV)/.runtime
	$(BIN)/python docs/generate.py

# A deployment in a cluster; docs/deploy.md says what must be set, and without it each test says what is missing.
test-cluster: $(VENV)/.dev
	$(BIN)/pytest -n 0 -v -rs tests/cluster

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.11 or newer. Name one: make PYTHON=python3.11 ..." >&2; \
	  exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes --no-compile -r requirements-pip.lock

# Bytecode is compiled once here: without it every process that Dagster or dbt starts compiles 150 packages again, and this
# project where PYTHONDONTWRITEBYTECODE is set. Tests of the packages are never imported. A file that does not compile
# costs only that time, so it does not stop the installation.
COMPILE := $(BIN)/python -m compileall -q -j 2 -x '/(tests|pip|setuptools)/'
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --no-deps --require-hashes --no-compile -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index --no-compile --editable .
	$(COMPILE) $(VENV)/lib definitions.py ml_assets resources sensors || true
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --require-hashes --no-compile -r requirements-dev.lock
	$(COMPILE) $(VENV)/lib || true
	touch $@

# Needs uv on the path. For the image, for a laptop and for tests, one after the other: none moves a pin of the one before.
# The image is first, because Dagster's libraries for Kubernetes and Postgres are released later than Dagster.
LOCK       := uv pip compile pyproject.toml --group install --group flights --universal --python-version 3.11 \
              --generate-hashes --no-emit-index-url --no-header --no-annotate --no-emit-package pandas
PRODUCTION := --extra alerts --extra k8s --extra otel --extra postgres --extra serve
lock:
	$(LOCK) $(PRODUCTION) -o deploy/requirements.lock
	$(LOCK) --constraint deploy/requirements.lock -o requirements.lock
	$(LOCK) $(PRODUCTION) --extra xgboost --group dev --constraint deploy/requirements.lock -o requirements-dev.lock
	{ echo '# Installs the other locks, faster than the pip that comes with Python 3.11; `make lock` writes it.'; \
	  printf 'pip\n' | uv pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate; } > requirements-pip.lock
	{ echo '# What compiles the LightGBM of the gpu image; `make lock` writes it.'; \
	  printf 'scikit-build-core\ncmake\nninja\n' | uv pip compile - --universal --python-version 3.10 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate; } > deploy/lightgbm-build.lock

# What runs in the cluster: make image IMAGE=registry/ml-assets, and with TARGET=gpu the one with CUDA.
TARGET ?= base
image:
	@IMAGE='$(IMAGE)' TAG='$(TAG)' BUILDER='$(BUILDER)' BUILD_ARGS='$(BUILD_ARGS)' deploy/build-image $(TARGET)

clean:
	rm -rf $(VENV) .lake .dagster dbt_project/target dbt_project/dbt_packages
