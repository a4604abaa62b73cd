# Two commands: `make demo` and `make test`. Each builds its own virtual environment from nothing.
PYTHON ?= python3
INSTALL = $(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --upgrade pip \
	&& $(@D)/bin/pip install --quiet --constraint constraints.txt torch \
	&& $(@D)/bin/pip install --quiet --constraint constraints.txt

.PHONY: demo test lint types clean

demo: .venv-demo/ready
	.venv-demo/bin/tripose demo --out out/demo

test: .venv-test/ready
	OMP_NUM_THREADS=1 .venv-test/bin/pytest -n 2 --dist worksteal

lint: .venv-test/ready
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .

types: .venv-test/ready
	.venv-test/bin/mypy

.venv-demo/ready: pyproject.toml constraints.txt
	$(INSTALL) --editable '.[export]'
	touch $@

.venv-test/ready: pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv-demo .venv-test out
