#!/usr/bin/env bash
# Common Voice: from the published folder to a score. Usage: bash recipes/commonvoice/run.sh SOURCE [OUT]
set -euo pipefail
source=${1:?give the folder of the corpus}
out=${2:-runs/commonvoice}

python data_prep/commonvoice.py "$source" --out "$out/data"
speechssl pretrain --recipe commonvoice --train "$out/data/train.jsonl" --valid "$out/data/dev.jsonl" \
  --out "$out/pretrain" --budget-minutes 600
for init in "$out/pretrain" scratch; do
  run="$out/finetune-$(basename "$init")"
  speechssl finetune --recipe commonvoice --init "$init" --train "$out/data/train.jsonl" \
    --valid "$out/data/dev.jsonl" --out "$run" --label-minutes 600 --budget-minutes 120
  speechssl evaluate "$run" "$out/data/test.jsonl" --out "$run/scores.json"
done
speechssl report "$out/pretrain" "$out/finetune-pretrain" "$out/finetune-scratch"
