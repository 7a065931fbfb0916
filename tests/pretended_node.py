"""Program of a Ray node that only pretends: it lives until it is asked to stop, as its raylet would."""

from __future__ import annotations

import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
