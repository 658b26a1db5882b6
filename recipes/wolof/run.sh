#!/usr/bin/env bash
# Prepare, pretrain, fine-tune with and without the pretrained model, score.
# Usage, from the root of the repository: recipes/wolof/run.sh CORPUS [WORK]
# Settings by environment: SEED (0), LABELS (minutes, "30")
set -euo pipefail

corpus=${1:?"give the folder of the Wolof corpus: it is not fetched, see README.md"}
work=${2:-runs/wolof}
seed=${SEED:-0}
labels=${LABELS:-30}

python data_prep/wolof.py "$corpus" --out "$work/data"
speechssl pretrain --recipe wolof --train "$work/data/train.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "$seed" --out "$work/pretrain"

for minutes in $labels; do
  for init in "$work/pretrain" scratch; do
    run="$work/$(basename "$init")-$minutes"
    speechssl finetune --init "$init" --recipe wolof --train "$work/data/train.jsonl" \
      --valid "$work/data/dev.jsonl" --label-minutes "$minutes" --seed "$seed" --out "$run"
    speechssl evaluate "$run" "$work/data/test.jsonl" --out "$run/scores.json"
  done
done
speechssl report "$work/pretrain" "$run" --out "$work/report.html"
