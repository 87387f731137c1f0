#!/usr/bin/env bash
# Starts a cluster of its own with Docker, breaks it in every way below while it carries load through the balancer, and
# counts every message: ./deploy/verify.sh [STEP...]    About thirteen minutes. Needs Docker with compose, nothing else.
# Steps: outside load kill rolling redis partition roll; without any, all of them.
# Exit status 0: every step held. What it started is removed at the end, also after Ctrl-C. Variables: PORT (8765) on
# 127.0.0.1, SUBNET (172.30.9), SECONDS_OF_LOAD (30) and NO_PULL=1 for images that are already here.
set -euo pipefail
cd "$(dirname "$0")/.."

export PORT=${PORT:-8765} SUBNET=${SUBNET:-172.30.9} LOAD_CLIENTS=client COMPOSE_PROGRESS=quiet COMPOSE_IGNORE_ORPHANS=1
LOAD=${SECONDS_OF_LOAD:-30}
PROJECT=gateway-verify
NODES=(node1 node2 node3)
# A version that no build has; as it is written in a build, and as the gateway shows it.
OTHER_VERSION=fe
OTHER_BUS=254
STEPS=("$@")
[ $# -gt 0 ] || STEPS=(outside load kill rolling redis partition roll)
for step in "${STEPS[@]}"; do
    case $step in
        outside | load | kill | rolling | redis | partition | roll) ;;
        *) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
    esac
done
scratch=$(mktemp -d)
rows=()
failed=0

eval "$(./deploy/secrets.sh | sed 's/^/export /')"
compose=(docker compose -p "$PROJECT" -f docker-compose.yml --profile loadtest)
pull=()
[ -z "${NO_PULL:-}" ] || pull=(--pull never)

clean() {
    trap - EXIT INT TERM
    docker rm -f "$PROJECT-load" "$PROJECT-pairs" >/dev/null 2>&1 || true
    "${compose[@]}" down -v -t 1 >/dev/null 2>&1 || true
    docker image rm "$PROJECT-other" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap clean EXIT
trap 'exit 130' INT TERM

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

row() { # STEP RESULT FOUND
    rows+=("$(printf '%-44s %-6s %s' "$1" "$2" "$3")")
    [ "$2" = ok ] || failed=1
    say "$1: $2 $3"
}

node_id() { "${compose[@]}" ps -aq "$1"; }

healthy() { # NODE...: within 90 s
    local node until=$((SECONDS + 90))
    for node in "$@"; do
        until [ "$(docker inspect -f '{{.State.Health.Status}}' "$(node_id "$node")")" = healthy ]; do
            if [ "$SECONDS" -ge "$until" ]; then
                say "$node did not get healthy"
                "${compose[@]}" logs --tail 20 "$node"
                return 1
            fi
            sleep 1
        done
    done
}

# Python in an image that is here anyway: CODE reads standard input.
python() { docker run --rm -i --network none --entrypoint python pubsub-gateway -c "$1"; }

# What the probe of a node says, seen from the node itself: it may have no network.
ready() { "${compose[@]}" exec -T "$1" python -c "$READY"; }
READY='import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/health/ready", timeout=2)'

unready() { # NODE...: within 30 s, else what was broken is not broken
    local node until=$((SECONDS + 30))
    for node in "$@"; do
        while ready "$node" 2>/dev/null; do
            [ "$SECONDS" -lt "$until" ] || { echo "$node is still ready"; return 1; }
            sleep 0.5
        done
    done
}

# The sum of a counter over its labels.
metric() { # NODE NAME
    "${compose[@]}" exec -T "$1" python -c "$METRIC" "$2"
}
METRIC='
import sys, urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:9000/metrics", timeout=5).read().decode().splitlines()
print(int(sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == sys.argv[1])))'

# Said beside the figures of the step.
note() { echo "$1" >>"$scratch/notes"; }

# One figure of the result, from the section totals or from the top.
figure() { sed -n "s/^ *\"$1\": \"\{0,1\}\([a-z0-9]*\)\"\{0,1\},\{0,1\}$/\1/p" "$scratch/result.json" | head -1; }

loading() { # within 60 s: all clients of the load are subscribed, and it publishes
    local until=$((SECONDS + 60))
    until docker logs "$PROJECT-load" 2>&1 | grep -c ' steady ' >/dev/null; do
        if [ "$SECONDS" -ge "$until" ] || [ "$(docker inspect -f '{{.State.Running}}' "$PROJECT-load")" != true ]; then
            say "the load did not begin"
            return 1
        fi
        sleep 1
    done
}

under_load() { # STEP SECONDS COMMAND...: run the command while the load runs, then count
    local step=$1 seconds=$2 status=0 broken=ok found
    shift 2
    say "$step ..."
    docker rm -f "$PROJECT-load" >/dev/null 2>&1 || true
    rm -f "$scratch/result.json" "$scratch/notes"
    "${compose[@]}" run -d --no-deps --name "$PROJECT-load" loadtest rooms --target ws://balancer:8000 \
        --prefix load: --channels 20 --members 6 --rate 5 --seconds "$seconds" --grace 20 --workers 1 \
        --max-refused "$((20 * 5 * seconds))" --json - >/dev/null
    if ! loading; then
        broken=FAILED
    elif ! "$@" >"$scratch/step.log" 2>&1; then
        broken=FAILED
        tail -20 "$scratch/step.log"
    elif [ "$(docker inspect -f '{{.State.Running}}' "$PROJECT-load")" != true ]; then
        broken=FAILED
        say "the load ended before the step did"
    fi
    status=$(docker wait "$PROJECT-load")
    docker logs "$PROJECT-load" >"$scratch/result.json" 2>"$scratch/summary"
    if [ ! -s "$scratch/result.json" ]; then
        tail -20 "$scratch/summary"
        row "$step" FAILED "no result, exit status $status"
        return 0
    fi
    found="$(figure acknowledged) acknowledged, $(figure received) of $(figure expected) delivered,"
    found+=" $(figure lost) lost, $(figure missed_and_told) missed and told, $(figure duplicated) doubled,"
    found+=" $(figure misordered) out of order,"
    found+=" $(figure refused) refused, $(figure unknown) unknown, $(figure unanswered) unanswered,"
    found+=" $(figure reconnects) reconnects"
    [ ! -e "$scratch/notes" ] || found+="; $(paste -sd, "$scratch/notes" | sed 's/,/, /g')"
    # Invalid: this machine was too slow for the figures of time, which are not what is looked at here.
    case $(figure outcome) in passed | invalid) ;; *) broken=FAILED ;; esac
    for name in lost missed_and_told duplicated misordered; do
        [ "$(figure $name)" = 0 ] || broken=FAILED
    done
    [ "$(figure acknowledged)" -gt 0 ] || broken=FAILED
    [ "$broken" = ok ] || tail -30 "$scratch/summary"
    row "$step" "$broken" "$found"
}

# The commands of the steps; bash does not end them at an error, as they stand in a condition.

kill_node() { docker kill "$(node_id node1)" && sleep 8 && docker start "$(node_id node1)" && healthy node1; }

rolling_restart() {
    local node
    for node in "${NODES[@]}"; do
        "${compose[@]}" restart --no-deps "$node" && healthy "$node" || return 1
    done
}

kill_redis() {
    docker kill "$(node_id redis)" && unready "${NODES[@]}" && sleep 4 || return 1
    note "nodes unready meanwhile"
    docker start "$(node_id redis)" && healthy redis "${NODES[@]}"
}

partition() {
    local id
    id=$(node_id node2)
    docker network disconnect "${PROJECT}_back" "$id" && unready node2 || return 1
    ready node1 && ready node3 || return 1
    note "node2 unready meanwhile"
    sleep 10
    docker network connect --alias node2 "${PROJECT}_back" "$id" && healthy node2
}

# NODE: the bus version of each node as the gateway shows it there, with ! where it says that it differs.
versions() { "${compose[@]}" exec -T "$1" gateway nodes --json | python "$VERSIONS"; }
VERSIONS='
import json, sys
nodes = json.load(sys.stdin)["nodes"]
print(*sorted("{name}={bus}{0}".format("!" * ("bus" in node["differs"]), **node) for node in nodes))'

shown() { # EXPECTED NODE...: within 20 s
    local node found expected=$1 until=$((SECONDS + 20))
    shift
    for node in "$@"; do
        until found=$(versions "$node") && [ "$found" = "$expected" ]; do
            [ "$SECONDS" -lt "$until" ] || { echo "$node shows $found instead of $expected"; return 1; }
            sleep 1
        done
    done
}

# From each node to each node, and nothing else in between. Nodes of two versions cannot read each other's messages:
# those come from the stream instead, at the latest when a node looks after a channel that seems idle, after a minute or
# so. Each node has to have met some, or this shows nothing.
cross() {
    local node name found
    local -A before sums=([invalid]=0 [refilled]=0)
    for node in "${NODES[@]}"; do
        for name in invalid refilled; do before[$node.$name]=$(metric "$node" "${COUNTERS[$name]}") || return 1; done
    done
    docker rm -f "$PROJECT-pairs" 2>/dev/null
    "${compose[@]}" run -T --no-deps --name "$PROJECT-pairs" loadtest rooms --target ws://node1:8000 \
        --target ws://node2:8000 --target ws://node3:8000 --prefix load:pair --channels 6 --members 3 --rate 5 \
        --seconds 10 --grace 120 --workers 1 --quiet --json - >"$scratch/pairs.json"
    case $? in 0 | 3) ;; *) return 1 ;; esac
    found=$(python "$PAIRS" <"$scratch/pairs.json") || { echo "$found"; return 1; }
    note "$found"
    for node in "${NODES[@]}"; do
        for name in invalid refilled; do
            found=$(($(metric "$node" "${COUNTERS[$name]}") - before[$node.$name]))
            [ "$found" -gt 0 ] || { echo "$node: ${COUNTERS[$name]} did not grow"; return 1; }
            sums[$name]=$((sums[$name] + found))
        done
    done
    note "${sums[invalid]} unreadable"
    note "${sums[refilled]} from streams"
}
declare -A COUNTERS=([invalid]=gateway_broker_invalid_total [refilled]=gateway_refilled_publications_total)
PAIRS='
import json, sys
result = json.load(sys.stdin)
pairs = result["pairs"]
wrong = [p for p in pairs if p["expected"] == 0 or p["received"] != p["expected"] or p["duplicated"] or p["misordered"]]
delivery = result["latencies"]["delivery"]
print(f"{len(pairs) - len(wrong)} of {len(pairs)} pairs of nodes complete")
print("within {max:.0f} ms (p50 {p50:.0f})".format(**delivery))
sys.exit(f"not complete: {wrong}" if wrong or len(pairs) != 9 else 0)'

roll_versions() {
    local node current
    "${compose[@]}" up -d --no-deps --no-build "${pull[@]}" node1 && healthy node1 || return 1
    current=$("${compose[@]}" exec -T node1 python -c "$CURRENT") || return 1
    shown "node1=$current! node2=$OTHER_BUS node3=$OTHER_BUS" node1 node2 || return 1
    "${compose[@]}" exec -T node1 gateway nodes | grep "^node1 .*bus version differs: $current" || return 1
    note "bus $current beside $OTHER_BUS shown"
    cross || return 1
    for node in node2 node3; do
        "${compose[@]}" up -d --no-deps --no-build "${pull[@]}" "$node" && healthy "$node" || return 1
        [ "$node" = node3 ] || shown "node1=$current node2=$current node3=$OTHER_BUS!" node1 node3 || return 1
    done
    shown "node1=$current node2=$current node3=$current" "${NODES[@]}"
}
CURRENT='from gateway.broker.envelope import VERSION; print(int.from_bytes(VERSION, "big"))'

other_version() {
    say "a build with another envelope version"
    # The bodies in the streams stay as they are: those of one release have to be readable by the next.
    docker build -q -t "$PROJECT-other" - >/dev/null <<EOF
FROM pubsub-gateway
USER 0
RUN file=\$(python -c 'import gateway.broker.envelope as e; print(e.__file__)') \\
 && sed -i 's/^VERSION = .*/VERSION = b"\\\\x$OTHER_VERSION"/' \$file \\
 && python -c 'from gateway.broker.envelope import VERSION; assert VERSION == bytes.fromhex("$OTHER_VERSION"), VERSION'
USER 10001:10001
EOF
    local node
    echo "services:" >"$scratch/other.yml"
    for node in "${NODES[@]}"; do printf '  %s: {image: %s-other}\n' "$node" "$PROJECT" >>"$scratch/other.yml"; done
    "${compose[@]}" -f "$scratch/other.yml" up -d --no-deps --no-build --pull never "${NODES[@]}"
    healthy "${NODES[@]}"
    shown "node1=$OTHER_BUS node2=$OTHER_BUS node3=$OTHER_BUS" node1
}

# The balancer's public port leads to nothing that is inside, its other one to the API alone.
outside() {
    local found result=FAILED
    found=$("${compose[@]}" run --rm --no-deps -T -e API_KEY --entrypoint python loadtest -c "$OUTSIDE") || found=
    [ "$found" != "404 404 404 404 200" ] || result=ok
    row "what is inside stays inside" "$result" "$found"
}
OUTSIDE='
import os, urllib.error, urllib.request
def status(url):
    headers = {"X-API-Key": os.environ["API_KEY"], "Content-Type": "application/json"}
    try:
        request = urllib.request.Request("http://balancer:" + url, b"{}" if "/api" in url else None, headers)
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
print(*map(status, ("8000/health/ready", "8000/metrics", "8000/api/info", "9000/metrics", "9000/api/info")))'

say "build"
"${compose[@]}" build >"$scratch/build.log" 2>&1 || { tail -30 "$scratch/build.log"; exit 1; }
say "up"
# Not --wait, which gives up at the first node that is late and does not say why.
"${compose[@]}" up -d "${pull[@]}" redis "${NODES[@]}" balancer
healthy redis "${NODES[@]}"
row "build, up" ok "all healthy"

for step in "${STEPS[@]}"; do
    case $step in
        outside) outside ;;
        load) under_load "load through the balancer" "$LOAD" sleep 1 ;;
        kill) under_load "kill a node, start it again" "$((LOAD + 10))" kill_node ;;
        rolling) under_load "rolling restart" "$((LOAD + 70))" rolling_restart ;;
        redis) under_load "kill Redis, start it again" "$((LOAD + 20))" kill_redis ;;
        partition) under_load "partition a node from Redis" "$((LOAD + 30))" partition ;;
        roll)
            other_version
            under_load "roll from another envelope version" "$((LOAD + 230))" roll_versions
            ;;
    esac
done

printf '\n%-44s %-6s %s\n' "step" "result" "found"
printf '%s\n' "${rows[@]}"
exit "$failed"
