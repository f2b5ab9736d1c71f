#!/usr/bin/env bash
# Fuzzes one target after the other and says how often each was run.
#
#   fuzz/campaign.sh SECONDS [TARGET...]     all targets if none is named
#
# What is new is in fuzz/found/TARGET, a crash in fuzz/artifacts/TARGET. Exit code 1 if there was one.
# CARGO_FUZZ    cargo +nightly fuzz     (for another toolchain)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:?usage: fuzz/campaign.sh SECONDS [TARGET...]}
shift
all=(whole_proxy jwt dpop jwks introspection target config proxy_header claim_to_header authorization)
[ $# -gt 0 ] || set -- "${all[@]}"
read -ra fuzz <<<"${CARGO_FUZZ:-cargo +nightly fuzz}"

# The versions that are shipped are the ones to fuzz.
cp Cargo.lock fuzz/Cargo.lock

failed=0
for target in "$@"; do
    options=(-max_total_time="$seconds" -timeout=10 -print_final_stats=1)
    [ "$target" = whole_proxy ] && options+=(-max_len=4096)
    dictionary=fuzz/dictionaries/$target.dict
    [ -f "$dictionary" ] && options+=(-dict="$dictionary")
    mkdir -p "fuzz/found/$target"
    log=fuzz/found/$target.log
    outcome='no finding'
    # libFuzzer reads every folder and writes to the first.
    if ! "${fuzz[@]}" run -s none "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- "${options[@]}" >"$log" 2>&1; then
        outcome="FAILED, see $log"
        failed=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-16s %5d s  %12s executions  %s\n' "$target" "$seconds" "${runs:-?}" "$outcome"
done
exit "$failed"
