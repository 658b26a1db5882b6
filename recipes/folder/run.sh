#!/usr/bin/env bash
# The whole job on your recordings. Usage: bash recipes/folder/run.sh RECORDINGS TEXTS.tsv [OUT]
set -euo pipefail
speechssl run "${1:?give the folder}" --transcripts "${2:?give the table}" --out "${3:-runs/mine}" \
  --budget-minutes 120
