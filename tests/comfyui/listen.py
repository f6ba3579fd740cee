"""Print what ComfyUI tells its pages, a line of JSON a message; run with ComfyUI's own Python.

python listen.py ws://127.0.0.1:8188/ws?clientId=tests
"""

import asyncio
import json
import sys

import aiohttp  # type: ignore[import-not-found]  # ComfyUI's


async def listen(address: str) -> None:
    """Previews are binary: of them only the number of bytes is printed."""
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as line:
        # As ComfyUI's own page says when it connects; without it no previews are sent.
        await line.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        async for message in line:
            if message.type == aiohttp.WSMsgType.BINARY:
                print(json.dumps({"type": "preview", "bytes": len(message.data)}), flush=True)  # noqa: T201
            elif message.type == aiohttp.WSMsgType.TEXT:
                print(message.data, flush=True)  # noqa: T201


asyncio.run(listen(sys.argv[1]))
