#!/usr/bin/env bash
# Wolof: from the published folder to a score. Usage: bash recipes/wolof/run.sh SOURCE [OUT]
set -euo pipefail
source=${1:?give the folder of the corpus}
out=${2:-runs/wolof}

python data_prep/wolof.py "$source" --out "$out/data"
speechssl pretrain --recipe wolof --train "$out/data/train.jsonl" --valid "$out/data/dev.jsonl" \
  --out "$out/pretrain" --budget-minutes 45
for init in "$out/pretrain" scratch; do
  run="$out/finetune-$(basename "$init")"
  speechssl finetune --recipe wolof --init "$init" --train "$out/data/train.jsonl" \
    --valid "$out/data/dev.jsonl" --out "$run"  --budget-minutes 15
  speechssl evaluate "$run" "$out/data/test.jsonl" --out "$run/scores.json"
done
speechssl report "$out/pretrain" "$out/finetune-pretrain" "$out/finetune-scratch"
