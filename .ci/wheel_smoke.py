"""Starts a cluster from an installed wheel, publishes on one node and reads it on another, fetches the page."""

import json
import subprocess
import sys
import threading
import urllib.request

from websockets.sync.client import connect


def main(gateway: str) -> None:
    cluster = subprocess.Popen([gateway, "cluster", "--demo"], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, cluster.kill)
    watchdog.start()
    try:
        assert cluster.stdout is not None
        line = cluster.stdout.readline()
        ready = json.loads(line.removeprefix("ready "))
        first, second = ready["nodes"][0]["url"], ready["nodes"][1]["url"]
        with connect(second.replace("http", "ws", 1) + "/ws/demo:wheel") as reader:
            # Its own message comes back once it is subscribed.
            reader.send("ready?")
            assert reader.recv(timeout=10) == "ready?"
            request = urllib.request.Request(
                first + "/api/publish",
                json.dumps({"channel": "demo:wheel", "data": {"hello": "wheel"}}).encode(),
                {"X-API-Key": ready["api_key"] or "", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                assert json.load(answer)["result"]["offset"] == 2
            assert json.loads(reader.recv(timeout=10)) == {"hello": "wheel"}
        with urllib.request.urlopen(first + "/") as page:
            assert b"gateway demo chat" in page.read()
    finally:
        watchdog.cancel()
        cluster.terminate()
        cluster.wait(20)
    print("the wheel works")


if __name__ == "__main__":
    main(sys.argv[1])
