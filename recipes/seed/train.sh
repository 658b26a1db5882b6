#!/usr/bin/env bash
# Train the seed, or a stage of it, on the crops that data_prep/seed.py made.
# Usage, from the root of the repository: recipes/seed/train.sh DATA [WORK]
# Settings by environment:
#   INIT     model of an earlier stage to go on from, without the state of its optimizer
#   MINUTES  of this stage (480)     LR  peak of the learning rate (1e-3, from INIT on 5e-4)
#   HELD     folder with train.jsonl and dev.jsonl of a language that is held out, for the probe
#   SEED     (0)                     MORE  further settings, e.g. MORE="--max-steps 50"
set -euo pipefail

data=$1
work=${2:-runs/seed}
init=()
lr=1e-3
if [ -n "${INIT:-}" ]; then
  init=(--init "$INIT")
  lr=5e-4
fi

python recipes/seed/by_language.py "$data/train.jsonl" --out "$work/languages"
# shellcheck disable=SC2086
speechssl pretrain --recipe seed "${init[@]}" --train "$work"/languages/*.jsonl \
  --valid "$data/dev.jsonl" --optim.lr "${LR:-$lr}" --optim.warmup-steps 500 \
  --budget-minutes "${MINUTES:-480}" --seed "${SEED:-0}" --out "$work/pretrain" ${MORE:-}

if [ -n "${HELD:-}" ]; then
  python benchmarks/seed_probe.py "$work/pretrain" --train "$HELD/train.jsonl" \
    --dev "$HELD/dev.jsonl" --log "$work/probe.jsonl"
fi
