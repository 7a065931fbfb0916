"""Run one drill: set the scene, let it happen, watch, score, explain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from cluster.client import Problem, Unreachable
from cluster.drills.desk import Desk, prepared
from cluster.drills.scenario import Drill
from cluster.drills.score import Score, score
from cluster.ports import Clock

LOOK_MS = 250
Say = Callable[[str], None]


def run(
    drill: Drill,
    folder: Path,
    clock: Clock,
    *,
    say: Say,
    limit_s: int | None = None,
    linger: Callable[[], None] = lambda: None,
) -> Score:
    """Return the score once the trouble is mended, or after the limit: three times the practised time if none is given.

    ``say`` hears, line by line, what the trainee shall read. The platform is there until ``linger`` returns.
    """
    with prepared(folder, clock) as desk:
        _brief(drill, desk, say)
        drill.begin(desk)
        say(drill.told)
        began_ms = clock.now_ms()
        mended_ms = _watch(drill, desk, clock, began_ms + (limit_s or 3 * drill.mend_s) * 1000)
        result = score(drill, began_ms, mended_ms, tuple(desk.recorder.notes))
        _explain(drill, result, say)
        linger()
    return result


def _watch(drill: Drill, desk: Desk, clock: Clock, ends_ms: int) -> int | None:
    while clock.now_ms() < ends_ms:
        with contextlib.suppress(Problem, Unreachable):
            if drill.is_mended(desk):
                return clock.now_ms()
        clock.sleep_ms(LOOK_MS)
    return None


def _brief(drill: Drill, desk: Desk, say: Say) -> None:
    exported = " ".join(f"{name}={value}" for name, value in desk.variables.items())
    say(f"Drill: {drill.title}. Everything here is simulated.")
    say(f"In another terminal:  export {exported}")
    say(f"Documents that are in force:  cd {desk.folder}")
    say("Tools: partage (as always), and the console:  partage console --port 0")
    say("Where you would start a process of the control plane again:  partage drill restart")
    say("")


def _explain(drill: Drill, result: Score, say: Say) -> None:
    say("")
    say(f"noticed after  {_seconds(result.detect_ms)}  (practised: {drill.detect_s} s)")
    say(f"mended after   {_seconds(result.mend_ms)}  (practised: {drill.mend_s} s)")
    for harm in result.harms:
        say(f"harm: {harm}")
    say(f"score {result.points} of 100")
    say("")
    say(drill.lesson)
    say(f"Page: runbooks/{drill.runbook}")


def _seconds(took_ms: int | None) -> str:
    return "never" if took_ms is None else f"{took_ms / 1000:.1f} s"
