"""*Cluster*: the map of nodes and devices, what moves, what was decided and why, what waits for a person."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.console.devices import AILING, MOVING, STATES, Spot, spots
from cluster.console.icons import badge, icon
from cluster.console.markup import Markup, join, tag
from cluster.console.scene import Approval, Entry, Scene
from cluster.console.words import Words

TIMELINE_SHOWN = 60
GAPS_SHOWN = 5
MODES = ("heightened", "crisis")
LETTER = {"defence": "D", "civil": "C", "none": "-"}


def summary(scene: Scene, words: Words) -> Markup:
    """Return how many devices on how many nodes."""
    seen = words("cluster.seen", count=len(scene.devices), nodes=len(scene.nodes))
    said = tag("p", seen if scene.devices else words("cluster.none"), class_="empty")
    return join(tag("h2", words("cluster.map")), said, _figures(scene, words))


def _figures(scene: Scene, words: Words) -> Markup:
    """Return how many devices each domain has, how many move, how many need a person."""
    found = [spot for each in spots(scene).values() for spot in each]
    domains = [(key, LETTER[key], words(f"domain.{key}"), sum(spot.domain == key for spot in found)) for key in LETTER]
    moving = sum(spot.state in MOVING for spot in found)
    ailing = sum(spot.state in AILING for spot in found)
    cells = [
        tag("li", tag("i", letter, class_=f"d-{key}"), tag("strong", count), tag("span", name))
        for key, letter, name, count in domains
    ]
    cells.append(tag("li", icon("turn"), tag("strong", moving), tag("span", words("cluster.moving"))))
    kind = "k-bad" if ailing else None
    cells.append(tag("li", icon("warning"), tag("strong", ailing), tag("span", words("cluster.ailing")), class_=kind))
    return tag("ul", *cells, class_="figures")


def node(name: str, found: list[Spot], scene: Scene, words: Words, chosen: str) -> Markup:
    """Return one host with its devices."""
    out = name in scene.cordoned
    act = None
    if "cordon" in scene.can:
        act = _uncordon(name, words) if out else _cordon(name, words)
    flag = badge("pause", words("cluster.cordoned"), "off") if out else None
    tiles = (_tile(spot, words, chosen) for spot in found)
    return join(tag("header", tag("h3", name), flag, act), tag("div", *tiles, class_="tiles"))


def legend(words: Words) -> Markup:
    """Return what letters, patterns and drawings mean."""
    domains = (tag("li", tag("i", LETTER[key], class_=f"d-{key}"), words(f"domain.{key}")) for key in LETTER)
    states = (tag("li", icon(drawing), words(f"device.{state}")) for state, drawing in STATES.items())
    return tag("ul", *domains, *states, class_="legend", aria_label=words("cluster.legend"))


def detail(spot: Spot | None, scene: Scene, words: Words) -> Markup:
    """Return everything known of the chosen device, or the invitation to choose one."""
    if spot is None:
        return join(tag("h2", words("device.title")), tag("p", words("cluster.select"), class_="empty"))
    device, reading = spot.device, spot.reading
    claims = ", ".join(sorted({group.claim for group in spot.groups})) or words("device.none")
    facts: list[tuple[str, str]] = [
        (words("device.uuid"), device.id),
        (words("column.flavor"), device.flavor),
        (words("device.holder"), claims),
    ]
    if reading and reading.memory_used_mib is not None:
        facts.append((words("device.memory"), f"{reading.memory_used_mib} / {device.memory_mib} MiB"))
    else:
        facts.append((words("device.memory"), f"{device.memory_mib} MiB"))
    if reading and reading.power_w is not None:
        facts.append((words("device.power"), f"{reading.power_w} W"))
    if reading and reading.temperature_c is not None:
        facts.append((words("device.temperature"), f"{reading.temperature_c} °C"))
    out = device.id in scene.cordoned
    act = None
    if "cordon" in scene.can:
        act = _uncordon(device.id, words) if out else _cordon(device.id, words)
    return join(
        tag("h2", words("device.title")),
        tag("p", badge(STATES[spot.state], words(f"device.{spot.state}"), "off"), tag("span", _domain(spot, words))),
        tag("p", _load(spot, words)),
        tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts)),
        act,
    )


def health(scene: Scene, words: Words) -> Markup:
    """Return whether the scheduler decides, sees and has a policy."""
    waiting = sum(1 for view in scene.claims if view.reason and view.reason.code)
    ok = not scene.trouble and not scene.is_stale
    lines = [
        badge("check" if ok else "warning", words("health.loop"), "good" if ok else "bad"),
        tag("span", words("health.decide", ms=scene.decide_ms)),
        tag("span", f"{words('health.policy')}: {scene.policy_revision or '-'}"),
        tag("span", f"{words('health.waiting')}: {waiting}"),
    ]
    gaps = [tag("li", f"{gap.kind} {gap.subject}: {gap.cause}") for gap in scene.gaps[:GAPS_SHOWN]]
    more = len(scene.gaps) - GAPS_SHOWN
    if more > 0:
        gaps.append(tag("li", f"+ {more}"))
    lines.append(
        badge("question", f"{words('health.gaps')}: {len(scene.gaps)}", "bad")
        if scene.gaps
        else badge("check", words("health.gaps.none"), "good")
    )
    return join(
        tag("h2", words("cluster.health")),
        tag("div", *lines, class_="facts"),
        tag("ul", *gaps, class_="plainlist") if gaps else None,
    )


def approvals(scene: Scene, words: Words) -> Markup:
    """Return what waits for a second person, and the way to propose a mode."""
    waiting = [_approval(each, scene, words) for each in scene.approvals]
    propose = [
        tag(
            "button",
            words("cluster.mode.ask", mode=words(f"mode.{mode}")),
            type="button",
            id=f"mode-{mode}",
            class_="plain",
            data_do="mode",
            data_mode=mode,
            data_reason=words("cluster.mode.reason"),
            data_hours=words("cluster.mode.hours"),
            data_ask=words("cluster.mode.ask", mode=words(f"mode.{mode}")),
        )
        for mode in MODES
        if "mode" in scene.can
    ]
    if not waiting and not propose:
        return Markup("")
    return join(
        tag("h2", words("cluster.approvals")),
        tag("ul", *waiting, class_="plainlist") if waiting else None,
        tag("p", *propose, class_="actions"),
    )


def timeline(scene: Scene, words: Words) -> Markup:
    """Return what happened, newest first, each with its reasons."""
    entries = [_entry(entry) for entry in scene.timeline[:TIMELINE_SHOWN]]
    empty = None if entries else tag("p", words("cluster.timeline.none"), class_="empty")
    return join(
        tag("h2", words("cluster.timeline")),
        empty,
        tag("ol", *entries, data_scroll="1", tabindex="0", aria_label=words("cluster.timeline")) if entries else None,
    )


def _tile(spot: Spot, words: Words, chosen: str) -> Markup:
    """Return the device without its load, which ``Loads`` writes into it."""
    device = spot.device
    said = f"{device.id}, {_domain(spot, words)}, {words(f'device.{spot.state}')}"
    return tag(
        "button",
        tag("b", LETTER[spot.domain]),
        icon(STATES[spot.state]),
        tag("span", "?"),
        type="button",
        id=f"gpu-{device.id}",
        class_=f"gpu d-{spot.domain} s-{spot.state}",
        data_do="select",
        data_device=device.id,
        data_said=said,
        aria_label=said,
        aria_pressed="true" if device.id == chosen else "false",
    )


def _domain(spot: Spot, words: Words) -> str:
    return words(f"domain.{spot.domain}")


def _load(spot: Spot, words: Words) -> str:
    percent = spot.reading.utilisation_percent if spot.reading else None
    return words("device.load.unknown") if percent is None else words("device.load", percent=percent)


def _cordon(subject: str, words: Words) -> Markup:
    return tag(
        "button",
        words("cluster.drain"),
        type="button",
        id=f"cordon-{subject}",
        class_="plain",
        data_do="cordon",
        data_subject=subject,
        data_ask=words("cluster.drain.ask", subject=subject),
        data_reason=words("cluster.drain.reason"),
        aria_label=words("cluster.drain.ask", subject=subject),
    )


def _uncordon(subject: str, words: Words) -> Markup:
    said = words("cluster.uncordon")
    return tag(
        "button",
        said,
        type="button",
        id=f"uncordon-{subject}",
        class_="plain",
        data_do="uncordon",
        data_subject=subject,
        aria_label=f"{said}: {subject}",
    )


def _approval(each: Approval, scene: Scene, words: Words) -> Markup:
    said = words("cluster.approve.by", name=each.proposer, span=words.span(each.expires_at_ms - scene.now_ms))
    approve = tag(
        "button",
        words("cluster.approve"),
        type="button",
        id=f"approve-{each.id}",
        data_do="approve",
        data_id=each.id,
        data_ask=each.text,
    )
    if each.proposer == scene.viewer.name:
        return tag("li", tag("strong", each.text), tag("small", words("cluster.own")))
    return tag("li", tag("strong", each.text), tag("small", said), approve if "approve" in scene.can else None)


def _entry(entry: Entry) -> Markup:
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC)
    whys = [tag("li", why, lang="en") for why in entry.whys]
    return tag(
        "li",
        tag("p", tag("time", f"{at:%H:%M:%S}", datetime=at.isoformat(timespec="seconds")), tag("small", entry.actor)),
        tag("span", entry.text, lang="en"),
        tag("ul", *whys) if whys else None,
    )
