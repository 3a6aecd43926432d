#!/usr/bin/env bash
# From nothing to a trained network: set up, train a small ATAC network on handwritten digits, score it, load it again,
# hybridize it, time it, and draw its curves, in under five minutes on two cores, installation included. Options are
# passed to scripts/setup.sh; an interrupted run is resumed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
start=$SECONDS
step() { printf '\n=== %s\n' "$1"; }

step 'set-up'
case " $* " in
    *' -h '* | *' --help '*) exec bash "$root/scripts/setup.sh" --help ;;
esac
bash "$root/scripts/setup.sh" "$@"
python=$root/.venv/bin/python
cd "$root"

# The first folder without a finished training.
run=runs/quickstart
number=1
while [ -e "$run/result.json" ]; do
    number=$((number + 1))
    run=runs/quickstart-$number
done
figure() { # FILE KEY -> the value of a key in a JSON file
    "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

step 'train cifar_atac_resnet8_v2 on the digits'
"$python" train_cifar.py --dataset digits --model cifar_atac_resnet8_v2 --num-epochs 15 --batch-size 64 --lr 0.1 \
    --lr-mode cosine --warmup-epochs 1 --save-dir "$run" --json "$run/result.json" --resume
# The last parameters, not the best ones, which were chosen by the held-out digits themselves.
params=$(figure "$run/result.json" params)

step 'score the saved parameters on the held-out digits, each once'
"$python" scripts/validate.py --params "$params" --json "$run/validation.json"

step 'load them again, hybridize, compare and time'
"$python" tools/benchmark.py --params "$params" --batch-size 32 --repeats 3 --json "$run/speed.json"

step 'draw the curves'
"$python" scripts/plot_history.py "$run" --output "$run/curves.png"

step "done in $((SECONDS - start)) seconds"
echo "parameters  $params (and, beside them, their manifest .json)"
echo "report      $run/report.html (open it in a browser)"
echo "curves      $run/curves.png"
echo "history     $run/history.csv"
echo "next        .venv/bin/python scripts/predict.py --params $params IMAGE"
if ! "$python" -c 'import sys; sys.exit(not float(sys.argv[1]) > 0.97)' "$(figure "$run/validation.json" top1)"; then
    echo 'error: fewer than 97 % of the held-out digits were recognised, and more are expected; run python scripts/doctor.py and report it' >&2
    exit 1
fi
