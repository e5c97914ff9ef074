# The contributor's table of contents; "make help" prints it.
#
# Every recipe works in a virtual environment of its own, made from $(PYTHON), and against the installed package, never
# against src. A stamp file in the environment remembers that what is installed there is what stands in the sources.

PYTHON ?= python3
ARGS ?=#                  more arguments for pytest: make test ARGS="-k chunking -x"

VENV := .venv
SOURCES := pyproject.toml setup.py MANIFEST.in $(wildcard src/framewire/*.py src/framewire/*/*.py src/framewire/servers/web/* ext/*)
PIP_INSTALL = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check

# Neither the sources nor another choice of core may reach what is tested.
unexport PYTHONPATH PYTHONHOME FRAMEWIRE_CORE FRAMEWIRE_PURE FRAMEWIRE_DEBUG FRAMEWIRE_SANITIZE

.PHONY: help demo test lint sanitize report bench bench-compare regression bench-servers yardsticks bench-drivers bench-smoke hosts wheels test-wheels autobahn docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## a server, a client that reads it 16 bytes at a time, and how fast that is
	$(VENV)/bin/python examples/demo.py

test: $(VENV)/testable ## the whole suite on both cores, then what uses the core in force on the pure one
	$(VENV)/bin/framewire --version
	FRAMEWIRE_EXPECT=compiled $(VENV)/bin/python -m pytest $(ARGS)
	FRAMEWIRE_EXPECT=pure FRAMEWIRE_CORE=py $(VENV)/bin/python -m pytest -m "not build" \
		--ignore=tests/test_core.py --ignore=tests/test_hostile.py $(ARGS)

lint: .venv-lint/installed ## ruff and mypy --strict
	.venv-lint/bin/ruff check
	.venv-lint/bin/ruff format --check
	.venv-lint/bin/mypy

sanitize: .venv-sanitize/testable ## the compiled core's tests under the address and undefined-behaviour sanitizers
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc FRAMEWIRE_EXPECT=compiled \
	.venv-sanitize/bin/python -m pytest -p no:cacheprovider --capture=sys -m "not build" -k "not [py" \
		--ignore=tests/test_chat.py --ignore=tests/test_streamer.py --ignore=tests/test_cli.py \
		--ignore=tests/test_chat_web.py --ignore=tests/test_stream_web.py --ignore=tests/test_web_pages.py $(ARGS)

report: .venv-bench/benchable ## every ratio, beside the limit of the machine and other libraries: some minutes, 3 GB
	.venv-bench/bin/python bench/report.py $(ARGS)

bench: .venv-bench/benchable ## the full set under pytest-benchmark, kept in .benchmarks (ARGS=--benchmark-save=NAME)
	.venv-bench/bin/python -m pytest -q bench/bench_core.py --benchmark-autosave \
		--benchmark-columns=median,iqr,rounds $(ARGS)

bench-compare: .venv-bench/benchable ## what was kept, side by side: make bench-compare ARGS="0001 0002"
	.venv-bench/bin/pytest-benchmark compare --between=median,iqr --sort=name --name=short $(ARGS)

regression: .venv-bench/benchable ## instructions beside those of an earlier commit: make regression ARGS="--base main"
	.venv-bench/bin/python bench/regression.py $(ARGS)

bench-servers: .venv-bench/benchable ## servers beside raw epoll in C, and other servers: Linux, ten minutes
	.venv-bench/bin/python bench/server_report.py $(ARGS)

bench-smoke: .venv-bench/benchable ## the benchmarks, small and untimed: do they run, and agree?
	FRAMEWIRE_BENCH_SCALE=0.001 .venv-bench/bin/python -m pytest -q --benchmark-disable bench/bench_core.py $(ARGS)

yardsticks: .venv-bench/benchable ## the same in C, Rust, Java and Go, as far as their tools are here: Linux, ten minutes
	.venv-bench/bin/python bench/yardsticks/run.py $(ARGS)

bench-drivers: .venv-bench/benchable ## asyncio streams, and the drop-ins beside their hosts: five minutes
	for bench in aio dropin_asyncio dropin_hiredis dropin_multiprocessing dropin_twisted dropin_websockets \
		dropin_wsproto; do \
		.venv-bench/bin/python bench/$$bench.py $(ARGS) || exit 1; done

hosts: .venv-bench/benchable ## the hosts' own test suites, on the drop-ins, on both cores
	for suite in asyncio_streams multiprocessing_connection twisted websockets wsproto; do for core in c py; do \
		FRAMEWIRE_CORE=$$core .venv-bench/bin/python tests/host_suites/$$suite.py $(ARGS) || exit 1; done; done

wheels: .venv-wheels/tools ## a wheel for every CPython here, looked inside and audited, in dist
	.venv-wheels/bin/python -m tests.wheels build $(ARGS)

test-wheels: .venv-wheels/tools ## each of them in a clean environment: the suite on both cores, with no compiler
	.venv-wheels/bin/python -m tests.wheels test $(ARGS)

autobahn: $(VENV)/testable ## the Autobahn test suite against our server and client: Linux, needs a Python 2.7
	$(VENV)/bin/python tests/autobahn/run.py $(ARGS)

docs: .venv-docs/installed ## the documentation as a site: build/docs/index.html
	.venv-docs/bin/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs $(ARGS)

clean: ## remove what the recipes made
	rm -rf .venv .venv-* build bench/build dist src/*.egg-info .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The environments.

%/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: framewire needs Python 3.10 or newer: make PYTHON=python3.13 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "make: $(PYTHON) cannot make virtual environments (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $*

%/installed: $(SOURCES) | %/pyvenv.cfg
	FRAMEWIRE_REQUIRE_EXT=1 $(PIP_INSTALL) .
	@touch $@

# Separate from "installed", which it names only for its extra: the demo needs no test tools.
%/testable: %/installed
	$(PIP_INSTALL) 'framewire[test]'
	@touch $@

%/benchable: %/installed
	$(PIP_INSTALL) 'framewire[test,bench]'
	@touch $@

%/tools: tests/wheels/requirements.txt | %/pyvenv.cfg
	$(PIP_INSTALL) -r tests/wheels/requirements.txt
	@touch $@

.venv-lint/installed: pyproject.toml | .venv-lint/pyvenv.cfg
	FRAMEWIRE_PURE=1 $(PIP_INSTALL) '.[lint]'
	@touch $@

.venv-docs/installed: $(SOURCES) | .venv-docs/pyvenv.cfg
	FRAMEWIRE_PURE=1 $(PIP_INSTALL) '.[docs]'
	@touch $@

.venv-sanitize/installed: export FRAMEWIRE_SANITIZE = 1

.PRECIOUS: %/pyvenv.cfg %/installed %/testable %/benchable %/tools
