"""Styles of values, and views: the panel types of Grafana 12 and later. Pure.

A view builds the JSON of its panel type: the `options` of the panel and the `custom` options of its
fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

__all__ = [
    "AlertList",
    "Bars",
    "Column",
    "Json",
    "Lines",
    "Note",
    "Override",
    "Stat",
    "Style",
    "Table",
    "Timeline",
    "View",
]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """Presentation of values.

    Attributes:
        no_value: Text of a panel without rows; never empty, so that the panel explains missing
            data.
        unit: Grafana's name of the unit, or `suffix: text`.
        decimals: Digits after the decimal point; None lets Grafana decide.
        minimum: Lower end of the axis; None lets Grafana decide.
        maximum: Upper end of the axis; None lets Grafana decide.
        thresholds: Pairs (value, colour): the colour from this value on; the first value is None.
        mappings: Text and colour to show instead of a value.
        name: Name of a series, with Grafana's variables (`${__field.labels.device}`).
        colour: `palette`, `thresholds`, or the name of a colour.
    """

    no_value: str
    unit: str = "none"
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    name: str = ""
    colour: str = "palette"

    def in_palette(self) -> Style:
        """A copy that colours series by the palette; the thresholds remain as lines."""
        return replace(self, colour="palette")

    def json(self, custom: Json | None = None) -> Json:
        """The `defaults` of a panel's `fieldConfig`."""
        found: Json = {
            "color": _colour(self.colour),
            "custom": custom or {},
            "mappings": _mappings(self.mappings),
            "noValue": self.no_value,
            "thresholds": {"mode": "absolute", "steps": _thresholds(self.thresholds)},
            "unit": self.unit,
        }
        limits = {"decimals": self.decimals, "min": self.minimum, "max": self.maximum}
        found |= {key: value for key, value in limits.items() if value is not None}
        if self.name:
            found["displayName"] = self.name
        return found


@dataclass(frozen=True, slots=True)
class Override:
    """Other properties for the series or column with this name."""

    name: str
    properties: Mapping[str, Any]

    def json(self) -> Json:
        """The entry of `overrides`."""
        return {
            "matcher": {"id": "byName", "options": self.name},
            "properties": [{"id": key, "value": value} for key, value in self.properties.items()],
        }


@dataclass(frozen=True, slots=True)
class Stat:
    """Big numbers: the last value of every series.

    Attributes:
        graph: Draw the series behind the number.
        background: Colour the background instead of the number.
        all_rows: Show every row of a table instead of the last one.
    """

    graph: bool = False
    background: bool = False
    all_rows: bool = False

    kind = "stat"

    def custom(self) -> Json:
        """No options of its own."""
        return {}

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "colorMode": "background" if self.background else "value",
            "graphMode": "area" if self.graph else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": _reduce(values=self.all_rows),
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        }


@dataclass(frozen=True, slots=True)
class Lines:
    """Series over time.

    Attributes:
        stack: `none`, `normal` or `percent`.
        draw: `line` or `bars`.
        fill: Opacity of the area below a line, in per cent.
        show_thresholds: Draw the thresholds of the style as dashed lines.
        stepped: Hold each value until the next one.
        legend: Calculations that the legend shows; more than one make it a table.
    """

    stack: Literal["none", "normal", "percent"] = "none"
    draw: Literal["line", "bars"] = "line"
    fill: int = 5
    show_thresholds: bool = False
    stepped: bool = False
    legend: tuple[str, ...] = ("lastNotNull",)

    kind = "timeseries"

    def custom(self) -> Json:
        """Options of the field."""
        return {
            "axisBorderShow": False,
            "axisCenteredZero": False,
            "axisColorMode": "text",
            "axisLabel": "",
            "axisPlacement": "auto",
            "barAlignment": 0,
            "drawStyle": self.draw,
            "fillOpacity": 60 if self.draw == "bars" else self.fill,
            "gradientMode": "none",
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "insertNulls": False,
            "lineInterpolation": "stepAfter" if self.stepped else "linear",
            "lineWidth": 1,
            "pointSize": 4,
            "scaleDistribution": {"type": "linear"},
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": self.stack},
            "thresholdsStyle": {"mode": "dashed" if self.show_thresholds else "off"},
        }

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "legend": {
                "calcs": list(self.legend),
                "displayMode": "table" if len(self.legend) > 1 else "list",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"hideZeros": False, "mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a `Table`.

    Attributes:
        name: Column of the query.
        title: Heading.
        style: Style of the values; None for the style of the panel.
        link: Heading and address of a link, with Grafana's variables.
        cell: `auto`, `colour` (background by thresholds or mappings) or `gauge`.
        width: Width in pixels; None lets Grafana decide.
    """

    name: str
    title: str
    style: Style | None = None
    link: tuple[str, str] | None = None
    cell: Literal["auto", "colour", "gauge"] = "auto"
    width: int | None = None

    def override(self) -> Override:
        """The style, link and cell type, as the override of this heading."""
        properties: Json = {}
        if self.style is not None:
            style = self.style.json()
            wanted = ("unit", "decimals", "min", "max", "thresholds", "mappings", "color")
            properties |= {key: style[key] for key in wanted if key in style}
        if self.cell == "colour":
            properties["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if self.cell == "gauge":
            properties["custom.cellOptions"] = {"type": "gauge", "mode": "basic"}
        if self.width is not None:
            properties["custom.width"] = self.width
        if self.link is not None:
            title, url = self.link
            properties["links"] = [{"title": title, "url": url, "targetBlank": False}]
        return Override(self.title, properties)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with these columns in this order; the query must return exactly these."""

    columns: tuple[Column, ...]

    kind = "table"

    def custom(self) -> Json:
        """Options of the field."""
        return {
            "align": "auto",
            "cellOptions": {"type": "auto"},
            "filterable": True,
            "inspect": False,
        }

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "cellHeight": "sm",
            "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
            "showHeader": True,
            "sortBy": [],
        }

    def transformations(self) -> list[Json]:
        """The transformation that sets order and headings."""
        return [
            {
                "id": "organize",
                "options": {
                    "excludeByName": {},
                    "includeByName": {},
                    "indexByName": {c.name: at for at, c in enumerate(self.columns)},
                    "renameByName": {c.name: c.title for c in self.columns},
                },
            }
        ]


@dataclass(frozen=True, slots=True)
class Timeline:
    """States over time, one bar per series."""

    kind = "state-timeline"

    def custom(self) -> Json:
        """Options of the field."""
        return {
            "fillOpacity": 80,
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "insertNulls": False,
            "lineWidth": 0,
            "spanNulls": False,
        }

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "alignValue": "left",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
            },
            "mergeValues": True,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": {"hideZeros": False, "mode": "single", "sort": "none"},
        }


@dataclass(frozen=True, slots=True)
class Bars:
    """The last value of every series as a bar."""

    kind = "bargauge"

    def custom(self) -> Json:
        """No options of its own."""
        return {}

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "displayMode": "basic",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": False,
            },
            "maxVizHeight": 300,
            "minVizHeight": 14,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": _reduce(),
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        }


@dataclass(frozen=True, slots=True)
class Note:
    """A text in Markdown."""

    text: str

    kind = "text"

    def custom(self) -> Json:
        """No options of its own."""
        return {}

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False},
            "content": self.text,
            "mode": "markdown",
        }


@dataclass(frozen=True, slots=True)
class AlertList:
    """The alerts of kpstream that are firing or pending."""

    kind = "alertlist"

    def custom(self) -> Json:
        """No options of its own."""
        return {}

    def options(self) -> Json:
        """Options of the panel type."""
        return {
            "alertInstanceLabelFilter": '{product="kpstream"}',
            "alertName": "",
            "dashboardAlerts": False,
            "groupBy": [],
            "groupMode": "default",
            "maxItems": 20,
            "showInactiveAlerts": False,
            "sortOrder": 3,
            "stateFilter": {
                "error": True,
                "firing": True,
                "noData": True,
                "normal": False,
                "pending": True,
                "recovering": True,
            },
            "viewMode": "list",
        }


View = Stat | Lines | Table | Timeline | Bars | Note | AlertList


def _colour(colour: str) -> Json:
    if colour == "palette":
        return {"mode": "palette-classic"}
    if colour == "thresholds":
        return {"mode": "thresholds"}
    return {"mode": "fixed", "fixedColor": colour}


def _thresholds(thresholds: Sequence[tuple[float | None, str]]) -> list[Json]:
    return [{"color": colour, "value": value} for value, colour in thresholds]


def _mappings(texts: Mapping[str, tuple[str, str]]) -> list[Json]:
    if not texts:
        return []
    options = {
        value: {"text": shown, "color": colour, "index": at}
        for at, (value, (shown, colour)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def _reduce(*, values: bool = False) -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": values}
