"""Identifiers and the three kinds of amount: omitted, counted and unlimited."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NewType

TenantId = NewType("TenantId", str)
"""Path in the tree of tenants, such as ``defence/cyber``; the first part is the domain."""
ClaimId = NewType("ClaimId", str)
"""``<tenant path>:<name>``; unique over the platform."""
DeviceId = NewType("DeviceId", str)
"""UUID of a GPU or MIG instance as NVML prints it; never an index."""
NodeId = NewType("NodeId", str)
"""Name of a host."""
WorkerId = NewType("WorkerId", str)
GroupId = NewType("GroupId", str)
FlavorId = NewType("FlavorId", str)
ModelId = NewType("ModelId", str)
VariantId = NewType("VariantId", str)

UNLIMITED: Literal["unlimited"] = "unlimited"
Limit = int | Literal["unlimited"]
"""A cap: a count (>= 0, zero means nothing) or no cap. An omitted cap is None; its field says what that means."""

WHOLE_GPU_MILLIS = 1000


class SecurityDomain(StrEnum):
    """Owner of a Ray cluster; two domains never share a physical GPU at the same time."""

    DEFENCE = "defence"
    """Tenants below ``defence``."""
    CIVIL = "civil"
    """Tenants below ``civil``."""
