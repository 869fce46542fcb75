#!/usr/bin/env bash
# Makes a cross-validated package from the data, step by step: bash training/release.sh [overrides such as data.source=DIR]
# Every step goes on where it was interrupted (Ctrl-C); what is finished is not done again. Many hours on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
overrides=("$@")

does() {  # does SCRIPT RUN [options]: one of the scripts with the configuration of a run
  "$python" "training/$1.py" --config "training/configs/$2.yaml" "${overrides[@]}" "${@:3}"
}
all_folds() {  # trains all folds of some runs, two at a time: one for each core
  for run in "$@"; do
    for fold in 0 1 2; do echo "--config training/configs/$run.yaml --fold $fold"; done
  done | xargs -P 2 -L 1 "$python" training/train.py "${overrides[@]}"
}

# 1. the start of all folds, unless it is there: lesion patches in synthetic heads, nobody who is there as a study
if [ ! -e training/weights/base/weights.safetensors ]; then
  does prepare base
  "$python" -m torch.distributed.run --standalone --nproc-per-node=2 \
    training/train.py --config training/configs/base.yaml "${overrides[@]}"
  does export base --output training/weights/base
fi

# 2. cross-validation: two parts without a teacher, then the third with one and, in the same time, without
does prepare release
all_folds release_start
all_folds release_teacher
all_folds release_dropout release
does crossvalidate release_dropout
does crossvalidate release --against release_dropout

# 3. the same folds as users get them: native voxels, calibrated on the patients of the other folds
for fold in 0 1 2; do does eval release --fold $fold; done

# 4. everybody trains; the package carries what the folds have measured
does train release_start
does train release_teacher
does train release
does export release --output runs/release/package  # goes into Resources/Models by hand, if it is better than what is there
