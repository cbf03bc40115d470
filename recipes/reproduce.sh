#!/usr/bin/env bash
# The paper from its data to its tables, step by step; docs/reproduce.md explains every one of them.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: recipes/reproduce.sh [--data DIR] [--weights DIR] [--out DIR] [--accelerator NAME] [--devices N] [--workers N]
                            [--fakes] [--print]

Trains the networks of the LIM-Net paper and runs its tables:
    convert, stage1, stage2, stage3, propagation, baseline, defects, quality, release,
    table1, table2, figure3, table4, table5, table6, runtime, report

  --data DIR          the data sets, in the folders that docs/reproduce.md names (default: DATA); those for training
                      that are not there are left out
  --weights DIR       coco_lvis_h32_itermask.pth, XMem.pth, XMem-s012.pth and resnet18-f37072fd.pth (default: weights)
  --out DIR           for everything that is made (default: reproduction)
  --accelerator NAME  gpu or cpu (default: gpu)
  --devices N         processes (default: 1)
  --workers N         processes that read, for each of them (default: 8)
  --fakes             the same way on small stand-ins of data and weights, on the CPU, in minutes; needs a checkout
                      and the packages of the extra "dev"
  --print             print the commands and run none

Steps that are done are skipped, a training that was stopped goes on: after a failure, or when a job's time was up, give
the same command again. DIR/steps/ has what each step printed. To do one again, remove DIR/steps/STEP.done.
PYTHON names the interpreter (default: python).
TEXT
}

data=DATA weights=weights out=reproduction accelerator=gpu devices=1 workers=8 fakes= print=
while (($#)); do
    case $1 in
        --data | --weights | --out | --accelerator | --devices | --workers)
            [[ $# -gt 1 ]] || { echo "reproduce: $1 needs a value; see --help" >&2; exit 2; }
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --fakes) fakes=yes; shift ;;
        --print) print=yes; shift ;;
        -h | --help) usage; exit ;;
        *) echo "reproduce: $1 is no option; see --help" >&2; exit 2 ;;
    esac
done
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}

# Every command goes through here, so that --print shows it.
run() {
    if [[ $print ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
recipe() { run "$python" "$here/recipes/$1.py" "${@:2}"; }
limnet() { run "$python" -m limnet "$@"; }

common=(--preset paper --accelerator "$accelerator" --devices "$devices" --workers "$workers")
device=cpu
[[ $accelerator == cpu ]] || device=cuda
cases=(400 60)
slices=() clips=() steps=() defects=() tables=() speed=(--method base --device "$device")
if [[ $fakes ]]; then
    data=$out/DATA weights=$out/weights cases=(2 2) device=cpu
    common=(--preset paper --accelerator cpu --devices 1 --workers 0)
    # One step each on the smallest windows that the networks take.
    steps=(--steps 1 --batch-size 2 --validate-every 1 --precision 32-true --images 0)
    slices=(--size 64 --samples-per-epoch 2 --val-samples 1 --cache "$out/cache")
    clips=(--length 4)
    defects=(--rounds 2 --corrupted 2 --setting short_side=64)
    tables=(--rounds 2 --per-group 1 --per-case 1 --precision fp32 --setting short_side=64)
    speed=(--method base --device cpu --size 64 --slices 4 --repeats 1 --threads 1)
fi

# --root NAME=FOLDER of the sets that are there.
roots() {
    local entry
    found=()
    for entry in "$@"; do
        [[ ! -e $data/${entry#*=} && ! $print ]] || found+=(--root "${entry%%=*}=$data/${entry#*=}")
    done
    [[ ${#found[@]} -gt 0 ]] || { echo "none of the data sets is in $data: ${*#*=}" >&2; return 1; }
}
images=(amos22-ct=amos22 slices=in_house)
tumours=(msd-colon=Task10_Colon msd-lung=Task06_Lung kits19=KiTS19)
natural=(ishape=ishape_dataset davis585=DAVIS585 coco-lvis=COCO_LVIS)

convert() {
    limnet convert ritm "$weights/coco_lvis_h32_itermask.pth" "$out/base/interaction" &&
        limnet convert xmem "$weights/XMem.pth" "$out/base/propagation" &&
        limnet convert xmem "$weights/XMem-s012.pth" "$out/base/s012" &&
        limnet convert imagenet-resnet "$weights/resnet18-f37072fd.pth" "$out/base/resnet18"
}
# NAME START SETS...: a stage of the click network.
stage() {
    roots "${@:3}" &&
        recipe "$1" "${common[@]}" "${slices[@]}" "${steps[@]}" --mix "paper-$1" "${found[@]}" --init "$2" \
            --out "$out/runs/$1" --resume
}
stage1() { stage stage1 "$out/base/interaction" "${images[@]}" "${natural[@]}"; }
stage2() { stage stage2 "$out/runs/stage1" "${images[@]}" "${tumours[@]}"; }
stage3() { stage stage3 "$out/runs/stage2" "${tumours[@]}"; }
propagation() {
    roots "${tumours[@]}" &&
        recipe propagation "${common[@]}" "${slices[@]}" "${clips[@]}" "${steps[@]}" --mix paper-propagation \
            "${found[@]}" --init "$out/base/propagation" --out "$out/runs/propagation" --resume
}
baseline() {
    recipe release --interaction "$out/runs/stage3" --propagation "$out/runs/propagation" --out "$out/runs/baseline"
}
# CASES SPLIT FILE: pairs of masks from rounds of the baseline.
collect() {
    recipe quality collect --mix paper-quality "${found[@]}" --model "$out/runs/baseline" --truths --scope volume \
        --smallest 1 --device "$device" --cases "$1" --split "$2" --out "$out/defects/$3.npz" "${defects[@]}"
}
defects() {
    roots "${tumours[@]}" && collect "${cases[0]}" train train && collect "${cases[1]}" val held
}
quality() {
    recipe quality train "${common[@]}" "${steps[@]}" --init "$out/base/resnet18" \
        --defects "$out/defects/train.npz" --held "$out/defects/held.npz" --out "$out/runs/quality" --resume
}
release() {
    recipe release --interaction "$out/runs/stage3" --propagation "$out/runs/propagation" \
        --quality "$out/runs/quality" --out "$out/runs/table1" &&
        recipe release --interaction "$out/runs/stage2" --propagation "$out/base/s012" \
            --quality "$out/runs/quality" --out "$out/runs/table4"
}
# NAME MODEL: a table of the paper.
table() {
    limnet bench "$1" --data "$data" --model "$out/runs/$2" --accelerator "$accelerator" --devices "$devices" \
        --out "$out/results" "${tables[@]}"
}
table1() { table table1 table1; }
table2() { table table2 table1; }
figure3() { table figure3 table1; }
table4() { table table4 table4; }
table5() { table table5 table4; }
table6() { table table6 table4; }
runtime() { limnet bench runtime "${speed[@]}" --out "$out/results"; }
report() { limnet bench report "$out"/results/*.json --out "$out/report"; }

# Read as a whole before it begins: the file may change while a training runs.
main() {
    [[ $print ]] || mkdir -p "$out/steps"
    if [[ $fakes ]]; then
        accelerator=cpu devices=1
        export PYTHONPATH="$here/src:$here${PYTHONPATH:+:$PYTHONPATH}"
        [[ $print || -e $weights ]] || "$python" -m tests.helpers.fake_reproduction "$data" "$weights"
    fi
    local step started
    for step in convert stage1 stage2 stage3 propagation baseline defects quality release \
        table1 table2 figure3 table4 table5 table6 runtime report; do
        if [[ $print ]]; then
            echo "# $step"
            "$step"
            continue
        fi
        if [[ -e $out/steps/$step.done ]]; then
            echo "$step: done before"
            continue
        fi
        echo "$step ..."
        started=$SECONDS
        if ! "$step" >"$out/steps/$step.log" 2>&1; then
            tail -n 20 "$out/steps/$step.log" >&2
            echo "reproduce: step $step failed, see $out/steps/$step.log; the same command goes on from there" >&2
            exit 1
        fi
        touch "$out/steps/$step.done"
        echo "$step: $((SECONDS - started)) s"
    done
    [[ $print ]] || echo "tables and pictures: $out/report"
}
main; exit
