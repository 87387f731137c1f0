#!/usr/bin/env bash
# Starts a cluster of its own with Docker, breaks it in every way below while it carries load through the balancer, and
# counts every message: ./deploy/verify.sh      About ten minutes. Needs Docker with compose, nothing else.
# Exit status 0: every step held. What it started is removed at the end, also after Ctrl-C. Variables: PORT (8765) on
# 127.0.0.1, SUBNET (172.30.9), SECONDS_OF_LOAD (30) and NO_PULL=1 for images that are already here.
set -euo pipefail
cd "$(dirname "$0")/.."

export PORT=${PORT:-8765} SUBNET=${SUBNET:-172.30.9} LOAD_CLIENTS=client COMPOSE_PROGRESS=quiet
LOAD=${SECONDS_OF_LOAD:-30}
PROJECT=gateway-verify
NODES=(node1 node2 node3)
# A version that no build has.
OTHER_VERSION=fe
scratch=$(mktemp -d)
rows=()
failed=0

eval "$(./deploy/secrets.sh | sed 's/^/export /')"
compose=(docker compose -p "$PROJECT" -f docker-compose.yml --profile loadtest)
pull=()
[ -z "${NO_PULL:-}" ] || pull=(--pull never)

clean() {
    trap - EXIT INT TERM
    docker rm -f "$PROJECT-load" >/dev/null 2>&1 || true
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
            [ "$SECONDS" -lt "$until" ] || { say "$node did not get healthy"; "${compose[@]}" logs --tail 20 "$node"; return 1; }
            sleep 1
        done
    done
}

# One figure of the result, from the section totals or from the top.
figure() { sed -n "s/^ *\"$1\": \"\{0,1\}\([a-z0-9]*\)\"\{0,1\},\{0,1\}$/\1/p" "$scratch/result.json" | head -1; }

under_load() { # STEP SECONDS COMMAND...: run the command while the load runs, then count
    local step=$1 seconds=$2 status=0 broken=ok found
    shift 2
    say "$step ..."
    docker rm -f "$PROJECT-load" >/dev/null 2>&1 || true
    rm -f "$scratch/result.json"
    "${compose[@]}" run -d --no-deps --name "$PROJECT-load" loadtest rooms --target ws://balancer:8000 \
        --channels 20 --members 6 --rate 5 --seconds "$seconds" --grace 20 --workers 1 --quiet \
        --json /tmp/result.json >/dev/null
    sleep 6
    "$@" >"$scratch/step.log" 2>&1 || { broken=FAILED; tail -20 "$scratch/step.log"; }
    status=$(docker wait "$PROJECT-load")
    docker cp "$PROJECT-load:/tmp/result.json" "$scratch/result.json" >/dev/null 2>&1 || true
    if [ ! -s "$scratch/result.json" ]; then
        docker logs --tail 20 "$PROJECT-load"
        row "$step" FAILED "no result, exit status $status"
        return 0
    fi
    found="$(figure acknowledged) acknowledged, $(figure received) of $(figure expected) delivered,"
    found+=" $(figure lost) lost, $(figure missed_and_told) missed and told, $(figure duplicated) doubled,"
    found+=" $(figure refused)+$(figure unknown) not acknowledged, $(figure reconnects) reconnects"
    # 3: this machine was too slow for the figures of time, which are not what is looked at here.
    case $status in 0 | 3) ;; *) broken=FAILED ;; esac
    for name in lost missed_and_told duplicated misordered; do
        [ "$(figure $name)" = 0 ] || broken=FAILED
    done
    [ "$(figure acknowledged)" -gt 0 ] || broken=FAILED
    [ "$broken" = ok ] || docker logs --tail 30 "$PROJECT-load"
    row "$step" "$broken" "$found"
}

kill_node() { docker kill "$(node_id node1)" && sleep 8 && docker start "$(node_id node1)" && healthy node1; }

rolling_restart() { local node; for node in "${NODES[@]}"; do "${compose[@]}" restart --no-deps "$node" && healthy "$node"; done; }

kill_redis() { docker kill "$(node_id redis)" && sleep 4 && docker start "$(node_id redis)" && healthy redis "${NODES[@]}"; }

partition() {
    local id
    id=$(node_id node2)
    docker network disconnect "${PROJECT}_back" "$id"
    sleep 10
    docker network connect --alias node2 "${PROJECT}_back" "$id"
    healthy node2
}

roll_versions() {
    local node nodes
    for node in "${NODES[@]}"; do
        "${compose[@]}" up -d --no-deps --no-build "${pull[@]}" "$node"
        healthy "$node"
        [ "$node" != node1 ] || nodes=$("${compose[@]}" exec -T node1 gateway nodes)
    done
    echo "$nodes"
    grep -q bus <<<"$nodes" || { echo "gateway nodes does not show the versions"; return 1; }
}

say "build"
"${compose[@]}" build >"$scratch/build.log" 2>&1 || { tail -30 "$scratch/build.log"; exit 1; }
say "up"
"${compose[@]}" up -d --wait "${pull[@]}" redis "${NODES[@]}" balancer
healthy redis "${NODES[@]}"
row "build, up" ok "all healthy"

under_load "load through the balancer" "$LOAD" true
under_load "kill a node, start it again" "$((LOAD + 10))" kill_node
under_load "rolling restart" "$((LOAD + 70))" rolling_restart
under_load "kill Redis, start it again" "$((LOAD + 10))" kill_redis
under_load "partition a node from Redis" "$((LOAD + 20))" partition

say "a build with another envelope version"
docker build -q -t "$PROJECT-other" - >/dev/null <<EOF
FROM pubsub-gateway
USER 0
RUN file=\$(python -c 'import gateway.broker.envelope as e; print(e.__file__)') && sed -i 's/^VERSION = .*/VERSION = b"\\\\x$OTHER_VERSION"/' \$file && python -c 'from gateway.broker.envelope import VERSION; assert VERSION == bytes.fromhex("$OTHER_VERSION"), VERSION'
USER 10001:10001
EOF
for node in "${NODES[@]}"; do
    [ -s "$scratch/other.yml" ] || echo "services:" >"$scratch/other.yml"
    printf '  %s: {image: %s-other}\n' "$node" "$PROJECT" >>"$scratch/other.yml"
done
"${compose[@]}" -f "$scratch/other.yml" up -d --no-deps --no-build --pull never "${NODES[@]}"
healthy "${NODES[@]}"
under_load "roll from another envelope version" "$((LOAD + 90))" roll_versions

printf '\n%-44s %-6s %s\n' "step" "result" "found"
printf '%s\n' "${rows[@]}"
exit "$failed"
