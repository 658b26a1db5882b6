#!/usr/bin/env bash
# Mboshi: from the published folder to a score. Usage: bash recipes/mboshi/run.sh SOURCE [OUT]
set -euo pipefail
source=${1:?give the folder of the corpus}
out=${2:-runs/mboshi}

python data_prep/mboshi.py "$source" --out "$out/data"
speechssl pretrain --recipe mboshi --train "$out/data/train.jsonl" --valid "$out/data/dev.jsonl" \
  --out "$out/pretrain" --budget-minutes 120
for init in "$out/pretrain" scratch; do
  run="$out/finetune-$(basename "$init")"
  speechssl finetune --recipe mboshi --init "$init" --train "$out/data/train.jsonl" \
    --valid "$out/data/dev.jsonl" --out "$run" --label-minutes 60 --budget-minutes 20
  speechssl evaluate "$run" "$out/data/dev.jsonl" --out "$run/scores.json"
done
speechssl report "$out/pretrain" "$out/finetune-pretrain" "$out/finetune-scratch"
