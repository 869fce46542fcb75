#!/usr/bin/env bash
# Makes a cross-validated package from the data, step by step: bash training/release.sh [overrides such as data.source=DIR]
# Every step goes on where it was interrupted; what is finished is not done again. Hours on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
base=(--config training/configs/base.yaml "$@")
recipe=(--config training/configs/release.yaml "$@")
dropout=(--config training/configs/release_dropout.yaml "$@")

# 1. the start of all folds: lesion patches in synthetic heads, nobody who is there as a study
$python training/prepare.py "${base[@]}"
$python -m torch.distributed.run --standalone --nproc-per-node=2 training/train.py "${base[@]}"
$python training/export.py "${base[@]}" --output training/weights/base

# 2. cross-validation of the recipe, beside what it has to beat; two runs at a time, one for each core
$python training/prepare.py "${recipe[@]}"
for fold in 0 1 2; do
  $python training/train.py "${recipe[@]}" --fold $fold &
  taught=$!
  $python training/train.py "${dropout[@]}" --fold $fold
  wait $taught
done
$python training/crossvalidate.py "${dropout[@]}"
$python training/crossvalidate.py "${recipe[@]}" --against release_dropout

# 3. the same folds as users get them: native voxels, calibrated on the patients of the other folds
for fold in 0 1 2; do
  $python training/eval.py "${recipe[@]}" --fold $fold
done

# 4. everybody trains; the package carries what the folds have measured
$python training/train.py "${recipe[@]}"
$python training/export.py "${recipe[@]}" --output MSTKDSegmenter/Resources/Models/mstkd-compact
