"""All attackers by name; as a program, one of them: `python -m tests.attack.attackers NAME PORT SECONDS`."""

import json
import resource
import sys
from dataclasses import asdict

from tests.attack import flooders, holders, requesters
from tests.attack.attacker import Attacker

READY = "ready\n"

ATTACKERS: dict[str, type[Attacker]] = {
    "garbage-after-close": flooders.GarbageAfterClose,
    "fragments": flooders.Fragments,
    "large-reads": flooders.LargeReads,
    "log": flooders.Log,
    "cookie": requesters.Cookie,
    "keys-subscribe": flooders.KeysSubscribe,
    "keys-history": flooders.KeysHistory,
    "keys-latest": flooders.KeysLatest,
    "silent": holders.Silent,
    "non-readers": holders.NonReaders,
    "api-keys": requesters.ApiKeys,
    "subscribe-storm": flooders.SubscribeStorm,
}


def main(name: str, port: str, seconds: str) -> None:
    """Says when it begins, and in the end what it got through."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attacker = ATTACKERS[name](("127.0.0.1", int(port)))
    attacker.prepare()
    sys.stdout.write(READY)
    sys.stdout.flush()
    attacker.run(float(seconds))
    sys.stdout.write(json.dumps(asdict(attacker.tally)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
