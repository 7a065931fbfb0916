"""From the product name that NVML prints to the flavor that policies speak of."""

from __future__ import annotations

import re

from policies.model.inventory import Flavor, SharingMode
from policies.model.units import FlavorId

_MARKETING = re.compile(r"^(NVIDIA|Tesla|GeForce|Quadro)$", re.IGNORECASE)
_FORM_FACTOR = re.compile(r"^(SXM\d?|PCIe?|HBM\d\w?|NVL|OAM)$", re.IGNORECASE)
_SIZE = re.compile(r"^\d+GB$", re.IGNORECASE)


def flavor_of(name: str, memory_mib: int, mig_profile: str | None = None) -> Flavor:
    """Return the flavor of a device: ``H100-80GB`` of "NVIDIA H100 80GB HBM3", ``H200`` of "NVIDIA H200".

    MIG instances get their profile behind it: ``H100-80GB-MIG-3g.40gb``. Unknown products keep their own words.
    """
    words = [word for word in re.split(r"[\s-]+", name.strip()) if word and not _MARKETING.match(word)]
    kept = [word for word in words if not _FORM_FACTOR.match(word) and not _SIZE.match(word)]
    sizes = [word.upper() for word in words if _SIZE.match(word)]
    base = "-".join([*kept, *sizes[:1]]) or "GPU"
    return Flavor(
        id=FlavorId(f"{base}-MIG-{mig_profile}" if mig_profile else base),
        model=name,
        memory_mib=memory_mib,
        sharing=SharingMode.MIG if mig_profile else SharingMode.EXCLUSIVE,
        mig_profile=mig_profile,
    )
