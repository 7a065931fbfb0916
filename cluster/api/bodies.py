"""Bodies of requests that were read before the application reads them."""

from __future__ import annotations

from starlette.types import Message, Receive


def again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once more, and then whatever the client still sends."""
    sent = False

    async def once_more() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return once_more
