"""The Python SDK in the process of a test."""

import asyncio

import centrifuge

PATIENCE = 60.0


async def disconnect(client: centrifuge.Client) -> None:
    """Until the connection is closed; the client itself closes it in the background, which may outlive the loop."""
    connection = client._conn
    await client.disconnect()
    if connection is not None:
        async with asyncio.timeout(PATIENCE):
            await connection.wait_closed()
