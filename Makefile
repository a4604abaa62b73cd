# Two commands: `make demo` and `make test`. Each builds its own virtual environment from nothing.
PYTHON ?= python3
INSTALL = $(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --upgrade pip \
	&& $(@D)/bin/pip install --quiet --constraint constraints.txt torch \
	&& $(@D)/bin/pip install --quiet --constraint constraints.txt

.PHONY: demo test lint types train-smoke clean

demo: .venv-demo/ready
	.venv-demo/bin/tripose demo --out out/demo

test: .venv-test/ready
	OMP_NUM_THREADS=1 .venv-test/bin/pytest -n 2 --dist worksteal

# A few minutes: learns something, twice, with the same numbers.
train-smoke: .venv-test/ready
	rm -rf out/smoke
	for run in 1 2; do OMP_NUM_THREADS=1 .venv-test/bin/tripose train configs/smoke.yaml --out out/smoke/$$run || exit 1; done
	cmp out/smoke/1/metrics.json out/smoke/2/metrics.json
	.venv-test/bin/python -c "import json; v = json.load(open('out/smoke/1/metrics.json'))['validations']; \
		print('MPJPE before and after:', v[0]['mpjpe_mm'], v[-1]['mpjpe_mm'], 'mm'); assert v[-1]['mpjpe_mm'] < 110"

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
