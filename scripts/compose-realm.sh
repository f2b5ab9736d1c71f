#!/usr/bin/env bash
# Derives the realm of the compose file from the realm of the loopback demo.
#
#   scripts/compose-realm.sh            write deploy/keycloak/demo-realm.compose.json
#   scripts/compose-realm.sh --check    fail if that file is not what would be written
#
# The only difference: the realm's admin and logout URLs name the gateway's service, because inside the
# compose network 127.0.0.1 is Keycloak's own container. Keycloak can replace ${...} while importing, but the
# realm's mappers hold a literal ${client_id} that must survive.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

from=$root/deploy/keycloak/demo-realm.json
to=$root/deploy/keycloak/demo-realm.compose.json
derive() { sed 's#"http://127\.0\.0\.1:9072/#"http://gateway:9072/#' "$from"; }

case ${1:-} in
'') derive >"$to" ;;
--check) derive | cmp --silent - "$to" || die "$to is stale; run: scripts/compose-realm.sh" ;;
*)
    say "usage: scripts/compose-realm.sh [--check]"
    exit 64
    ;;
esac
