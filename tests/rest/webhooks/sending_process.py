"""A process that sends webhooks until it is killed: `python sending_process.py STORE [URL]` (with a URL: sends one)."""

from __future__ import annotations

import asyncio
import sys

from consona.rest.webhooks import DeliverySettings, WebhookSender

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def main(store: str, url: str = "") -> None:
    # A try is given up for dead one second after its timeout.
    settings = DeliverySettings(http=True, private_networks=True, timeout=0.5, schedule=(0.0, 1.0, 1.0, 1.0, 1.0))
    async with WebhookSender(store, settings=settings) as hooks:
        if url:
            await hooks.add_endpoint(url, secret=SECRET)
            print(await hooks.send({"id": 7}, type="invoice.paid"), flush=True)
        else:
            print("started", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
