# One environment, made once; every target makes what it needs.
PYTHON ?= python3
# The build of PyTorch: any build of this version works, for example one for a certain CUDA.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format bench sanitize clean

demo: $(VENV)/.installed
	$(BIN)/mofaface reconstruct examples/*.jpg --out out/demo
	@echo "Open out/demo/*/overlay.png and out/demo/*/face.glb"

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile

format: $(VENV)/.installed-dev
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

# Times of every operator, without the checks of shapes that tests make.
bench: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet -e '.[bench]'
	$(BIN)/pytest -q -o addopts= benchmarks

# The kernels' tests under the address and undefined-behaviour sanitizers (GCC).
sanitize: $(VENV)/.installed-dev
	mkdir -p .build
	g++ -g -O1 -std=c++17 -fPIC -shared -fno-math-errno -Wno-psabi -march=native -fsanitize=address,undefined \
		-fno-sanitize-recover=undefined -pthread src/mofaface/kernels/*.cpp -o .build/sanitized.so
	LD_PRELOAD=$$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 MOFAFACE_NATIVE=$(CURDIR)/.build/sanitized.so \
		OMP_NUM_THREADS=2 $(BIN)/pytest -q tests/test_kernels.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py $(wildcard src/mofaface/kernels/*.cpp src/mofaface/kernels/*.h)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[dev,train]'
	touch $@

clean:
	rm -rf $(VENV) out
