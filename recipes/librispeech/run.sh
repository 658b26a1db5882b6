#!/usr/bin/env bash
# LibriSpeech: from the published folder to a score. Usage: bash recipes/librispeech/run.sh SOURCE [OUT]
set -euo pipefail
source=${1:?give the folder of the corpus}
out=${2:-runs/librispeech}

python data_prep/librispeech.py "$source" --out "$out/data"
speechssl pretrain --recipe librispeech --train "$out/data/train.jsonl" --valid "$out/data/dev.jsonl" \
  --out "$out/pretrain" --budget-minutes 600
for init in "$out/pretrain" scratch; do
  run="$out/finetune-$(basename "$init")"
  speechssl finetune --recipe librispeech --init "$init" --train "$out/data/train.jsonl" \
    --valid "$out/data/dev.jsonl" --out "$run" --label-minutes 600 --budget-minutes 120
  speechssl evaluate "$run" "$out/data/test.jsonl" --out "$run/scores.json"
done
speechssl report "$out/pretrain" "$out/finetune-pretrain" "$out/finetune-scratch"
