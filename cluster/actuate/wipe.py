"""Scrubs that run in the background, one per device, each ending with a proof in the ledger."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.actuate.scrub import ScrubbedDevice, ScrubPolicy, ScrubRequest, scrub
from cluster.ports import Clock, Ledger
from cluster.refusals import Refusal
from policies.model.inventory import ScrubState
from policies.model.plan import ScrubDevice
from policies.model.units import DeviceId, NodeId, SecurityDomain

log = logging.getLogger(__name__)

Opener = Callable[[DeviceId, SecurityDomain], ScrubbedDevice]
"""Returns the device as scrubbing needs it, given the domain that leaves it."""


@dataclass(slots=True)
class Scrubs:
    """Begins scrubs and records their proofs. A scrub that a crash cut short is begun again by the next plan."""

    ledger: Ledger
    open_device: Opener
    policy: ScrubPolicy
    clock: Clock
    running: dict[DeviceId, threading.Thread] = field(default_factory=dict)

    def begin(self, action: ScrubDevice, fencing: int) -> None:
        """Record that the scrub began and let it run; one that runs already is left alone.

        Raises the ledger's refusals: ``DeviceHeld``, ``StaleGeneration``.
        """
        self.ledger.scrubbing(action.device, fencing)
        thread = self.running.get(action.device)
        if thread is not None and thread.is_alive():
            return
        thread = threading.Thread(target=self._run, args=(action, fencing), name=f"scrub-{action.device}", daemon=True)
        self.running[action.device] = thread
        thread.start()

    def resume(self, fencing: int) -> None:
        """Begin again the scrubs that a crash cut short: the ledger has them under way and nothing runs."""
        for record in self.ledger.devices():
            if record.scrub is ScrubState.SCRUBBING and record.domain is not None:
                self.begin(_again(record.device, record.domain), fencing)

    def wait(self) -> None:
        """Return once no scrub runs."""
        for thread in list(self.running.values()):
            thread.join()

    def _run(self, action: ScrubDevice, fencing: int) -> None:
        request = ScrubRequest(device=action.device, from_domain=action.from_domain, to_domain=action.to_domain)
        try:
            proof = scrub(request, self.open_device(action.device, action.from_domain), self.policy, self.clock)
            self.ledger.record_scrub(proof, fencing)
        except Refusal as refusal:
            log.warning("scrub of %s was not recorded: %s", action.device, refusal)
        except Exception:
            log.exception("scrub of %s broke off; it stays SCRUBBING and is begun again", action.device)


def _again(device: DeviceId, leaving: SecurityDomain) -> ScrubDevice:
    """Return the action once more. Which domain waits is not recorded; of two, it is the other."""
    waiting = next(domain for domain in SecurityDomain if domain is not leaving)
    return ScrubDevice(
        device=device, node=NodeId(""), from_domain=leaving, to_domain=waiting, reason="cut short by a restart"
    )
