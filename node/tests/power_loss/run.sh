#!/usr/bin/env bash
# Power cuts at every moment that matters: records what a node asks of its disk (strace), builds the disks that a cut may
# leave behind, opens each, and looks for every promise. Needs a recorder and replayer with the command line of powerloss.py.
#
#   TOOL=…/powerloss.py node/tests/power_loss/run.sh OUT CUTS NESTED MODE…      modes: till hub restore rotate encrypt
#
# BIN and CHECK name the binaries (otherwise those of target/release), JOBS how many images are opened at a time. Exit code 0:
# nothing acknowledged is missing. An image costs about 35 ms of processor time for each of its two openings; images are built
# in TMPDIR, which may be in memory.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../../.."
bin="${BIN:-$root/target/release/tillsync}" check="${CHECK:-$root/target/release/examples/crash_check}"
out="$1" cuts="$2" nested="$3" jobs="${JOBS:-2}"
shift 3
failed=0
for mode in "$@"; do
    x="$out/$mode"
    rm -rf "$x"
    mkdir -p "$x/data" "$x/made"
    keys=()
    case "$mode" in
        restore | rotate | encrypt) python3 "$here/workload.py" prepare "$bin" "$x/data" "$x/made" ;;
    esac
    case "$mode" in
        rotate) cp -r "$x/made/sealed" "$x/data/node" && keys=("$x/made/key1" "$x/made/key2") ;;
        encrypt) cp -r "$x/made/plain" "$x/data/node" && keys=("$x/made/key1") ;;
    esac
    python3 "$TOOL" record --dir "$x/data" --out "$x/rec" -- \
        python3 "$here/workload.py" "$mode" "$bin" "$x/data" "$x/made" >"$x/record.log" 2>&1 ||
        { cat "$x/record.log"; exit 1; }
    for names in posix journal; do
        python3 "$TOOL" replay "$x/rec" --fs "$names" --cuts "$cuts" --nested "$nested" --jobs "$jobs" --json "$x/$names.json" \
            --check "$check {dir}/node ${keys[*]:-}" >"$x/$names.log" 2>&1 || failed=1
        printf '== %s, %s names\n' "$mode" "$names"
        tail -n 12 "$x/$names.log"
    done
done
exit "$failed"
