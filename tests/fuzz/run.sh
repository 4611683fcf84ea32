#!/bin/sh
# Fuzzes each target for SECONDS, from the seed corpus, under ASan and UBSan. Fails at the first finding and leaves the
# input that shows it in the build folder.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]       FT_FUZZ_BUILD: the build folder (build/fuzz); CXX: clang++
set -eu

seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
targets=${*:-safetensors gguf ini torch pickle config}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
build=${FT_FUZZ_BUILD:-$root/build/fuzz}
command -v "${CXX:=clang++}" >/dev/null || {
    echo "fuzzing needs clang++ (apt-get install clang), or CXX set to it" >&2
    exit 2
}

launcher=
command -v ccache >/dev/null && launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache
cmake -S "$root" -B "$build" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_C_COMPILER="${CC:-clang}" $launcher -DFT_BUILD_FUZZERS=ON >/dev/null
for target in $targets; do
    cmake --build "$build" --parallel "$(nproc)" --target "${target}_fuzzer"
done

for target in $targets; do
    found=$build/found/$target # what this run finds worth keeping, and failures
    mkdir -p "$found"
    echo "== $target: $seconds s"
    # A header of 64 KiB must not take 256 MiB at once, nor five seconds.
    if ! "$build/tests/fuzz/${target}_fuzzer" -max_total_time="$seconds" -max_len=65536 -timeout=5 \
        -malloc_limit_mb=256 -rss_limit_mb=2048 -dict="$here/$target.dict" -artifact_prefix="$found/failed-" \
        -verbosity=0 -print_final_stats=1 "$found" "$here/corpus/$target" >"$found.log" 2>&1; then
        tail -n 80 "$found.log"
        echo "fuzzing $target failed; the input is in $found, the whole log is $found.log" >&2
        exit 1
    fi
    grep '^stat::' "$found.log"
done
