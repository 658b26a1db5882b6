#!/usr/bin/env bash
# The whole job on synthetic speech. Usage: bash recipes/synthetic/run.sh [OUT]
set -euo pipefail
speechssl demo --out "${1:-runs/synthetic}" --minutes 9
