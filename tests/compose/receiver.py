"""A webhook receiver that runs in a container of our image: notes every request as a JSON line, fails some first attempts."""

from __future__ import annotations

import json
import sys
import time

from aiohttp import web


async def hook(request: web.Request) -> web.Response:
    """Record time, headers and body. The first attempt of every seventh event is refused."""
    body = (await request.read()).decode()
    names = ("webhook-id", "webhook-timestamp", "webhook-signature", "stageline-attempt")
    sys.stdout.write(json.dumps({"at": time.time(), "headers": {n: request.headers[n] for n in names}, "body": body}) + "\n")
    sys.stdout.flush()
    first = request.headers["stageline-attempt"] == "1"
    return web.Response(status=503 if first and request.headers["webhook-id"][-1] in "07" else 204)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/hook", hook)
    web.run_app(app, port=8000, print=None, access_log=None)
