#!/usr/bin/env bash
# Your own data on two cores: recordings with truth -> crops -> fine-tuning -> evaluation -> prediction.
# The recordings are synthetic here; put your own beside dataset.yaml instead, and start with the second step.
# Ten minutes on two cores.
set -euo pipefail
work=$(realpath -m "${1:-$(dirname "$0")/../../out/own_data}")
cd "$(dirname "$0")"
from=volumetric-synthetic
mkdir -p "$work"
[ -f "$work/dataset.yaml" ] || cp dataset.yaml "$work"

# 1. Recordings: calibration, a video a camera, truth.nc.
seed=100
for name in first second third; do
  seed=$((seed + 1))
  [ -f "$work/$name/truth.nc" ] || tripose synth "$work/$name" --recording --samples 60 --views 3 --seed $seed
done
tripose check "$work/first"

# 2. Everybody cut out of every view, once.
tripose prepare own "$work" "$work/crops"

# 3. The shipped model learns from them.
tripose train ../../configs/fine-tune.yaml --out "$work/run" \
  --set data.train.folder="$work/crops/train" --set data.val.folder="$work/crops/val" --set init="$from" --set steps=150

# 4. Before and after, beside classical triangulation.
tripose evaluate "$work/crops/val" --model before="$from" --model after="$work/run/last" --out "$work/evaluation"

# 5. On a recording without truth.
tripose predict "$work/third" --model "$work/run/last" --out "$work/poses"
tripose view "$work/poses/third.nc" --recording "$work/third" --html "$work/third.html"
