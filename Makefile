# Two commands do everything on a machine with Python 3.11+ and make:
#   make run    start the proxy on the embedded default and watch it charge messages
#   make test   run the tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two at a time: most tests wait for something, each with a database of its own.
PYTEST := $(BIN)/pytest -n 3 --dist worksteal
STAMP  := $(VENV)/.installed

.PHONY: run test check format bench clean

run: $(STAMP)
	@$(BIN)/smpp-proxy run --tour

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) build *.egg-info

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), which takes about half a minute …"
	@$(PYTHON) -m venv $(VENV)
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)
