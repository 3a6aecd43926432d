#!/usr/bin/env bash
# Makes .venv with everything pinned, on any Python from 3.8 to 3.13, and compiles the kernels into kernels/built/. Apart
# from bytecode and pip's cache it changes nothing else. .setup-log.txt exists while it runs, and is kept if it fails.
# Safe to run again: nothing is installed twice, and an interrupted installation is repaired.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
# The build of MXNet, and a line for each installed lock: "CHECKSUM SIZE NAME". Its presence also tells that .venv was
# made by this script.
stamp=$venv/installed-locks
unfinished=$venv/installation-unfinished

usage() {
    cat << EOF
usage: bash scripts/setup.sh [options]

  --python PATH   the Python to use, 3.8 to 3.13 (default: \$PYTHON, else that of .venv, else the newest found)
  --cpu, --gpu    MXNet's CPU or CUDA build (default: what suits this machine)
  --horovod       build Horovod, to train with several processes (needs a C++ compiler; about 2 minutes)
  --onnx          install ONNX and ONNX Runtime
  --tensorboard   install TensorBoard
  --serve         install what scripts/serve.py needs
  --dev           install what the tests and the linter need
  --fresh         start with a new .venv
EOF
}
fail() { echo "error: $1" >&2; exit "${2:-1}"; }

wanted_python=${PYTHON:-} python_flag='$PYTHON' build='' fresh=''
extras=()
while [ $# -gt 0 ]; do
    case $1 in
        --python) [ $# -gt 1 ] || fail '--python needs the path of a Python, for example --python python3.11' 2
            wanted_python=$2 python_flag=--python; shift ;;
        --python=*) wanted_python=${1#*=} python_flag=--python ;;
        --cpu | --gpu)
            [ -z "$build" ] || [ "$build" = "${1#--}" ] || fail '--cpu and --gpu exclude each other; give one' 2
            build=${1#--} ;;
        --horovod | --onnx | --tensorboard | --serve | --dev) extras+=("${1#--}") ;;
        --torch) echo "--torch is not needed any more: PyTorch's files are read without it" ;;
        --fresh) fresh=yes ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown option $1; allowed are those of: bash scripts/setup.sh --help" 2 ;;
    esac
    shift
done

case "$(uname -s) $(uname -m)" in
    'Linux x86_64' | 'Darwin x86_64') ;;
    *) fail "MXNet 1.9.1 has no build for $(uname -s) on $(uname -m); use Linux or macOS on x86_64, for example in a container" ;;
esac

# --- which Python -------------------------------------------------------------------------------------------------

version_of() { # PYTHON -> "3.11", or nothing if it does not run or is not supported
    "$1" -c 'import sys; v = sys.version_info[:2]; (3, 8) <= v <= (3, 13) and print("%d.%d" % v)' 2> /dev/null || true
}
candidates() {
    [ -n "$fresh" ] || echo "$venv/bin/python"
    local minor
    for minor in 13 12 11 10 9 8; do
        type -ap "python3.$minor" || true
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python 2> /dev/null || true
    done
    type -ap python3 python || true
}

if [ -n "$wanted_python" ]; then
    python=$(command -v "$wanted_python") || fail "$python_flag is $wanted_python, which is not a program; give the path of a Python 3.8 to 3.13"
    [ -n "$(version_of "$python")" ] ||
        fail "$python_flag is $wanted_python, which is $("$python" -V 2>&1 | head -n 1); give the path of a Python 3.8 to 3.13"
else
    python=''
    while read -r candidate; do
        if [ -n "$(version_of "$candidate")" ]; then python=$candidate; break; fi
    done < <(candidates)
    [ -n "$python" ] || fail 'no Python 3.8 to 3.13 found; install one, or give its path: bash scripts/setup.sh --python PATH'
fi
version=$(version_of "$python")
# .venv cannot recreate itself, so its base interpreter does. -S: a .venv that was moved fails in what it runs at start.
[ ! "$python" -ef "$venv/bin/python" ] ||
    python=$("$python" -S -c 'import os, sys; print(os.path.realpath(sys.executable))')

# --- the environment ----------------------------------------------------------------------------------------------

if [ -e "$venv" ] && [ ! -e "$stamp" ] && [ -z "$fresh" ]; then
    fail "$venv was not made by this script; move it away, or replace it: bash scripts/setup.sh --fresh"
fi
if [ -z "$build" ]; then
    suits=$(cd "$root" && "$python" -m environment.gpu)
    build=${suits%%$'\n'*}
    reason=${suits#*$'\n'}
    installed=$(sed -n 's/^build //p' "$stamp" 2> /dev/null || true)
    [ -z "$installed" ] || [ -n "$fresh" ] || build=$installed  # keep the build that is installed
fi
[ "$build" = cpu ] || [ "$(uname -s)" = Linux ] || fail "--gpu: MXNet's CUDA build is for Linux only; leave the flag out"
base=py${version/./}
[ "$build" = cpu ] || base+=-gpu

log=$root/.setup-log.txt
start=$SECONDS
quietly() { # WHAT COMMAND... : run with its output in the log; on failure, report WHAT, the last error, and the log
    local what=$1
    shift
    "$@" > "$log" 2>&1 && return
    local error
    error=$(grep -iE 'error|no space|not found' "$log" | grep -v '^WARNING' | tail -n 1 || true)
    fail "$what failed (${error:-see the log}); the full output is in $log; once mended run again: bash scripts/setup.sh"
}

# .venv's own scripts contain the path of its folder: a .venv that was moved or copied starts, but they lead elsewhere.
made_in=$(set +eu; unset VIRTUAL_ENV; . "$venv/bin/activate" > /dev/null 2>&1; echo "${VIRTUAL_ENV-}")
moved=''
if [ -n "$made_in" ] && [ -z "$fresh" ] && ! [ "$made_in" -ef "$venv" ]; then
    echo "$venv was made as $made_in and has been moved or copied here, so it is recreated"
    moved=yes
    extras+=($(sed -nE 's/.* py[0-9]+-(dev|onnx|tensorboard|serve|horovod)$/\1/p' "$stamp"))
fi
if [ -n "$fresh$moved" ] || [ -e "$unfinished" ] || ! grep -qx "build $build" "$stamp" 2> /dev/null ||
    [ "$(version_of "$venv/bin/python")" != "$version" ] || ! "$venv/bin/python" -c 'import pip' 2> /dev/null; then
    "$python" -c 'import venv, ensurepip' 2> /dev/null ||
        fail "$python lacks the modules venv and ensurepip; install them (Debian, Ubuntu: sudo apt install python$version-venv) or give another --python"
    # If it belongs to another environment, use that environment's base interpreter.
    python=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)')
    echo "making .venv with Python $version ($python), the $build build of MXNet${reason:+: $reason}"
    mkdir -p "$venv" 2> /dev/null && : > "$stamp" && : > "$unfinished" || fail "cannot write $venv; make $root writable for you"
    # Not `venv --clear`: if it were killed meanwhile, it would leave a folder that we could not recognise as ours.
    find "$venv" -mindepth 1 -maxdepth 1 ! -name "${stamp##*/}" ! -name "${unfinished##*/}" -exec rm -rf {} +
    quietly "making $venv" "$python" -m venv "$venv"
    echo "build $build" > "$stamp"
fi

line_of() { echo "$(cksum < "$root/locks/$1.txt") $1"; }
installed() { grep -qxF "$(line_of "$1")" "$stamp"; }
changed=''
install() { # LOCK [PIP OPTIONS...]
    local lock=$1
    shift
    ! installed "$lock" || return 0
    echo "installing locks/$lock.txt ($(grep -c '==' "$root/locks/$lock.txt") packages)"
    : > "$unfinished"
    quietly "installing locks/$lock.txt" "$venv/bin/python" -m pip install --no-deps --no-input \
        --disable-pip-version-check --no-compile -r "$root/locks/$lock.txt" "$@"
    grep -v " $lock\$" "$stamp" > "$stamp.new" || true
    line_of "$lock" >> "$stamp.new"
    mv "$stamp.new" "$stamp"
    changed=yes
    rm "$unfinished"
}

install "$base" --require-hashes --only-binary :all:

# With this, a plain `import mxnet` in .venv is prepared like ours, and our packages are found from any folder.
"$venv/bin/python" - "$root" << 'EOF'
import pathlib, sys, sysconfig
root = sys.argv[1]
hook = str(pathlib.Path(root, 'environment', 'import_hook.py'))
run = f'import sys; file = open({hook!r}); hook = {{}}; exec(file.read(), hook); file.close(); hook["register"]()'
text = f'{root}\n{run}\n'
path = pathlib.Path(sysconfig.get_path('purelib'), 'attention_networks.pth')
if not path.exists() or path.read_text() != text:
    path.write_text(text)
EOF

# Extras that were installed before follow their locks, too.
for extra in dev onnx tensorboard serve horovod; do
    grep -q " py[0-9]*-$extra\$" "$stamp" || [[ " ${extras[*]-} " == *" $extra "* ]] || continue
    case $extra in
        horovod)
            if ! installed "py${version/./}-horovod"; then
                command -v c++ > /dev/null || fail '--horovod needs a C++ compiler; install one (Debian, Ubuntu: sudo apt install g++)'
                install "py${version/./}-horovod-needs" --require-hashes --only-binary :all:
                echo 'building Horovod, which takes about 2 minutes'
                export PATH=$venv/bin:$PATH HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
                    HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1
                install "py${version/./}-horovod" --require-hashes --no-build-isolation
            fi ;;
        *) install "py${version/./}-$extra" --require-hashes --only-binary :all: ;;
    esac
done

# Many container images set this. Every start would then compile what it imports again, which doubles its time; so let
# what we import here leave its bytecode in .venv.
export PYTHONDONTWRITEBYTECODE=

# MXNet's operators for this processor. Everything works without a compiler, but training is slower.
if [ "$build" = cpu ]; then
    for module in kernels.build kernels.engine; do
        lacking=$(cd "$root" && "$venv/bin/python" -m "$module" --optional)
        [ -z "$changed" ] || [ -z "$lacking" ] || echo "$lacking"
    done
fi

if [ -n "$changed" ]; then
    (cd "$root" && "$venv/bin/python" -) << 'EOF'
import importlib.util
import environment
environment.require_mxnet()
for name in 'gluoncv', 'matplotlib.backends.backend_agg', 'sklearn.datasets', 'horovod.mxnet', 'pytest', 'hypothesis':
    if importlib.util.find_spec(name.partition('.')[0]):
        environment.import_extra(name)
EOF
    echo "ready after $((SECONDS - start)) seconds; to enter the environment: source $venv/bin/activate"
else
    echo "ready; to enter the environment: source $venv/bin/activate"
fi
rm -f "$log"
