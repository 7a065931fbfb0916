"""Small drawings that say the same as the word beside them, for eyes that cannot tell colours."""

from __future__ import annotations

from cluster.console.markup import Markup, tag

PATHS: dict[str, str] = {
    "check": "M4 12.5l5 5L20 6.5",
    "half": "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
    "clock": "M12 3.5a8.5 8.5 0 1 0 .01 0zM12 7v5.5l3.5 2",
    "pause": "M8 5v14M16 5v14",
    "question": "M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3M12 18.5v.5",
    "warning": "M12 4L2.5 20h19zM12 10v5M12 17.3v.5",
    "stop": "M8 3h8l5 5v8l-5 5H8l-5-5V8zM8 8l8 8M16 8l-8 8",
    "cross": "M5 5l14 14M19 5L5 19",
    "turn": "M20 12a8 8 0 1 1-2.5-5.8M20 3v4.5h-4.5",
    "down": "M12 4v12M6.5 11L12 16.5 17.5 11M5 20.5h14",
    "up": "M12 20V8M6.5 13L12 7.5 17.5 13M5 3.5h14",
    "dot": "M12 8.5a3.5 3.5 0 1 0 .01 0z",
    "ring": "M12 5a7 7 0 1 0 .01 0z",
    "drop": "M12 3.5c4 5 6 7.7 6 10.5a6 6 0 0 1-12 0c0-2.800 2-5.500 6-10.500z",
    "flask": "M9.500 3.500h5M10.500 3.500v6L5 19.500h14l-5.500-10v-6",
    "shield": "M12 3.500l7.500 3v5.500c0 4.500-3 7.500-7.500 9-4.500-1.500-7.500-4.500-7.500-9V6.500z",
}


def sprite() -> Markup:
    """Return the drawings once per page; ``icon`` refers to them."""
    drawn = "".join(
        f'<symbol id="i-{name}" viewBox="0 0 24 24"><path d="{path}"/></symbol>' for name, path in PATHS.items()
    )
    return Markup(f'<svg class="sprite" aria-hidden="true" width="0" height="0">{drawn}</svg>')


def icon(name: str) -> Markup:
    """Return a reference to one drawing, hidden from screen readers: the word stands beside it."""
    if name not in PATHS:
        raise KeyError(name)
    return Markup(f'<svg class="icon" aria-hidden="true" focusable="false"><use href="#i-{name}"/></svg>')


def badge(name: str, text: str, kind: str) -> Markup:
    """Return a word with its drawing, coloured by kind."""
    return tag("span", icon(name), text, class_=f"badge k-{kind}")
