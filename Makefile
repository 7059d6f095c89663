# The one definition of every chore. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
BIN := .venv/bin
# cython-lint starts pycodestyle by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SOURCES := $(wildcard adcore/*.pyx adcore/*.pxd server/delivery/*.pyx server/delivery/*.pxd)
COMPILED := $(patsubst %.pyx,%,$(subst /,.,$(wildcard server/delivery/*.pyx)))
ENGINE_TESTS := -m "not process" --hypothesis-profile=checked -p no:cacheprovider

.PHONY: demo build debug asan cover lint test check soak bench clean
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
	$(BIN)/cython-lint adcore server/delivery
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest adcore $(COMPILED) \
		--allowlist tests/stubtest_allowlist.txt

check: lint
	$(MAKE) debug
	$(BIN)/python -m pytest -o "pythonpath=build/debug/lib ." $(ENGINE_TESTS)
	$(MAKE) asan
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$(gcc -print-file-name=libasan.so) \
		$(BIN)/python -m pytest -o "pythonpath=build/asan/lib ." $(ENGINE_TESTS)

# Which lines, not how often: 10^7 pairs of request and row would take it minutes.
cover: coverage-build
	ADCORE_SOAK_PAIRS=100000 $(BIN)/python -m coverage run -m pytest \
		-o "pythonpath=build/coverage/lib ." -m "not process"
	$(BIN)/python -m coverage report --skip-covered

# The index against the scan on 10^9 pairs of request and row, in worlds of today.
soak: build
	ADCORE_SOAK_PAIRS=1000000000 ADCORE_SOAK_SEED=$$(date +%Y%m%d) \
		$(BIN)/python -m pytest tests/test_scanning.py -k million

bench: build
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-json=benchmarks/results/micro.json
	$(BIN)/python -m benchmarks.engine --medium
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.plot

clean:
	rm -rf build dist *.egg-info .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f adcore/*.so server/delivery/*.so benchmarks/olg benchmarks/bare
