#!/usr/bin/env bash
# Loads the demo catalogue, serves it on loopback, asks for a photo and for words, and goes on serving until Ctrl-C.
#
#   demo/run.sh DIR_OF_PROGRAMS
#
# DEMO_EXIT=1 stops after the answers. DEMO_ADDRESS is where to serve, default 127.0.0.1:50051.
set -euo pipefail

programs=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
address=${DEMO_ADDRESS:-127.0.0.1:50051}
work=$(dirname "$programs")/demo
index=$work/index

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

ask() {
    printf '\n$ vitrine search'
    printf ' %q' "$@"
    printf '\n'
    "$programs/vitrine" search --server "http://$address" "$@"
}

mkdir -p "$work"
say "Loading demo/products.jsonl"
"$programs/catalog-loader" demo/products.jsonl --index-dir "$index" --dead-letters "$work/dead-letters.jsonl"

say "Serving on $address"
"$programs/vitrine" serve --listen "$address" --index-dir "$index" &
server=$!
trap 'kill -TERM $server 2>/dev/null || true; wait $server 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM
ready=
for _ in $(seq 300); do
    sleep 0.1
    kill -0 $server 2>/dev/null || { echo "the server did not start" >&2; exit 1; }
    "$programs/vitrine" search --server "http://$address" --text ready >/dev/null 2>&1 && ready=1 && break
done
[ -n "$ready" ] || { echo "the server does not answer" >&2; exit 1; }

say "A photo of a sofa, in another room and light"
ask --image demo/queries/sofa-living-room.jpg --limit 5
say "Words, with a filter"
ask --text "a blue mug" --filter 'price < 50 AND availability = "in_stock"' --limit 5

if [ "${DEMO_EXIT:-}" = 1 ]; then
    exit 0
fi
say "Still serving on $address; Ctrl-C stops."
wait $server
