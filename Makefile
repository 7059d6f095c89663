# The one definition of every chore. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
BIN := .venv/bin
# cython-lint starts pycodestyle by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
FOLDERS := adcore server/events server/ledger server/delivery
SOURCES := $(wildcard $(FOLDERS:%=%/*.pyx) $(FOLDERS:%=%/*.pxd))
COMPILED := $(patsubst %.pyx,%,$(subst /,.,$(filter server/%.pyx,$(SOURCES))))
ENGINE_TESTS := -m "not process and not plain" --hypothesis-profile=checked -p no:cacheprovider

.PHONY: demo build debug asan cover lint test check shippers kube-tools tofu image sbom soak drill bench clean
.DEFAULT_GOAL := build

demo: build
	$(BIN)/adcore demo

test: build
	$(BIN)/python -m pytest

# -- builds: release in place; the others below build/, so that they never overwrite it
build: .venv/.built

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check "setuptools>=80" cython==3.3.1
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[dev]"
	@touch $@

.venv/.built: .venv/.installed setup.py $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

debug asan coverage-build: .venv/.installed
	ADCORE_BUILD=$(@:coverage-build=coverage) $(BIN)/python setup.py -q build \
		--build-base build/$(@:coverage-build=coverage) --build-lib build/$(@:coverage-build=coverage)/lib

# -- checks, cheapest first
lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint $(FOLDERS)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest adcore $(COMPILED) \
		--allowlist tests/stubtest_allowlist.txt

# The ledger's simulator runs fewer seeds here: what checked builds look for shows in a few.
check: export ADCORE_SIM_SEEDS = 60
check: lint
	$(MAKE) debug
	$(BIN)/python -m pytest -o "pythonpath=build/debug/lib ." $(ENGINE_TESTS)
	$(MAKE) asan
	@# The sanitizer takes over C++'s exceptions, which matplotlib throws: their library must be there.
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
		$(BIN)/python -m pytest -o "pythonpath=build/asan/lib ." $(ENGINE_TESTS)

# Fluentd's client for Node.js, which tests/test_shippers.py runs when it is there.
shippers: build/shippers/.installed

build/shippers/.installed:
	npm install --prefix $(@D) --no-audit --no-fund --ignore-scripts --silent fluent-logger@3.4.1
	@touch $@

# What tests over k8s/ run when it is there. Debian's kubectl is too old to render it; checkov brings
# a hundred packages, which are kept away from ours.
KUBE_MODELS := argo-rollouts@2.0.0 external-secrets@2.0.0 gateway-api@2.0.0 karpenter@2.0.0 keda@2.0.0 \
	prometheus-operator@6.0.0
TOOLS := build/tools

kube-tools: $(TOOLS)/bin/kustomize $(TOOLS)/checkov/.installed $(TOOLS)/kubernetes-models/.installed

$(TOOLS)/bin/kustomize:
	GOBIN=$(CURDIR)/$(@D) go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.2

kube-tools: $(TOOLS)/bin/actionlint

$(TOOLS)/bin/actionlint:
	GOBIN=$(CURDIR)/$(@D) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# OpenTofu, for machines without terraform. From its own folder, since it replaces a module, which
# `go install` refuses; that takes two cores four minutes and more.
tofu: $(TOOLS)/bin/tofu

$(TOOLS)/bin/tofu:
	cd "$$(go mod download -json github.com/opentofu/opentofu@v1.10.10 | \
		sed -n 's/.*"Dir": "\(.*\)",/\1/p')" && \
		CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ ./cmd/tofu

$(TOOLS)/checkov/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check checkov==3.3.30
	@touch $@

$(TOOLS)/kubernetes-models/.installed:
	npm install --prefix $(@D) --no-audit --no-fund --ignore-scripts --silent \
		$(KUBE_MODELS:%=@kubernetes-models/%)
	@touch $@

# The image by buildah, on a Debian made here unless BUILDER names one; and the list of its parts.
# TARGET=control is the one with numpy. See docs/image.md.
TARGET ?= front

image:
	image/build.sh $(TARGET)

sbom: image build
	image/sbom.sh $(TARGET) build/image

# Which lines, not how often: 10^7 pairs of request and row would take it minutes.
cover: coverage-build
	ADCORE_SOAK_PAIRS=100000 $(BIN)/python -m coverage run -m pytest \
		-o "pythonpath=build/coverage/lib ." -m "not process"
	$(BIN)/python -m coverage report --skip-covered

# The index against the scan on 10^9 pairs of request and row, and the ledger's simulator, in worlds
# of today. A seed that fails is run again by ADCORE_SIM_SEED.
soak: build
	ADCORE_SOAK_PAIRS=1000000000 ADCORE_SOAK_SEED=$$(date +%Y%m%d) \
		$(BIN)/python -m pytest tests/test_scanning.py -k million
	ADCORE_SIM_SEEDS=100000 ADCORE_SIM_FIRST=$$(date +%Y%m%d)00000 \
		$(BIN)/python -m pytest tests/test_ledger_sim.py

# The whole ledger as processes, killed, stopped, cut and filled up: 12 minutes, no event lost. Then
# budgets, with Redis failed over, wiped and away for five minutes: half an hour, nothing overspent.
# Then front pods by the rendered YAML, rolled out and called back in real time (`make kube-tools`).
drill: build
	$(BIN)/python -m tests.drill
	$(BIN)/python -m tests.drill.spending
	$(BIN)/python -m tests.podsim

bench: build
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-json=benchmarks/results/micro.json
	$(BIN)/python -m benchmarks.engine --medium
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.ledger
	$(BIN)/python -m benchmarks.pacing
	$(BIN)/python -m benchmarks.caps
	$(BIN)/python -m benchmarks.plot

clean:
	rm -rf build dist *.egg-info .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f $(FOLDERS:%=%/*.so) benchmarks/olg benchmarks/bare
