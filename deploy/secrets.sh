#!/bin/sh
# Prints fresh secrets for docker-compose.yml:  ./deploy/secrets.sh > .env
set -eu
secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
cat <<EOF
REDIS_PASSWORD=$(secret)
HMAC_SECRET=$(secret)
API_KEY=$(secret)
EOF
