"""``/v1/audio/transcriptions``: a sound comes as a form, and goes to the engine as one document like every request."""

from __future__ import annotations

import base64
import json
from email.message import Message
from typing import Any

from serving.gateway.errors import BadRequest
from serving.gateway.forms import form, text_of
from serving.gateway.request import CHARACTERS_PER_SOUND_TOKEN, TRANSCRIPTIONS, Request

SOUND_LIMIT_BYTES = 25 * 1024 * 1024
TEXTS = ("model", "language", "prompt", "response_format", "temperature")
KNOWN = frozenset({*TEXTS, "file", "stream", "timestamp_granularities[]", "include[]", "chunking_strategy"})
ANSWER_PART = 8
"""A spoken second makes some three tokens of text and more than twelve of sound: one in so many is expected beside."""


def parse_transcription(content_type: str, raw: bytes) -> Request:
    """Return the request in the form. Raises ``BadRequest`` naming the field at fault."""
    parts = form(content_type, raw)
    unknown = sorted(parts.keys() - KNOWN)
    if unknown:
        raise BadRequest(f"Unrecognized request argument supplied: {unknown[0]}", param=unknown[0])
    given = {name: text_of(parts[name]) for name in TEXTS if name in parts}
    if not given.get("model"):
        raise BadRequest("you must provide a model parameter", param="model")
    if given.get("response_format", "json") != "json":
        raise BadRequest("Transcriptions are told as 'json' only.", param="response_format", code="invalid_value")
    for name in ("stream", "timestamp_granularities[]"):
        if name in parts and text_of(parts[name]).lower() not in ("", "false"):
            raise BadRequest(f"Transcriptions have no '{name}' here.", param=name, code="unsupported_parameter")
    sound, name = _sound(parts.get("file"))
    body: dict[str, Any] = given | {"file": sound, "filename": name}
    cost = len(sound) // CHARACTERS_PER_SOUND_TOKEN
    return Request(
        operation=TRANSCRIPTIONS,
        model=given["model"],
        is_stream=False,
        cost=cost + cost // ANSWER_PART + 1,
        raw=json.dumps(body).encode(),
        body=body,
    )


def _sound(part: Message | None) -> tuple[str, str]:
    """Return the sound in base64 and the name that tells its format."""
    content = part.get_payload(decode=True) if part is not None else b""
    if part is None or not isinstance(content, bytes) or not content:
        raise BadRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    return base64.b64encode(content).decode(), part.get_filename() or "sound.wav"
