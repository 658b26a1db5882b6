#!/usr/bin/env bash
# Prepare, pretrain, fine-tune with and without the pretrained model, score.
# Usage, from the root of the repository: recipes/synthetic/run.sh [WORK]
# Settings by environment: SEED (0)
set -euo pipefail

work=${1:-runs/synthetic}
seed=${SEED:-0}

python recipes/synthetic/prepare.py --out "$work/data"
speechssl pretrain --recipe synthetic --train "$work/data/unlabeled.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "$seed" --out "$work/pretrain"

for init in "$work/pretrain" scratch; do
  run="$work/$(basename "$init")-5"
  speechssl finetune --init "$init" --recipe synthetic --train "$work/data/train.jsonl" \
    --valid "$work/data/dev.jsonl" --seed "$seed" --out "$run"
  speechssl evaluate "$run" "$work/data/test.jsonl" --out "$run/scores.json"
done
speechssl report "$work/pretrain" "$run" --out "$work/report.html"
