"""Draw a board as the JSON that Grafana stores, through the typed builders of grafana-foundation-sdk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from cluster.dashboards.spec import Board, Choice, Limit, Panel

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GRAFANA = model.DataSourceRef(type_val="grafana", uid="-- Grafana --")
ANNOTATION_TAG = "partage"
ANNOTATIONS_SHOWN = 200
REFERENCES = "ABCDEFGH"
"""Names of a panel's queries; also the most that one panel may have."""
LEGACY_FIELDS = ("style",)
"""Written by the builders, refused by Grafana's current schema."""


def render(board: Board, *, datasource: str = "Prometheus", datasource_uid: str | None = None) -> dict[str, Any]:
    """Return the dashboard's JSON; the same board gives the same JSON.

    ``datasource`` is the name shown in the variable; with ``datasource_uid`` the variable points at that source.
    """
    builder = _frame(board)
    for choice in board.choices:
        builder = builder.with_variable(_choice(choice))
    for row in board.rows:
        builder = builder.with_row(build.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel))
    plain: dict[str, Any] = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    return _current(plain, datasource, datasource_uid)


def _frame(board: Board) -> Any:
    link = build.DashboardLink("All partage dashboards").type(model.DashboardLinkType.DASHBOARDS)
    decisions = (
        build.AnnotationQuery()
        .name("Decisions and modes")
        .datasource(GRAFANA)
        .icon_color("blue")
        .enable(enable=True)
        .target(
            build.AnnotationTarget()
            .limit(ANNOTATIONS_SHOWN)
            .match_any(match_any=False)
            .tags([ANNOTATION_TAG])
            .type("tags")
        )
    )
    return (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.purpose)
        .tags(list(board.tags))
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(link.tags([ANNOTATION_TAG]).as_dropdown(as_dropdown=True).keep_time(keep_time=True))
        .annotation(decisions)
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )


def _choice(choice: Choice) -> Any:
    return (
        build.QueryVariable(choice.name)
        .label(choice.title)
        .datasource(SOURCE)
        .query(f"label_values({choice.metric}, {choice.label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def _panel(panel: Panel) -> Any:
    drawn = (
        DRAW[panel.kind](panel)
        .title(panel.title)
        .description(panel.asks)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
    )
    if panel.limits:
        drawn = drawn.thresholds(_thresholds(panel.limits))
    if panel.words:
        drawn = drawn.mappings([_words(panel.words)])
    for reference, query in zip(REFERENCES, panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).ref_id(reference).legend_format(query.legend or "__auto")
        drawn = drawn.with_target(_as(panel, target))
    return drawn


def _as(panel: Panel, target: Any) -> Any:
    if panel.kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    if panel.kind == "heat":
        return target.range().format(PromQueryFormat.HEATMAP)
    if panel.kind in ("number", "bars"):
        return target.instant()
    return target.range()


def _lines(_panel: Panel) -> Any:
    return _graph().fill_opacity(8)


def _stack(_panel: Panel) -> Any:
    return _graph().fill_opacity(40).stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))


def _graph() -> Any:
    legend = common.VizLegendOptions().show_legend(show_legend=True).placement(kinds.LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    legend = legend.display_mode(kinds.LegendDisplayMode.LIST).calcs(["lastNotNull", "max"])
    return timeseries.Panel().line_width(2).show_points(kinds.VisibilityMode.NEVER).legend(legend).tooltip(tooltip)


def _number(_panel: Panel) -> Any:
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False).fields("")
    return (
        stat.Panel()
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .text_mode(kinds.BigValueTextMode.AUTO)
        .reduce_options(last)
    )


def _bars(_panel: Panel) -> Any:
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False).fields("")
    return bargauge.Panel().orientation(kinds.VizOrientation.HORIZONTAL).reduce_options(last)


def _heat(_panel: Panel) -> Any:
    return heatmap.Panel().calculate(calculate=False)


def _states(_panel: Panel) -> Any:
    return statetimeline.Panel().merge_values(merge_values=True).row_height(0.8)


def _table(panel: Panel) -> Any:
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", *panel.hides), True)
    tidy = model.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    return table.Panel().with_transformation(tidy)


DRAW: dict[str, Callable[[Panel], Any]] = {
    "lines": _lines,
    "stack": _stack,
    "number": _number,
    "bars": _bars,
    "heat": _heat,
    "states": _states,
    "table": _table,
}


def _thresholds(limits: tuple[Limit, ...]) -> Any:
    steps = [model.Threshold(value=None, color="green")]
    steps += [model.Threshold(value=limit.at, color=limit.colour) for limit in limits]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _words(words: tuple[tuple[str, str], ...]) -> Any:
    return model.ValueMap(
        options={value: model.ValueMappingResult(text=text, index=index) for index, (value, text) in enumerate(words)}
    )


def _current(plain: dict[str, Any], datasource: str, datasource_uid: str | None) -> dict[str, Any]:
    """Return it with numbered panels and the data source chosen, without what the current schema refuses."""
    for field in LEGACY_FIELDS:
        plain.pop(field, None)
    for number, panel in enumerate(_panels(plain), start=1):
        panel["id"] = number
        if panel.get("options") is None:
            panel.pop("options", None)
        elif panel["type"] == "heatmap":
            # The library writes what earlier versions of Grafana read, which is a tooltip that never shows.
            panel["options"]["tooltip"] = {"mode": "single", "yHistogram": True, "showColorScale": True}
    for variable in plain["templating"]["list"]:
        variable.pop("id", None)
        if variable["type"] == "datasource":
            variable["current"] = {"selected": True, "text": datasource, "value": datasource_uid or datasource}
    return plain


def _panels(plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in plain["panels"]:
        yield panel
        yield from panel.get("panels") or ()
