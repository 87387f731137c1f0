"""Key sets (JWKS) that change while the gateway runs: from a file, or from a fixed URL."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth.keys import Key, KeySet
from gateway.errors import ConfigError
from gateway.tasks import end_task

if TYPE_CHECKING:
    # At runtime it is imported by those who fetch: it takes a fifth of the time in which a node starts.
    import httpx

logger = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024

# Seconds between two looks at the file.
FILE_INTERVAL = 2.0
# Seconds between two fetches, however many tokens name unknown keys.
FETCH_INTERVAL = 5.0
# Seconds until a failed fetch is repeated without anybody asking.
RETRY_INTERVAL = 30.0
# Seconds for one fetch altogether.
FETCH_TIMEOUT = 5.0
# Tokens that may wait for a fetch; others get a temporary error.
MAX_WAITING = 1024

NO_KEY = "it holds no RSA, P-256 or Ed25519 key for signatures"

# Called with "" after a successful fetch, otherwise with the reason why the fetch failed.
Fetched = Callable[[str], None]


class FileKeys:
    """A key set in a file, read again when it changes."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError when the file cannot be used."""
        self._path = path
        self._now = now
        self._looked_at = now()
        try:
            self._seen = self._stat()
            self._keys = self._read()
            if self._keys.is_empty:
                raise ValueError(NO_KEY)
        except (OSError, ValueError) as error:
            raise ConfigError(f"auth.jwks_file: {path}: {error}") from None

    def find(self, key_id: str, algorithm: str) -> tuple[Key, ...]:
        """As KeySet.find. The file is looked at every two seconds, and at once for an unknown key."""
        found = self._keys.find(key_id, algorithm)
        if not found or self._now() >= self._looked_at + FILE_INTERVAL:
            self._look()
            found = self._keys.find(key_id, algorithm)
        return found

    def _look(self) -> None:
        self._looked_at = self._now()
        try:
            seen = self._stat()
            if seen == self._seen:
                return
            # Set first: a file that cannot be used is reported once.
            self._seen = seen
            self._keys = self._read()
            logger.info("read the key set in %s again", self._path)
            if self._keys.is_empty:
                logger.warning("the key set in %s: %s, and the previous keys are withdrawn", self._path, NO_KEY)
        except (OSError, ValueError) as error:
            logger.error("the key set in %s cannot be used, the previous keys stay in use: %s", self._path, error)

    def _stat(self) -> tuple[int, int, int]:
        stat = os.stat(self._path)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> KeySet:
        with self._path.open("rb") as file:
            document = file.read(MAX_BYTES + 1)
        if len(document) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return KeySet(document)


class UrlKeys:
    """A key set behind one fixed URL, fetched at start, every `ttl` seconds, and when a token names an unknown key.

    While the endpoint fails, the keys fetched before stay in use. Redirects are not followed, so no other host is ever
    asked. Keys are found by their id and algorithm.
    """

    def __init__(self, url: str, ttl: float) -> None:
        """`ttl` in seconds. Raises ConfigError for a malformed URL."""
        import httpx

        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"auth.jwks_url: {error}") from None
        self._url = url
        # Without user, password and query, which may be secret.
        self._shown = f"{parsed.scheme}://{parsed.netloc.decode()}{parsed.path}"
        self._ttl = ttl
        self._keys: KeySet | None = None
        self._waiting: list[Fetched] = []
        self._wanted = asyncio.Event()
        self._client: httpx.AsyncClient | None = None
        self._fetching: asyncio.Task[None] | None = None

    def is_like(self, other: "UrlKeys") -> bool:
        """Whether the other fetches the same URL equally often."""
        return (self._url, self._ttl) == (other._url, other._ttl)

    def find(self, key_id: str, algorithm: str) -> tuple[Key, ...]:
        """As KeySet.find, among the keys known now."""
        return self._keys.find(key_id, algorithm) if self._keys is not None else ()

    async def start(self) -> None:
        """Fetch the keys for the first time. If the endpoint fails, that is logged and the fetch is repeated later."""
        self._client = _client()
        succeeded = not await self._fetch(self._client)
        self._fetching = asyncio.create_task(self._fetch_forever(self._client, succeeded))

    def begin(self) -> None:
        """As `start`, without waiting: tokens that come before the keys wait for them."""
        self._client = _client()
        self._fetching = asyncio.create_task(self._fetch_from_now(self._client))

    async def stop(self) -> None:
        """Stop fetching. Safe to call twice, and before start."""
        await end_task(self._fetching)
        self._fetching = None
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        self._answer(len(self._waiting), "the key set is no longer fetched")

    def ask(self, fetched: Fetched) -> None:
        """Fetch soon, since a token names an unknown key; `fetched` is called when that is done."""
        if len(self._waiting) >= MAX_WAITING or self._client is None:
            fetched("too many tokens wait for the key set, or the node stops")
            return
        self._waiting.append(fetched)
        self._wanted.set()

    async def _fetch_from_now(self, client: "httpx.AsyncClient") -> None:
        problem = await self._fetch(client)
        # Also tokens that came meanwhile: the keys are there now, or the next fetch is not soon.
        self._answer(len(self._waiting), problem)
        await self._fetch_forever(client, not problem)

    async def _fetch_forever(self, client: "httpx.AsyncClient", succeeded: bool) -> None:
        while True:
            await asyncio.sleep(FETCH_INTERVAL)
            idle = (self._ttl if succeeded else RETRY_INTERVAL) - FETCH_INTERVAL
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(idle, 0.0)):
                    await self._wanted.wait()
            self._wanted.clear()
            # Tokens that ask during the fetch need one that begins after them.
            asked = len(self._waiting)
            problem = await self._fetch(client)
            succeeded = not problem
            self._answer(asked, problem)

    def _answer(self, asked: int, problem: str) -> None:
        """Answer the first `asked` of the waiting callers."""
        waiting, self._waiting = self._waiting[:asked], self._waiting[asked:]
        loop = asyncio.get_running_loop()
        for fetched in waiting:
            # In separate callbacks: a failing one must not end the fetching.
            loop.call_soon(fetched, problem)

    async def _fetch(self, client: "httpx.AsyncClient") -> str:
        """Fetch the set once. Returns what went wrong, empty for nothing."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                self._keys = KeySet(await self._download(client))
        # Any error: fetching must continue.
        except Exception as error:
            problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            kept = "the previous keys stay in use" if self._keys is not None else "there are no keys yet"
            logger.error("the key set of %s cannot be fetched, %s: %s", self._shown, kept, problem)
            return f"the key set cannot be fetched: {problem}"
        if self._keys.is_empty:
            logger.warning("the key set of %s: %s, and the previous keys are withdrawn", self._shown, NO_KEY)
        return ""

    async def _download(self, client: "httpx.AsyncClient") -> bytes:
        async with client.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                # We asked for no compression; unpacking could yield any size.
                raise ValueError("the answer is compressed")
            document = bytearray()
            async for chunk in response.aiter_raw():
                document += chunk
                if len(document) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
        return bytes(document)


def _client() -> "httpx.AsyncClient":
    import httpx

    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(headers=headers, follow_redirects=False, timeout=FETCH_TIMEOUT)
