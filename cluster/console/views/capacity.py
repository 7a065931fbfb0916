"""*My capacity*: what a tenant is due, holds, borrows and lends; each claim with its reason; asking for more."""

from __future__ import annotations

from cluster.console.icons import badge
from cluster.console.markup import Markup, join, tag
from cluster.console.scene import ClaimView, Scene, Share
from cluster.console.selection import CLAIMS_PER_PAGE, STATES, Selection, filtered, pages, state_of
from cluster.console.words import Words
from cluster.usage import DAYS_SHOWN, DayUse

BADGES = {
    "served": ("check", "good"),
    "degraded": ("half", "fair"),
    "waiting": ("clock", "bad"),
    "held": ("pause", "off"),
    "unknown": ("question", "off"),
}


def shares(scene: Scene, words: Words) -> Markup:
    """Return one bar per tenant and flavor: own, borrowed, idle, lent, wanted."""
    drawn = [_share(share, words) for share in scene.shares]
    empty = None if drawn else tag("p", words("share.none"), class_="empty")
    return join(tag("h2", words("share.title")), empty, tag("div", *drawn, class_="shares"), _legend(words))


def claims(scene: Scene, words: Words, selection: Selection) -> Markup:
    """Return the page of claims that the selection names, those that wait first."""
    found = filtered(scene.claims, selection)
    first = (min(selection.page, pages(len(found))) - 1) * CLAIMS_PER_PAGE
    rows = [_row(view, scene, words) for view in found[first : first + CLAIMS_PER_PAGE]]
    if not rows:
        return join(tag("p", words("claims.none"), class_="empty"), _pager(words, selection, len(found), scene))
    heads = ("claim", "state", "replicas", "reason", "position", "eta")
    head = tag("tr", *(tag("th", words(f"column.{key}"), scope="col") for key in heads))
    body = tag("tbody", *rows)
    table = tag(
        "table", tag("caption", words("claims.title"), class_="spoken"), tag("thead", head), body, class_="cards"
    )
    return join(table, _pager(words, selection, len(found), scene))


def filters(words: Words) -> Markup:
    """Return the search field and the choice of state. Drawn once, so that typing is never disturbed."""
    states = [tag("option", words("claims.any"), value="")]
    states += [tag("option", words(f"state.{state}"), value=state) for state in STATES]
    return join(
        tag("h2", words("claims.title")),
        tag(
            "form",
            tag(
                "label",
                words("claims.search"),
                tag("input", type="search", name="search", id="claims-search", autocomplete="off"),
            ),
            tag("label", words("claims.state"), tag("select", *states, name="state", id="claims-state")),
            data_live="filter",
            class_="filters",
        ),
    )


def keys(scene: Scene, words: Words, selection: Selection) -> Markup:
    """Return the keys by their prefix, and a new one the only time that it is shown."""
    rows = [
        tag(
            "li",
            tag("span", tag("code", f"{key.prefix}…"), tag("small", key.tenant)),
            tag(
                "span",
                words.ahead(key.expires_at_ms, scene.now_ms),
                tag("small", ", ".join(key.models) or words("keys.all")),
            ),
            _revoke(words, key.prefix),
        )
        for key in scene.keys
    ]
    listed = tag("ul", *rows, class_="rows") if rows else tag("p", words("keys.none"), class_="empty")
    secret = tag("p", words("keys.made", key=selection.secret), class_="secret") if selection.secret else None
    make = (
        tag("button", words("keys.make"), type="button", id="key-make", data_do="key") if "key" in scene.can else None
    )
    return join(tag("h2", words("keys.title")), secret, listed, make)


def usage(scene: Scene, words: Words) -> Markup:
    """Return what was used of each model lately: requests, tokens, GPU-hours, and a bar per day."""
    tables: dict[tuple[str, str], list[DayUse]] = {}
    for use in scene.usage:
        tables.setdefault((use.tenant, use.model), []).append(use)
    days = sorted({use.day for use in scene.usage})
    if not days:
        return join(tag("h2", words("usage.title")), tag("p", words("usage.none"), class_="empty"))
    names = ("tenant", "model", "requests", "tokens", "hours", "days")
    heads = (tag("th", words(f"column.{each}"), scope="col", class_=USAGE_NUMBERS.get(each)) for each in names)
    rows = (_used(name, found, days, words) for name, found in sorted(tables.items()))
    table = tag(
        "table",
        tag("caption", words("usage.since", first=days[0], last=days[-1])),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        class_="cards",
    )
    return join(tag("h2", words("usage.title")), table)


USAGE_NUMBERS = dict.fromkeys(("requests", "tokens", "hours"), "number")
HOUR_MS = 3_600_000
BAR, GAP, HIGH = 3, 1, 24
"""Width of a day's bar, the space after it, and the height of the largest, in the drawing's own units."""


def _used(name: tuple[str, str], found: list[DayUse], days: list[str], words: Words) -> Markup:
    tenant, model = name
    requests, gpu_ms = sum(use.requests for use in found), sum(use.gpu_ms for use in found)
    tokens = sum(use.prompt_tokens + use.completion_tokens for use in found)
    hours = words.number(gpu_ms * 1000 // HOUR_MS)
    return tag(
        "tr",
        tag("th", tenant, scope="row", data_label=words("column.tenant")),
        tag("td", tag("code", model), data_label=words("column.model")),
        tag("td", words.whole(requests), class_="number", data_label=words("column.requests")),
        tag("td", words.whole(tokens), class_="number", data_label=words("column.tokens")),
        tag("td", hours, class_="number", data_label=words("column.hours")),
        tag("td", _days(found, days, words), data_label=words("column.days")),
    )


def _days(found: list[DayUse], days: list[str], words: Words) -> Markup:
    """Return a bar per day, in proportion to its tokens; said in words for who cannot see it."""
    tokens = {use.day: use.prompt_tokens + use.completion_tokens for use in found}
    most = max(*tokens.values(), 1)
    heights = [-(-tokens.get(day, 0) * HIGH // most) for day in days]
    bars = "".join(
        f'<rect x="{place * (BAR + GAP)}" y="{HIGH - high}" width="{BAR}" height="{high}"/>'
        for place, high in enumerate(heights)
    )
    said = "; ".join(f"{day}: {words.whole(tokens.get(day, 0))}" for day in days)
    width = max(len(days), DAYS_SHOWN) * (BAR + GAP)
    drawing = {"viewBox": f"0 0 {width} {HIGH}", "preserveAspectRatio": "none"}
    return tag("svg", Markup(bars), class_="days", role="img", aria_label=said, **drawing)


def _share(share: Share, words: Words) -> Markup:
    entry = share.entitlement
    own = max(0, entry.held_millis - entry.borrowed_millis)
    pending = max(0, entry.demand_millis - entry.held_millis)
    idle = max(0, share.nominal_millis - own - entry.lent_millis)
    parts = (
        ("own", own),
        ("borrowed", entry.borrowed_millis),
        ("idle", idle),
        ("lent", entry.lent_millis),
        ("pending", pending),
    )
    whole = max(1, sum(amount for _, amount in parts))
    said = "; ".join(f"{words(f'share.{name}')} {words.number(amount)}" for name, amount in parts if amount)
    bar = tag(
        "div",
        *(
            tag("span", words.number(amount), class_=f"part p-{name}", style=f"flex-grow:{amount * 1000 // whole}")
            for name, amount in parts
            if amount
        ),
        class_="stack",
        role="img",
        aria_label=said,
    )
    floor = words("share.floor", floor=words.number(share.floor_millis)) if share.floor_millis else None
    held = words("share.summary", held=words.number(entry.held_millis), nominal=words.number(share.nominal_millis))
    return tag(
        "article",
        tag("h3", entry.tenant, tag("small", entry.flavor)),
        tag("p", held, tag("small", floor) if floor else None),
        bar,
        class_="share",
    )


def _legend(words: Words) -> Markup:
    names = ("own", "borrowed", "idle", "lent", "pending")
    return tag(
        "ul", *(tag("li", tag("i", class_=f"p-{name}"), words(f"share.{name}")) for name in names), class_="legend"
    )


def _row(view: ClaimView, scene: Scene, words: Words) -> Markup:
    reason, state = view.reason, state_of(view)
    drawing, kind = BADGES[state]
    granted = f"{reason.granted_replicas} / {reason.wanted_replicas}" if reason else "-"
    waits = state in ("waiting", "degraded")
    return tag(
        "tr",
        tag("th", _name(view), scope="row", data_label=words("column.claim")),
        tag("td", badge(drawing, words(f"state.{state}"), kind), data_label=words("column.state")),
        tag("td", granted, class_="number", data_label=words("column.replicas")),
        tag("td", _why(view, words), data_label=words("column.reason"), class_="why"),
        tag(
            "td",
            reason.position if reason and reason.position else "-",
            class_="number",
            data_label=words("column.position"),
        ),
        tag(
            "td",
            words.ahead(reason.eta_ms, scene.now_ms) if reason and waits else "-",
            data_label=words("column.eta"),
            class_="when",
        ),
    )


def _name(view: ClaimView) -> Markup:
    tenant, _, name = view.claim.id.partition(":")
    return join(tag("code", name or tenant), tag("small", tenant) if name else None)


def _why(view: ClaimView, words: Words) -> Markup:
    reason = view.reason
    lines = []
    if reason and reason.code:
        lines.append(tag("strong", words(f"reason.{reason.code.value}")))
    if reason:
        lines.append(tag("span", reason.sentence, lang="en"))
    return join(*lines, _details(view, words))


def _details(view: ClaimView, words: Words) -> Markup | None:
    reason, claim = view.reason, view.claim
    parts: list[Markup] = []
    if reason and reason.unblocking and reason.unblocking.sentence:
        parts.append(tag("p", tag("b", words("claim.unblock")), tag("span", reason.unblocking.sentence, lang="en")))
    if reason and reason.eta_assumption:
        parts.append(tag("p", words("claim.assumption", text=reason.eta_assumption)))
    if reason and reason.score_terms:
        terms = ", ".join(f"{name} {value}" for name, value in reason.score_terms)
        parts.append(tag("p", tag("b", words("claim.terms")), tag("span", terms)))
    if view.groups:
        where = ", ".join(f"{group.worker} ({group.running}/{group.replicas})" for group in view.groups)
        parts.append(tag("p", tag("b", words("claim.groups")), tag("span", where)))
    parts.append(_give_up(words, claim.id))
    summary = tag("summary", words("claim.more"), aria_label=words("claim.details", claim=claim.id))
    return tag("details", summary, *parts, id=f"claim-{claim.id}")


def _give_up(words: Words, claim: str) -> Markup:
    ask = words("claim.delete.ask", claim=claim)
    return tag(
        "button",
        words("claim.delete"),
        type="button",
        data_do="delete",
        data_claim=claim,
        data_ask=ask,
        class_="plain danger",
    )


def _revoke(words: Words, prefix: str) -> Markup:
    ask = words("keys.revoke.ask", prefix=prefix)
    return tag(
        "button",
        words("keys.revoke"),
        type="button",
        data_do="revoke",
        data_prefix=prefix,
        data_ask=ask,
        class_="plain danger",
    )


def _pager(words: Words, selection: Selection, matching: int, scene: Scene) -> Markup:
    last = pages(matching)
    page = min(selection.page, last)
    return tag(
        "div",
        tag(
            "button",
            words("claims.previous"),
            type="button",
            id="page-back",
            data_do="page",
            data_step="-1",
            disabled=page <= 1,
        ),
        tag("span", words("claims.page", page=page, pages=last)),
        tag(
            "button",
            words("claims.next"),
            type="button",
            id="page-on",
            data_do="page",
            data_step="1",
            disabled=page >= last,
        ),
        tag("span", words("claims.count", shown=matching, all=len(scene.claims)), class_="count"),
        class_="pager",
    )
