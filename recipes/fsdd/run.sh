#!/usr/bin/env bash
# FSDD: from the published folder to a score. Usage: bash recipes/fsdd/run.sh SOURCE [OUT]
set -euo pipefail
source=${1:?give the folder of the corpus}
out=${2:-runs/fsdd}

python data_prep/fsdd.py "$source" --out "$out/data"
speechssl pretrain --recipe fsdd --train "$out/data/train.jsonl" --valid "$out/data/dev.jsonl" \
  --out "$out/pretrain" --budget-minutes 15
for init in "$out/pretrain" scratch; do
  run="$out/finetune-$(basename "$init")"
  speechssl finetune --recipe fsdd --init "$init" --train "$out/data/train.jsonl" \
    --valid "$out/data/dev.jsonl" --out "$run" --label-minutes 3 --budget-minutes 4
  speechssl evaluate "$run" "$out/data/test.jsonl" --out "$run/scores.json"
done
speechssl report "$out/pretrain" "$out/finetune-pretrain" "$out/finetune-scratch"
