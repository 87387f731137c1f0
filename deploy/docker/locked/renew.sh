#!/bin/sh
# Renews the locked dependencies of the images: the newest releases that pyproject.toml allows, with their hashes.
#   pip install uv && ./deploy/docker/locked/renew.sh        then run the tests with them, and commit the files
# Without arguments it takes what is newest; arguments are options of `uv pip compile`, such as --upgrade-package=redis.
set -eu
cd "$(dirname "$0")/../../.."
lock() { # SOURCE FILE OPTION...
    source=$1 file=$2
    shift 2
    uv pip compile "$source" --output-file "deploy/docker/locked/$file" --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --quiet "$@"
}
[ $# -gt 0 ] || set -- --upgrade
lock pyproject.toml gateway.txt "$@"
lock loadtest/pyproject.toml loadtest.txt "$@"
# What builds the wheels of this project (build-system.requires).
echo 'hatchling>=1.27' | lock - build.txt "$@"
