"""What each XID of the NVIDIA driver asks for. Source: NVIDIA's "Xid Errors" guide and GPU debug guidelines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class XidAction(StrEnum):
    """What to do about an XID, mildest first."""

    INFORM = "inform"
    """The fault of a program, or corrected by itself: the device goes on."""
    WATCH = "watch"
    """No new work until it has been quiet for a while."""
    RESET = "reset"
    """Cordon, drain, reset; the device may be used again afterwards."""
    REBOOT = "reboot"
    """Cordon, drain, restart the host."""
    REPLACE = "replace"
    """Cordon for good: the device goes back to the vendor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XidClass:
    """What one XID means."""

    action: XidAction
    meaning: str


def _class(action: XidAction, meaning: str) -> XidClass:
    return XidClass(action=action, meaning=meaning)


XIDS: dict[int, XidClass] = {
    8: _class(XidAction.INFORM, "a program's kernel ran too long"),
    13: _class(XidAction.INFORM, "a program used the compute engine wrongly"),
    31: _class(XidAction.INFORM, "a program accessed memory that it does not have"),
    32: _class(XidAction.INFORM, "a program's command buffer was corrupt"),
    38: _class(XidAction.WATCH, "the driver's firmware failed"),
    43: _class(XidAction.INFORM, "a program stopped its own channel"),
    44: _class(XidAction.WATCH, "the graphics engine faulted while switching"),
    45: _class(XidAction.INFORM, "channels were cleaned up after another fault"),
    46: _class(XidAction.RESET, "the GPU stopped processing"),
    48: _class(XidAction.RESET, "an uncorrectable memory error"),
    61: _class(XidAction.RESET, "an internal controller halted"),
    62: _class(XidAction.RESET, "an internal controller halted"),
    63: _class(XidAction.WATCH, "a faulty memory row or page was set aside; a reset completes it"),
    64: _class(XidAction.RESET, "a faulty memory row or page could not be recorded"),
    68: _class(XidAction.INFORM, "the video decoder faulted"),
    69: _class(XidAction.INFORM, "a program used the compute engine wrongly"),
    74: _class(XidAction.RESET, "an NVLink failed"),
    79: _class(XidAction.REBOOT, "the GPU fell off the bus"),
    92: _class(XidAction.WATCH, "many corrected memory errors in a short time"),
    94: _class(XidAction.WATCH, "an uncorrectable memory error, contained to one program"),
    95: _class(XidAction.RESET, "an uncorrectable memory error, not contained"),
    109: _class(XidAction.RESET, "a context switch timed out"),
    110: _class(XidAction.REBOOT, "a security fault"),
    119: _class(XidAction.RESET, "the GPU's system processor did not answer"),
    120: _class(XidAction.RESET, "the GPU's system processor failed"),
    121: _class(XidAction.INFORM, "a corrected error of the chip-to-chip link"),
    136: _class(XidAction.RESET, "link training failed"),
    137: _class(XidAction.INFORM, "a program accessed a peer's memory without right"),
    140: _class(XidAction.RESET, "an unrecovered memory error"),
    143: _class(XidAction.REBOOT, "the GPU could not be initialised"),
    144: _class(XidAction.WATCH, "an NVLink error"),
    145: _class(XidAction.WATCH, "an NVLink error"),
    146: _class(XidAction.WATCH, "an NVLink error"),
    147: _class(XidAction.WATCH, "an NVLink error"),
    148: _class(XidAction.WATCH, "an NVLink error"),
    149: _class(XidAction.WATCH, "an NVLink error"),
    150: _class(XidAction.WATCH, "an NVLink error"),
    154: _class(XidAction.INFORM, "the driver changed its recovery advice, which is read by itself"),
    158: _class(XidAction.RESET, "the GPU timed out fatally"),
}

UNKNOWN = XidClass(action=XidAction.WATCH, meaning="not in our table: look it up before trusting the device")


def classify(xid: int) -> XidClass:
    """Return what the XID asks for. Numbers that are not in the table stop new work for a while."""
    return XIDS.get(xid, UNKNOWN)
