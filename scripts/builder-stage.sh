#!/usr/bin/env bash
# Does what the builder stage of the Dockerfile does, without a container: HEAD in a fresh clone, of that only what
# .dockerignore lets through, the image's toolchain, the stage's own cargo command. Leaves target/release/portcullis.
#
# CARGO_TARGET_DIR   target   shared with the working tree, so that dependencies are built once
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

[ $# -eq 0 ] || die "takes no arguments"
cd "$root"
head=$(git rev-parse HEAD) || die "no git repository, so nothing to clone"
git diff --quiet HEAD || say "building HEAD, without what is not committed"

# Read from the Dockerfile, so that it is the stage that is tried and not a copy of it.
command=$(sed -n 's/^ *\(cargo build [a-z -]*[a-z]\) *\\*$/\1/p' Dockerfile)
toolchain=$(sed -n 's/^FROM rust:\([0-9.]*\)-[a-z-]* AS builder$/\1/p' Dockerfile)
[ -n "$command" ] && [ "$(wc -l <<<"$command")" -eq 1 ] || die "cannot find the one cargo command in the Dockerfile"
[ -n "$toolchain" ] || die "cannot find the builder's toolchain in the Dockerfile"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet --no-checkout "$root" "$work/clone"
git -C "$work/clone" checkout --quiet --detach "$head"
mkdir "$work/src"
while IFS= read -r line; do
    case $line in
    '' | '#'* | '*') ;;
    '!'*['*?[']*) die "cannot read this line of .dockerignore: $line" ;;
    '!'*)
        path=${line#!}
        [ -e "$work/clone/$path" ] || die ".dockerignore names $path, which HEAD does not have"
        mkdir -p "$work/src/$(dirname "$path")"
        cp -r "$work/clone/$path" "$work/src/$path"
        ;;
    *) die "cannot read this line of .dockerignore: $line" ;;
    esac
done <"$work/clone/.dockerignore"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
cd "$work/src"
say "$command, in a fresh clone of ${head:0:12}"
# shellcheck disable=SC2086  # a command with its options
RUSTUP_TOOLCHAIN=$toolchain $command
bin=$CARGO_TARGET_DIR/release/portcullis
[ -x "$bin" ] || die "$command left no $bin"
"$bin" version >&2
"$bin" check --config conf/portcullis.yaml >/dev/null || die "the binary does not accept conf/portcullis.yaml"
