#!/usr/bin/env bash
# Prepare, pretrain, fine-tune with and without the pretrained model, score.
# Usage, from the root of the repository: recipes/mboshi/run.sh [CORPUS] [WORK]
# Settings by environment: SEED (0), LABELS (minutes, "60")
set -euo pipefail

corpus=${1:-runs/corpora/mboshi}
work=${2:-runs/mboshi}
seed=${SEED:-0}
labels=${LABELS:-60}

download=--download
if [ -d "$corpus" ]; then download=; fi
python data_prep/mboshi.py "$corpus" --out "$work/data" $download
speechssl pretrain --recipe mboshi --train "$work/data/train.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "$seed" --out "$work/pretrain"

for minutes in $labels; do
  lm="$work/lm-$minutes.arpa"
  speechssl lm "$work/data/train.jsonl" --label-minutes "$minutes" --seed "$seed" --out "$lm"
  for init in "$work/pretrain" scratch; do
    run="$work/$(basename "$init")-$minutes"
    speechssl finetune --init "$init" --recipe mboshi --train "$work/data/train.jsonl" \
      --valid "$work/data/dev.jsonl" --label-minutes "$minutes" --seed "$seed" --out "$run"
    speechssl evaluate "$run" "$work/data/dev.jsonl" --out "$run/scores.json"
    speechssl evaluate "$run" "$work/data/dev.jsonl" --lm "$lm" --out "$run/scores-lm.json"
  done
done
speechssl report "$work/pretrain" "$run" --out "$work/report.html"
