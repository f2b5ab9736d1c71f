# Sourced by the scripts of this repository; does nothing when run.
# shellcheck shell=bash

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Says on standard error what is going on, so that standard output stays a script's answer.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# apt COMMAND...: apt-get as root or through sudo, or a clear refusal.
apt() {
    local as_root=()
    command -v apt-get >/dev/null || die "there is no apt-get here for: $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "neither root nor sudo here for: apt-get $*"
        as_root=(sudo)
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >&2
}

# install_packages NAME...: Debian packages.
install_packages() {
    say "installing $*"
    apt update || die "apt-get update failed"
    apt install --yes --no-install-recommends "$@" || die "apt-get could not install: $*"
}

# ensure COMMAND PACKAGE: the command, from its Debian package if it is missing.
ensure() {
    command -v "$1" >/dev/null && return
    install_packages "$2"
    command -v "$1" >/dev/null || die "$1 is still missing after installing $2"
}

# port_is_taken PORT: whether anything accepts connections there on loopback.
port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_until SECONDS COMMAND...: repeats the command quietly until it succeeds; fails at the deadline.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# The release binary that the scripts try out.
portcullis_bin() {
    local bin=${PORTCULLIS_BIN:-${CARGO_TARGET_DIR:-$root/target}/release/portcullis}
    [ -x "$bin" ] || die "no $bin; run: cargo build --release --locked"
    printf '%s' "$bin"
}

# prepare_load: what a load test in Python needs, and a place for what it leaves. Sets bin and work.
prepare_load() {
    bin=$(portcullis_bin)
    work=$root/target/loadtest
    ensure curl curl
    ensure python3 python3
    mkdir -p "$work"
}

# start_demo BINARY LOG: `portcullis demo` on ports of its own, ready to serve. Sets demo_pid, gateway_url,
# admin_url and issuer_url. Call stop_demo afterwards, in any case.
start_demo() {
    local bin=$1 log=$2 port
    local gateway_port=${GATEWAY_PORT:-18072} admin_port=${ADMIN_PORT:-19072}
    local issuer_port=${ISSUER_PORT:-18180} service_port=${SERVICE_PORT:-18081}
    # Else the checks below might talk to somebody else's gateway.
    for port in "GATEWAY_PORT $gateway_port" "ADMIN_PORT $admin_port" "ISSUER_PORT $issuer_port" "SERVICE_PORT $service_port"; do
        port_is_taken "${port#* }" && die "port ${port#* } is taken; choose another with ${port% *}"
    done
    gateway_url=http://127.0.0.1:$gateway_port
    admin_url=http://127.0.0.1:$admin_port
    issuer_url=http://127.0.0.1:$issuer_port/realms/eazybank

    "$bin" demo --gateway-port "$gateway_port" --admin-port "$admin_port" \
        --issuer-port "$issuer_port" --service-port "$service_port" </dev/null >"$log" 2>&1 &
    demo_pid=$!
    await_ready "$demo_pid" "$admin_url" "$log" "the demo"
    say "the demo is ready on $gateway_url"
}

# stop_well PID WHAT: ends it as an operator would and wants exit 0 for it.
stop_well() {
    kill -TERM "$1" 2>/dev/null || true
    wait "$1" || die "the $2 ended with exit code $?"
}

stop_demo() {
    local pid=${demo_pid:-}
    demo_pid=
    [ -z "$pid" ] || stop_well "$pid" demo
}

# demo_token CLIENT SCOPE: an access token from the demo's issuer; its secrets follow the clients' names.
demo_token() {
    local answer
    answer=$(curl -fsS --max-time 5 "$issuer_url/protocol/openid-connect/token" \
        -d grant_type=client_credentials -d "client_id=$1" -d "client_secret=demo-only-${1#eazybank-}" \
        --data-urlencode "scope=$2") || die "no token for $1"
    sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p' <<<"$answer"
}

# make_certificate DIRECTORY: tls.crt and tls.key in it, for localhost and a few days.
make_certificate() {
    ensure openssl openssl
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$1/tls.key" -out "$1/tls.crt" 2>"$1/openssl.log" ||
        die "openssl could not make a certificate, see $1/openssl.log"
}

# await_ready PID ADMIN_URL LOG WHAT: until its readiness says yes, 30 s at most.
await_ready() {
    local deadline=$((SECONDS + 30))
    until curl -fsS --max-time 2 "$2/readyz" >/dev/null 2>&1; do
        kill -0 "$1" 2>/dev/null || { tail -n 20 "$3" >&2; die "$4 ended at once, see above"; }
        [ "$SECONDS" -lt "$deadline" ] || { tail -n 20 "$3" >&2; die "$4 was not ready within 30 s, see above"; }
        sleep 0.2
    done
}

# start_gateway BINARY CONFIG ADMIN_URL LOG: `portcullis run`, ready to serve. Sets gateway_pid. Call stop_gateway
# afterwards, in any case.
start_gateway() {
    "$1" run --config "$2" </dev/null >"$4" 2>&1 &
    gateway_pid=$!
    await_ready "$gateway_pid" "$3" "$4" "the gateway"
}

stop_gateway() {
    local pid=${gateway_pid:-}
    gateway_pid=
    [ -z "$pid" ] || stop_well "$pid" gateway
}

# metric ADMIN_URL SERIES: the value of one series, 0 if there is none.
metric() {
    curl -fsS --max-time 5 "$1/metrics" | awk -v series="$2" '$1 == series { found = $2 } END { print found + 0 }'
}
