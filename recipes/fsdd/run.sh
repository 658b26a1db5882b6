#!/usr/bin/env bash
# Prepare, pretrain, fine-tune with and without the pretrained model, score.
# Usage, from the root of the repository: recipes/fsdd/run.sh [CORPUS] [WORK]
# Settings by environment: SEED (0), LABELS (minutes, "3")
set -euo pipefail

corpus=${1:-runs/corpora/fsdd}
work=${2:-runs/fsdd}
seed=${SEED:-0}
labels=${LABELS:-3}

download=--download
if [ -d "$corpus" ]; then download=; fi
python data_prep/fsdd.py "$corpus" --out "$work/data" $download
speechssl pretrain --recipe fsdd --train "$work/data/train.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "$seed" --out "$work/pretrain"

for minutes in $labels; do
  for init in "$work/pretrain" scratch; do
    run="$work/$(basename "$init")-$minutes"
    speechssl finetune --init "$init" --recipe fsdd --train "$work/data/train.jsonl" \
      --valid "$work/data/dev.jsonl" --label-minutes "$minutes" --seed "$seed" --out "$run"
    speechssl evaluate "$run" "$work/data/test.jsonl" --out "$run/scores.json"
  done
done
speechssl report "$work/pretrain" "$run" --out "$work/report.html"
