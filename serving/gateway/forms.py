"""Multipart forms, as files and sounds are sent."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from serving.gateway.errors import BadRequest


def form(content_type: str, raw: bytes) -> dict[str, Message]:
    """Return the parts of a multipart form by name. Raises ``BadRequest`` for any other body."""
    if not content_type.startswith("multipart/form-data"):
        raise BadRequest("Files are uploaded as multipart/form-data.")
    whole = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + raw)
    found = whole.get_payload()
    parts = [part for part in found if isinstance(part, Message)] if isinstance(found, list) else []
    return {str(part.get_param("name", header="content-disposition")): part for part in parts}


def text_of(part: Message | None) -> str:
    """Return the text in a part; empty if it is not there."""
    content = part.get_payload(decode=True) if part is not None else b""
    return content.decode("utf-8", "replace").strip() if isinstance(content, bytes) else ""
