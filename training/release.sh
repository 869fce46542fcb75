#!/usr/bin/env bash
# Makes what ships from the data, step by step: bash training/release.sh [overrides such as data.source=DIR]
# Every step goes on where it was interrupted (Ctrl-C); what is finished is not done again. Many hours on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
overrides=("$@")

does() {  # does SCRIPT RUN [options]: one of the scripts with the configuration of a run
  "$python" "training/$1.py" --config "training/configs/$2.yaml" "${overrides[@]}" "${@:3}"
}

# 1. the first student, unless it is there: three studies are kept out
if [ ! -e training/weights/dropout/weights.safetensors ]; then
  does prepare dropout
  does train dropout --fold 0
  does export dropout --fold 0 --output training/weights/dropout
fi

# 2. many lesions in every brain: without the three studies, to be measured, and with them, to ship; one core for each
does prepare many_lesions
does train many_lesions --fold 0 & measured=$!
does train many_lesions
wait $measured

# 3. temperatures, thresholds and reliability, each of the three calibrated on the other two; then as users get them, with
# the temperatures of all three
does crossvalidate many_lesions
does eval many_lesions --fold 0

# 4. the package carries what was measured; it goes into Resources/Models by hand, if it is better than what is there
does export many_lesions --output runs/many_lesions/package
