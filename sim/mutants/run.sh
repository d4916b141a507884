#!/usr/bin/env bash
# Shows that the simulator finds bugs: breaks the engine on purpose, one patch at a time, and runs seeds until one fails.
#
#   sim/mutants/run.sh            all patches
#   sim/mutants/run.sh 03 07      these
#
# Works in a copy of HEAD's tree; the tree you stand in is not touched (and what you have not committed is not seen).
# Settings: SEEDS (how many seeds, 100), DAYS (2), TILLS (5), MUTANTS_DIR (where copy and target are kept, for a faster
# next time). Only seeds count that hold without any patch. Exit code 1 if a patch is not caught.
# A patch whose second line is `# with OPTIONS` is looked for in runs with these, such as --hubs 3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
seeds=${SEEDS:-100}
days=${DAYS:-2}
tills=${TILLS:-5}

if [[ -n ${MUTANTS_DIR:-} ]]; then
    work=$MUTANTS_DIR
    mkdir -p "$work"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
tree=$work/tree
export CARGO_TARGET_DIR=$work/target CARGO_INCREMENTAL=1

patches=()
if [[ $# -gt 0 ]]; then
    for number in "$@"; do
        found=("$here/$number"-*.patch)
        [[ -f ${found[0]} ]] || { echo "there is no mutant $number in $here" >&2; exit 2; }
        patches+=("${found[0]}")
    done
else
    patches=("$here"/*.patch)
fi

fresh_tree() {
    # Only what differs is written, so that cargo builds only what differs.
    mkdir -p "$tree" "$work/head"
    rm -rf "${work:?}/head"
    mkdir "$work/head"
    git -C "$root" archive HEAD | tar -x -C "$work/head"
    (cd "$work/head" && find . -type f) | while read -r file; do
        cmp -s "$work/head/$file" "$tree/$file" && continue
        mkdir -p "$(dirname "$tree/$file")"
        cp "$work/head/$file" "$tree/$file"
        touch "$tree/$file"
    done
}

build() {
    (cd "$tree" && cargo build --quiet --release -p sim) >&2
}

# One seed: nothing if it holds, the invariant that complains if not. A panic is a complaint too: the product stopped.
complaint() {
    local said
    # What is shrunk is of no use to anybody here.
    if said=$("$1" run --seed "$2" --tills "$tills" --days "$days" --shrink-tries 0 --out "$work" "${@:3}" 2>&1); then
        return 0
    fi
    # No early exit from a pipe here: with pipefail a closed pipe would end the script.
    local line=${said#*it does not hold that }
    if [[ $line != "$said" ]]; then
        line=${line%%$'\n'*}
        echo "${line%%: *}"
    elif [[ $said == *panicked* ]]; then
        line=${said#*panicked at }
        line=${line#*$'\n'}
        echo "panic: ${line%%$'\n'*}"
    else
        echo "the run ended without a verdict"
    fi
}

fresh_tree
build
cp "$CARGO_TARGET_DIR/release/tillsync-sim" "$work/unpatched"
green=()
for ((seed = 1; seed <= seeds; seed++)); do
    said=$(complaint "$work/unpatched" "$seed")
    if [[ -z $said ]]; then green+=("$seed"); else echo "seed $seed fails without any patch: $said" >&2; fi
done
echo "${#green[@]} of $seeds seeds hold without any patch ($tills tills, $days days)." >&2

missed=0
echo "| mutant | what it breaks | seeds until caught | invariant that complained |"
echo "|---|---|---|---|"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    words=$(sed -n '1s/^# //p' "$patch")
    read -ra with <<<"$(sed -n '2s/^# with //p' "$patch")"
    fresh_tree
    if ! patch --quiet --forward -p1 -d "$tree" <"$patch" >&2; then
        echo "| $name | $words | - | **the patch does not apply** |"
        missed=1
        continue
    fi
    if ! build; then
        echo "| $name | $words | - | **it does not build** |"
        missed=1
        continue
    fi
    tried=0
    said=
    for seed in "${green[@]}"; do
        tried=$((tried + 1))
        said=$(complaint "$CARGO_TARGET_DIR/release/tillsync-sim" "$seed" "${with[@]}")
        # What complains with these options without any patch, too, says nothing.
        [[ -n $said && ${#with[@]} -gt 0 && -n $(complaint "$work/unpatched" "$seed" "${with[@]}") ]] && said=
        [[ -n $said ]] && break
    done
    if [[ -n $said ]]; then
        echo "| $name | $words | $tried (seed $seed) | $said |"
    else
        echo "| $name | $words | not in $tried | **nothing** |"
        missed=1
    fi
done
exit "$missed"
