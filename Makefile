# Each target makes what it needs where it is not there. `make help` lists them.
PYTHON ?= python3
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help env demo test lint bench kafka kafka-down fuzz fuzz-parsers fuzz-circuits chaos crash soak large-run \
	big-log big-audit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

env: $(STAMP)  ## .venv with everything that demo, tests and benches need (torch included, about 5 GB)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 env")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV): about 5 GB, most of it torch; a few minutes'
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq -e '.[train,dev]'
	$(BIN)/python -m pip install -qq --only-binary atheris -e '.[fuzz]' || echo 'no wheel of atheris here: its tests will be skipped'
	touch $(STAMP)

demo: env  ## train, prove, fold, anchor and audit a small real run, then catch a tampering
	$(BIN)/python scripts/demo.py

test: env lint  ## every test that CI runs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: env  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env  ## all benchmarks, as a table (one alone: .venv/bin/python -m bench NAME --json)
	$(BIN)/python -m bench

kafka:  ## a real single-node Apache Kafka on loopback (Java 17, Maven)
	scripts/kafka.sh up

kafka-down:  ## stop it
	scripts/kafka.sh down

fuzz: env  ## a million mutated messages through the decoder
	$(BIN)/python -m tests.fuzz_codec --count 1000000

fuzz-parsers: env  ## every parser under atheris, coverage-guided (MINUTES=30 in all)
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES)

fuzz-circuits: env  ## a million steps and lies at the ends of every range, through reference, bounds and circuits
	$(BIN)/python -m tests.fuzz_circuits --count 1000000

chaos: env  ## 100 SIGKILLs of consumers on real Kafka
	$(BIN)/python -m pytest -m slow tests/pipeline -k "chaos and kafka" -s

crash: env  ## kill the tile writer, or fail its calls, at every system call (needs strace; about 20 minutes)
	$(BIN)/python -m tests.tiles.crashing

soak: env  ## the slow tests: full cross products, long runs
	$(BIN)/python -m pytest -m slow

large-run: env  ## a million parameters, sampled proving, real Kafka, audited (about 12 minutes)
	$(BIN)/python scripts/large_run.py

big-log: env  ## ten million entries built, served, checked and gone on with (4 GB of disk, about 20 minutes)
	$(BIN)/python scripts/big_log.py

big-audit: env  ## runs of 100,000 and 500,000 steps, and ten million entries, audited without proofs (half an hour, 8 GB)
	$(BIN)/python scripts/big_audit.py --steps 100000 500000
	$(BIN)/python scripts/big_audit.py --steps 100000 --others 9899998

clean:  ## remove what the targets made, but for .venv
	rm -rf .demo .fuzz .large-run .pytest_cache .mypy_cache .ruff_cache build dist
