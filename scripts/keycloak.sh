#!/usr/bin/env bash
# A real Keycloak on loopback with the demo realm, for tests and for trying things out.
#
#   scripts/keycloak.sh fetch     get the distribution into target/keycloak, once
#   scripts/keycloak.sh start     import the realm afresh, start, wait until ready
#   scripts/keycloak.sh stop      stop what `start` started; nothing running is fine
#   scripts/keycloak.sh kill      end it at once with SIGKILL, as a crash would
#   scripts/keycloak.sh resume    start with the database as it was left, wait until ready
#   scripts/keycloak.sh status    exit 0 if running, 3 if not
#
# KEYCLOAK_PORT             8180   tokens, keys, admin API
# KEYCLOAK_MANAGEMENT_PORT  9000   /health/ready, /metrics
# KEYCLOAK_OPTS                    more options for kc.sh, separated by blanks, such as
#                                  --hostname=http://localhost:8180 --hostname-backchannel-dynamic=true
# KEYCLOAK_DIR              target/keycloak   one directory runs one Keycloak at a time
#
# The bootstrap administrator is admin/admin: this is a toy on loopback and nothing else.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

readonly version=26.7.5
readonly zip_sha256=30ef87fb7101c43d29688d1ae80c0588ff4a151b3330e9f664bf9692d398658a
port=${KEYCLOAK_PORT:-8180}
management_port=${KEYCLOAK_MANAGEMENT_PORT:-9000}
dir=${KEYCLOAK_DIR:-$root/target/keycloak}
home=$dir/keycloak-$version
pid_file=$dir/pid
log=$dir/keycloak.log
# 40 s on two idle cores; beside a build it was seen to take 125 s.
ready_within=300

fetch() {
    # Also when the distribution is there already: it may have come from a cache.
    [ -n "${JAVA_HOME:-}" ] || ensure java openjdk-17-jre-headless
    [ -x "$home/bin/kc.sh" ] && return
    ensure mvn maven
    ensure unzip unzip
    ensure curl curl
    local zip=$dir/keycloak-quarkus-dist-$version.zip
    mkdir -p "$dir"
    say "fetching Keycloak $version (174 MB)"
    mvn -q -B -C org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        "-Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip" \
        "-DoutputDirectory=$dir" -Dmdep.useBaseVersion=true >&2 || die "Maven could not fetch Keycloak $version"
    printf '%s  %s\n' "$zip_sha256" "$zip" | sha256sum --check --quiet >&2 \
        || die "$zip is not the distribution that was pinned; remove it and look why"
    # Unpacked beside its place and moved: a broken run leaves nothing that looks whole.
    rm -rf "$dir/unpacking"
    unzip -q "$zip" -d "$dir/unpacking"
    rm -rf "$home"
    mv "$dir/unpacking/keycloak-$version" "$home"
    rm -r "$dir/unpacking" "$zip"
}

# The process that `start` left, if it still is one of this directory's Keycloaks: ids are reused.
running_pid() {
    local pid
    [ -r "$pid_file" ] && pid=$(<"$pid_file") && [ -n "$pid" ] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$home" || return 1
    printf '%s' "$pid"
}

is_ready() { curl -fsS --max-time 2 "http://127.0.0.1:$management_port/health/ready"; }

fail_with_log() {
    say "the end of $log:"
    tail -n 40 "$log" >&2 || true
    stop
    die "$1"
}

start() {
    check
    # Import skips a realm that exists, so the old database has to go.
    rm -rf "$home/data/h2" "$home/data/import"
    mkdir -p "$home/data/import"
    cp "$root/deploy/keycloak/demo-realm.json" "$home/data/import/eazybank-realm.json"
    launch
}

resume() {
    check
    [ -d "$home/data/h2" ] || die "no database in $home/data; run: scripts/keycloak.sh start"
    launch
}

# Whether there is something to launch, and room for it.
check() {
    local pid taken
    [ -x "$home/bin/kc.sh" ] || die "no Keycloak in $home; run: scripts/keycloak.sh fetch"
    [ -n "${JAVA_HOME:-}" ] || command -v java >/dev/null || die "no java; run: scripts/keycloak.sh fetch"
    pid=$(running_pid) && die "already running as process $pid; run: scripts/keycloak.sh stop"
    for taken in "KEYCLOAK_PORT $port" "KEYCLOAK_MANAGEMENT_PORT $management_port"; do
        port_is_taken "${taken#* }" && die "port ${taken#* } is taken; choose another with ${taken% *}"
    done
    return 0
}

launch() {
    local hostname=()
    # Without a fixed hostname the issuer follows the Host header of each request.
    [[ " ${KEYCLOAK_OPTS:-} " == *" --hostname="* ]] || hostname=("--hostname=http://127.0.0.1:$port")

    # A session of its own: the script that calls this one may end, and `stop` ends the whole group.
    # No inherited output: a caller that reads ours to its end must not wait for Keycloak.
    # shellcheck disable=SC2086  # KEYCLOAK_OPTS is a list of words
    KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=admin JAVA_OPTS_KC_HEAP="-Xms256m -Xmx512m" \
        setsid "$home/bin/kc.sh" start-dev --import-realm --cache=local \
        --http-host=127.0.0.1 "--http-port=$port" "--http-management-port=$management_port" \
        --health-enabled=true --metrics-enabled=true "${hostname[@]}" ${KEYCLOAK_OPTS:-} \
        </dev/null >"$log" 2>&1 &
    echo $! >"$pid_file"

    local deadline=$((SECONDS + ready_within))
    until is_ready >/dev/null 2>&1; do
        kill -0 "$(<"$pid_file")" 2>/dev/null || fail_with_log "Keycloak ended before it was ready"
        [ "$SECONDS" -lt "$deadline" ] || fail_with_log "Keycloak was not ready within $ready_within s"
        sleep 0.5
    done
    say "ready on http://127.0.0.1:$port as process $(<"$pid_file") after $SECONDS s"
}

stop() {
    local pid
    if pid=$(running_pid); then
        # The leader of the group is kc.sh or, once that has handed over, java; both are in the group.
        kill -TERM -- "-$pid" 2>/dev/null || true
        if ! wait_until 20 group_is_gone "$pid"; then
            say "process $pid did not end within 20 s, killing it"
            kill -KILL -- "-$pid" 2>/dev/null || true
            wait_until 5 group_is_gone "$pid" || die "process $pid does not end"
        fi
        say "stopped process $pid"
    fi
    rm -f "$pid_file"
}

# Not named `kill`, which would hide the command.
kill_now() {
    local pid
    pid=$(running_pid) || die "not running"
    kill -KILL -- "-$pid"
    wait_until 5 group_is_gone "$pid" || die "process $pid does not end"
    say "killed process $pid"
    rm -f "$pid_file"
}

group_is_gone() { ! kill -0 -- "-$1" 2>/dev/null; }

status() {
    local pid
    if pid=$(running_pid); then
        printf 'running as process %s\n' "$pid"
    else
        printf 'not running\n'
        return 3
    fi
}

case ${1:-} in
fetch | start | stop | resume | status) "$1" ;;
kill) kill_now ;;
*)
    say "usage: scripts/keycloak.sh fetch|start|stop|kill|resume|status"
    exit 64
    ;;
esac
