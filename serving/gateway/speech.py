"""In which of OpenAI's two ways an answer is told: as a chat completion, as engines speak, or as a response."""

from __future__ import annotations

import json
from typing import Protocol

from serving.gateway import responses
from serving.gateway.errors import EngineBroke

BROKEN = EngineBroke("The engine stopped within the answer.")


class Speech(Protocol):
    """Turns what an engine says into what the client reads; one for each answer."""

    def whole(self, document: bytes) -> bytes:
        """Return the body of an answer that is not streamed."""
        ...

    def piece(self, payload: bytes) -> bytes:
        """Return the server-sent events for one chunk of a stream; may be empty."""
        ...

    def end(self) -> bytes:
        """Return the events that close a complete stream."""
        ...

    def broken(self) -> bytes:
        """Return the events that tell of a break within the stream."""
        ...


class ChatSpeech:
    """As it came."""

    def whole(self, document: bytes) -> bytes:
        """See ``Speech``."""
        return document

    def piece(self, payload: bytes) -> bytes:
        """See ``Speech``."""
        return b"data: %b\n\n" % payload

    def end(self) -> bytes:
        """See ``Speech``."""
        return b"data: [DONE]\n\n"

    def broken(self) -> bytes:
        """See ``Speech``."""
        return b"data: %b\n\n" % BROKEN.document()


class ResponseSpeech:
    """As ``/v1/responses``. ``request_id`` makes the ids; ``created_s`` is the time of the request."""

    def __init__(self, request_id: str, created_s: int) -> None:
        self._name = request_id.removeprefix("req_")
        self._created_s = created_s
        self._stream = responses.ResponseStream(self._name, created_s)

    def whole(self, document: bytes) -> bytes:
        """See ``Speech``."""
        return json.dumps(responses.whole(json.loads(document), self._name, self._created_s)).encode()

    def piece(self, payload: bytes) -> bytes:
        """See ``Speech``."""
        return b"".join(self._stream.feed(json.loads(payload)))

    def end(self) -> bytes:
        """See ``Speech``."""
        return b"".join(self._stream.end())

    def broken(self) -> bytes:
        """See ``Speech``."""
        return self._stream.broken(str(BROKEN))
