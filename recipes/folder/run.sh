#!/usr/bin/env bash
# Your own recordings: the whole job in one command.
# Usage, from the root of the repository: recipes/folder/run.sh FOLDER TRANSCRIPTS [OUT]
# Settings by environment: MINUTES (120), SIZE (tiny)
set -euo pipefail

folder=${1:?"give the folder of recordings"}
transcripts=${2:?"give a TSV or CSV whose header names path and text"}
out=${3:-runs/folder}

speechssl run "$folder" --transcripts "$transcripts" --out "$out" \
  --budget-minutes "${MINUTES:-120}" --size "${SIZE:-tiny}"
