#!/usr/bin/env bash
# A CPU's share of LibriSpeech: train-clean-100 without transcripts, a few of its labels.
# Usage, from the root of the repository: recipes/librispeech/run.sh [CORPUS] [WORK]
# Settings by environment: SEED (0), LABELS (minutes, "600")
set -euo pipefail

corpus=${1:-runs/corpora/librispeech}
work=${2:-runs/librispeech}
seed=${SEED:-0}
labels=${LABELS:-600}

download=--download
if [ -d "$corpus" ]; then download=; fi
python data_prep/librispeech.py "$corpus" --out "$work/data" $download   --parts train-clean-100 dev-clean test-clean
speechssl pretrain --recipe librispeech --train "$work/data/train.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "$seed" --out "$work/pretrain"

for minutes in $labels; do
  for init in "$work/pretrain" scratch; do
    run="$work/$(basename "$init")-$minutes"
    speechssl finetune --init "$init" --recipe librispeech --train "$work/data/train.jsonl" \
      --valid "$work/data/dev.jsonl" --label-minutes "$minutes" --seed "$seed" --out "$run"
    speechssl evaluate "$run" "$work/data/test.jsonl" --out "$run/scores.json"
  done
done
speechssl report "$work/pretrain" "$run" --out "$work/report.html"
