#!/usr/bin/env bash
# For maintainers: rewrites locks/ from pyproject.toml. Needs uv, which uses the package index that the machine is set to.
#
#   locks/py311.txt            everything for the CPU
#   locks/py311-gpu.txt        the same with MXNet's CUDA build and the CUDA libraries
#   locks/py311-EXTRA.txt      what an extra adds to either
#   locks/py311-horovod-needs.txt  what building Horovod needs; installed before it
#
# All extras of one Python are resolved together, so that they can be installed together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v uv > /dev/null || { echo 'error: tools/lock.sh needs uv; run: python -m pip install uv' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

compile() { # PYTHON EXTRA... -> requirements with hashes on stdout
    local python=$1 extras=()
    shift
    for extra in nodeps "$@"; do extras+=(--extra "$extra"); done
    uv pip compile pyproject.toml --quiet --no-header --no-annotate --no-emit-index-url --generate-hashes \
        --python-version "$python" --python-platform x86_64-unknown-linux-gnu \
        ${extras[@]+"${extras[@]}"} --constraint "$work/all.txt"
}
less() { # FILE < requirements -> those that FILE lacks, with their hashes
    awk 'NR == FNR { if (/^[a-z]/) have[$1]; next } /^[a-z]/ { keep = !($1 in have) } keep' "$1" -
}
named() { # PATTERN FILE -> the requirements whose names match
    awk -v pattern="$1" '/^[a-z]/ { keep = ($1 ~ pattern) } keep' "$2"
}

for python in 3.8 3.9 3.10 3.11 3.12 3.13; do
    lock=locks/py${python/./}
    : > "$work/all.txt"
    compile "$python" dev gpu horovod onnx serve tensorboard | sed -n 's/^\([a-z][^ ]*\).*/\1/p' > "$work/versions.txt"
    mv "$work/versions.txt" "$work/all.txt"
    compile "$python" > "$lock.txt"
    named '^mxnet==' "$lock.txt" > "$work/mxnet.txt"
    compile "$python" gpu | less "$work/mxnet.txt" > "$lock-gpu.txt"
    for extra in dev horovod onnx serve tensorboard; do
        compile "$python" "$extra" | less "$lock.txt" > "$lock-$extra.txt"
    done
    mv "$lock-horovod.txt" "$work/horovod.txt"
    named '^horovod==' "$work/horovod.txt" > "$lock-horovod.txt"
    less "$lock-horovod.txt" < "$work/horovod.txt" > "$lock-horovod-needs.txt"
    echo "$lock: $(cat "$lock"*.txt | grep -c '==') packages"
done
