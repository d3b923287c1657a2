"""Stress tests: what a student answers when sensors, or people, are not as in training.

In: a student, labelled windows, and the runs that they were cut from. Out: for each stress and
strength the headline measure, the share of scores that a gateway flags, and the measure of the
others. Promise: scores come from the artifact through `models.session`, flags from the gateway's
own check (`pipeline.scoring.quality`), windows with other rates and gaps from its own windower
(`pipeline.windows.spec`); a stress of strength 0 changes nothing; the same seed gives the same
table.

Files, in order: `stresses` (functions of windows), `runs` (continuous readings, other rates, lost
readings), `plan` (which stresses apply to a student, how strong), `measure` (one row of the table),
`material` (what is stressed), `table` (the rows as JSON and Markdown), `command`
(`kpstream models stress`).
"""

__all__: list[str] = []
