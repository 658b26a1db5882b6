#!/usr/bin/env bash
# Fetch the open sources, make crops and manifests of them, pretrain the seed.
# Usage, from the root of the repository: recipes/seed/run.sh [WORK]
# Settings by environment: SOURCES (folder of the sources, WORK/sources), SEED (0), PROCESSES (2),
#   TERMS ("free notice alike": which licences, see docs/seed.md)
# It needs git, and for a part of the sources apt-get and dpkg-deb (Debian or Ubuntu); what cannot be
# fetched is named and left out.
set -euo pipefail

work=${1:-runs/seed}
sources=${SOURCES:-$work/sources}
read -ra terms <<<"${TERMS:-free notice alike}"
mkdir -p "$sources"
sources=$(cd "$sources" && pwd)

parts() { python data_prep/seed.py --list --terms "${terms[@]}"; }

for part in $(parts); do
  place=${part#*:}
  folder=$sources/${place//\//+}
  [ -e "$folder" ] && continue
  rm -rf "$folder.part"
  case $part in
    github:*)
      git clone --quiet --depth 1 "https://github.com/$place" "$folder.part" || continue
      ;;
    debian:*)
      mkdir -p "$sources/packages"
      (cd "$sources/packages" && apt-get download "$place") || continue
      dpkg-deb -x "$sources/packages/${place}"_*.deb "$folder.part" || continue
      ;;
    *)
      echo "put $place into $folder yourself, see recipes/seed/README.md" >&2
      continue
      ;;
  esac
  mv "$folder.part" "$folder"
done

python data_prep/seed.py "$sources" --out "$work/data" --terms "${terms[@]}" \
  --processes "${PROCESSES:-2}"
speechssl pretrain --recipe seed --tasks masked_units reconstruction ctc --train "$work/data/train.jsonl" --valid "$work/data/dev.jsonl" \
  --seed "${SEED:-0}" --out "$work/pretrain"
