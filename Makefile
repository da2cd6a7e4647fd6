# Each target sets up what it needs; scripts/ holds the steps. PYTHON=/path/to/python3 selects another Python.
.DEFAULT_GOAL := help
.PHONY: help demo test test-full soak compare lint bench bench-quick bench-sfu deb dist constraints clean runtime-venv dev-venv

PORT ?= 8080
BIN := .venv/bin
# Debian packages of the quick tests: an SFU, a browser with a font, a C compiler.
PACKAGES := janus chromium fonts-dejavu-core gcc libc6-dev
PACKAGES_FULL := $(PACKAGES) firefox-esr iproute2 nginx-light apache2-bin caddy coturn systemd debootstrap systemd-container libnss3-tools

help:
	@echo "make demo [PORT=8080]  a call page on this machine, without Janus or Nextcloud"
	@echo "     [HOST=192.0.2.7]  the same on https for a second device; HOST is this machine's address or name"
	@echo "make test              lint, types, quick tests and a real call through each SFU"
	@echo "make test-full         the slow tests: browsers, interoperability, attacks, set-up, packaging, long runs, Janus 1.4"
	@echo "make soak              tests too long for continuous integration; docs/soak.md has results"
	@echo "make compare           the recorded conversations also on the Go server (PORTUNUS_COMPARE_SERVER names its binary)"
	@echo "make bench             Portunus beside the Go server (PORTUNUS_COMPARE_SERVER) and a floor; docs/performance.md"
	@echo "make bench-quick       the costs of a message and a hello as multiples of the floor, in under a minute"
	@echo "make bench-sfu         CPU and delay of the in-process SFU and of Janus, and their effect on messages"
	@echo "make deb               the Debian package, in dist/"
	@echo "make dist              wheel, context of the image and bill of materials (CycloneDX), in dist/"
	@echo "make lint              only ruff and mypy"
	@echo "make constraints       pin the dependencies again, within the ranges of pyproject.toml"
	@echo "make clean             remove all files that these targets create"

# These do nothing when .venv is complete.
runtime-venv:
	@scripts/venv constraints.txt

dev-venv:
	@scripts/venv constraints-dev.txt

demo: runtime-venv
	@$(BIN)/portunus demo --port $(PORT) $(if $(HOST),--host $(HOST) --https)

lint: dev-venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts/bill_of_materials.py

test: dev-venv
	@scripts/packages $(PACKAGES)
	@$(MAKE) --no-print-directory lint
	@scripts/run-tests "not full and not soak"

test-full: dev-venv
	@scripts/packages $(PACKAGES_FULL)
	@scripts/janus-1.4
	@scripts/debian-12
	@scripts/run-tests full -n 2

soak: dev-venv
	@scripts/packages $(PACKAGES_FULL)
	$(BIN)/python -m pytest -m soak -s

compare: dev-venv
	@scripts/packages janus gcc libc6-dev
	$(BIN)/python -m tests.compare

bench: dev-venv
	@scripts/packages janus gcc libc6-dev
	$(BIN)/python -m bench

bench-quick: dev-venv
	@scripts/packages gcc libc6-dev
	$(BIN)/python -m bench --quick

bench-sfu: dev-venv
	@scripts/packages janus gcc libc6-dev
	$(BIN)/python -m bench.sfu

deb: runtime-venv
	@scripts/deb dist

dist: dev-venv
	@scripts/dist dist

constraints:
	@scripts/constraints

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
