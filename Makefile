# `make demo` and `make test` do all the set-up; scripts/ holds the steps.
.DEFAULT_GOAL := help
.PHONY: help demo test test-full soak compare lint bench bench-sfu constraints clean runtime-venv dev-venv

PORT ?= 8080
BIN := .venv/bin
# What the quick tests start beside Python: a real SFU, a real browser with a font, a compiler.
PACKAGES := janus chromium fonts-dejavu-core gcc libc6-dev
PACKAGES_FULL := $(PACKAGES) firefox-esr

help:
	@echo "make demo [PORT=8080]  a call page on this machine, without Janus or Nextcloud"
	@echo "make test              lint, types, quick tests and a real call through each SFU"
	@echo "make test-full         everything else: browsers, interoperability, packaging, long runs"
	@echo "make soak              what takes longer than continuous integration has time for; docs/soak.md has results"
	@echo "make compare           the conversations on the incumbent, too (PORTUNUS_COMPARE_SERVER names its binary)"
	@echo "make bench             what a message costs, as multiples of a floor measured beside it"
	@echo "make bench-sfu         CPU and delay of the in-process SFU beside Janus, and what it does to messages"
	@echo "make lint              only ruff and mypy"
	@echo "make constraints       pin the dependencies anew"
	@echo "make clean             remove what the commands above have made"

# Both do nothing when .venv is complete.
runtime-venv:
	@scripts/venv constraints.txt

dev-venv:
	@scripts/venv constraints-dev.txt

demo: runtime-venv
	@$(BIN)/portunus demo --port $(PORT)

lint: dev-venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: dev-venv
	@scripts/packages $(PACKAGES)
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -m "not full and not soak"

test-full: dev-venv
	@scripts/packages $(PACKAGES_FULL)
	$(BIN)/python -m pytest -m full

soak: dev-venv
	@scripts/packages $(PACKAGES)
	$(BIN)/python -m pytest -m soak -s

compare: dev-venv
	@scripts/packages janus gcc libc6-dev
	$(BIN)/python -m tests.compare

bench: dev-venv
	@scripts/packages gcc libc6-dev
	$(BIN)/python -m bench

bench-sfu: dev-venv
	@scripts/packages janus gcc libc6-dev
	$(BIN)/python -m bench.sfu

constraints:
	@scripts/constraints

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
