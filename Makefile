# The commands of a developer. `make` alone lists them.
# Everything is installed into .venv; nothing outside this folder changes.

PYTHON ?= python3
ONCE ?=
AGENT ?=
PROTOCOL ?=
EMPTY ?=
QUICK ?=
PYTEST_ARGS ?=
SIMULATE_ARGS ?=

# How many processes, and which tests stay together in `make test`: tests/side_by_side.py.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist

BIN := .venv/bin
RUNS := .venv/installed-to-run
INSTALLED := .venv/installed
SHELL_SCRIPTS = $(wildcard *.sh .ci/*)
# What ends the word "yes" in make: ONCE=1 is yes; ONCE=, ONCE=0 and no ONCE are no.
RUN_ARGS = $(if $(filter-out 0 no false,$(ONCE)),--once) $(if $(filter-out 0 no false,$(EMPTY)),--empty) \
	$(if $(AGENT),--agent "$$AGENT") $(if $(PROTOCOL),--protocol "$$PROTOCOL")
# Every optional check of shellcheck, less two that are matters of taste:
# require-variable-braces ("$x" is clear) and check-set-e-suppressed (`if f; then` is meant).
SHELLCHECK_OPTIONS = --external-sources --enable=all \
	--exclude=SC2250,SC2310,SC2311,SC2312
SHFMT_OPTIONS = --indent 2 --case-indent --binary-next-line

.DEFAULT_GOAL := help
.PHONY: help run test check bench simulate format clean install

help: ## List the commands
	@echo "make run          run a task end to end on a local AWS, then serve until Ctrl-C"
	@echo "make run ONCE=1   the same, but stop after the task"
	@echo "make run AGENT=http://127.0.0.1:8080    use your own agent, which serves /invocations and /ping"
	@echo "  PROTOCOL=AGUI   and speaks AG-UI"
	@echo "make run EMPTY=1  serve a local AWS with nothing deployed in it, to try the scripts"
	@echo "make test         run all tests (several minutes)"
	@echo "make check        format, lint, types, scripts and the fast tests (a minute)"
	@echo "make simulate     run random schedules of faults against the real handlers"
	@echo "make bench        compare with other ways to write it (four minutes; QUICK=1: one minute)"
	@echo "make format       rewrite Python and shell files in the project's format"
	@echo "make clean        remove what was built and installed"
	@echo
	@echo "The first time, each installs what it needs into .venv, in up to a minute."
	@echo
	@echo "make PYTHON=python3.12 run     use this Python (3.11 or newer) for .venv"
	@echo "make test PYTEST_ARGS='-k api' pass arguments to pytest"
	@echo "make simulate SIMULATE_ARGS='--seed 1 --count 100000'    or --seconds 60; --help lists all"
	@echo
	@echo "While make run serves, post a task with [agent: …] in its text to see the sample agent misbehave;"
	@echo ".venv/bin/python -m local --help lists what it can do, and the options for ports and pace."
	@echo
	@echo "./deploy.sh builds the zips, ./create-infrastructure.sh deploys them to AWS."

# exec: otherwise a shell in between would die of a SIGTERM alone and leave the rest running.
run: $(RUNS) ## A task end to end on a local AWS
	@exec $(BIN)/python -m local $(RUN_ARGS)

# Where this is set, each of hundreds of processes would compile everything that it imports.
test check: export PYTHONDONTWRITEBYTECODE =

test: $(INSTALLED) ## The whole suite
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) loadfile $(PYTEST_ARGS)

check: $(INSTALLED) ## Format, lint, types, scripts, fast tests
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/shellcheck $(SHELLCHECK_OPTIONS) $(SHELL_SCRIPTS)
	$(BIN)/shfmt $(SHFMT_OPTIONS) --diff $(SHELL_SCRIPTS)
	$(BIN)/python -m pytest -q -m "not e2e" $(SIDE_BY_SIDE) worksteal $(PYTEST_ARGS)

simulate: $(INSTALLED) ## The two promises under every fault there is
	@$(BIN)/python -m simulation $(SIMULATE_ARGS)

bench: $(INSTALLED) ## Measure beside other ways to write it
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)
	$(BIN)/python -W ignore -m benchmarks.cost

format: $(INSTALLED) ## The project's format
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .
	$(BIN)/shfmt $(SHFMT_OPTIONS) --write $(SHELL_SCRIPTS)

clean: ## Remove what was built and installed
	-@chmod -Rf u+w build/bench 2>/dev/null
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f valro-api-lambda.zip valro-worker-lambda.zip
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(INSTALLED) ## Only set up .venv, for all of these

# The stamp is written last, so that an interrupted installation is resumed.
$(RUNS): requirements-run.txt
	@.ci/set-up-venv "$(PYTHON)" requirements-run.txt
	@touch $@

$(INSTALLED): requirements-dev.txt $(RUNS)
	@.ci/set-up-venv "$(PYTHON)" requirements-dev.txt
	@touch $@
