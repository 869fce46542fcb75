#!/usr/bin/env bash
# Makes what ships from the data, step by step: bash training/release.sh [overrides such as data.source=DIR]
# Every step goes on where it was interrupted (Ctrl-C); what is finished is not done again. Many hours on two CPU cores;
# for step 3 a GPU is wanted (optim.workers=3), or patience. Where the cores have no bfloat16: optim.bf16=false, slower.
# Step 1 is skipped as long as training/weights/dropout is there, which earlier code made: see training/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
overrides=("$@")
paired=

does() {  # does SCRIPT RUN [options]: one of the scripts with the configuration of a run
  set -- "$python" "training/$1.py" --config "training/configs/$2.yaml" "${overrides[@]}" "${@:3}"
  if [ -n "$paired" ]; then exec "$@"; fi  # in the place of its shell, so that it gets the signals itself
  "$@" & wait $!  # not in front: bash hears no signal until that is done
}

pair() {  # pair COMMAND... , COMMAND...: side by side, one core for each
  local first=() paired=yes
  while [ "$1" != , ]; do first+=("$1"); shift; done
  "${first[@]}" &
  "${@:2}" &
  wait -n
  wait -n
}

# whatever ends this ends what it has started; a training then writes a checkpoint
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT TERM

# 1. the first student, unless it is there, without three studies: the patients of the first fold
does prepare dropout
if [ ! -e training/weights/dropout/weights.safetensors ]; then
  does train dropout --fold 0
  does export dropout --fold 0 --output training/weights/dropout
fi

# 2. the same without the patients of the other two folds, for the measurement alone
pair does train dropout --fold 1 , does train dropout --fold 2
for fold in 1 2; do does export dropout --fold $fold --output runs/dropout/fold$fold/package; done

# 3. many lesions in every brain, each time others: in three folds, to be measured, and with everybody, to ship
does prepare varied_lesions
pair does train varied_lesions --fold 0 , does train varied_lesions
pair does train varied_lesions --fold 1 , does train varied_lesions --fold 2

# 4. on for a while with about the whole box of the brain, as inference shows it
pair does train whole_boxes --fold 0 , does train whole_boxes
pair does train whole_boxes --fold 1 , does train whole_boxes --fold 2

# 5. temperatures, thresholds and curves of probabilities, each fold calibrated on the others; then as users get them
does crossvalidate whole_boxes
pair does eval whole_boxes --fold 0 , does eval whole_boxes --fold 1
does eval whole_boxes --fold 2

# 6. the package carries what was measured; it goes into Resources/Models by hand, if it is better than what is there
does export whole_boxes --output runs/whole_boxes/package
