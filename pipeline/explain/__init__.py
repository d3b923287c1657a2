"""Why a device got a score, and what it sent lately. Off the hot path: nothing here delays a score.

In: the results file (which score), the log (its readings), the registry (the student that gave it).
Out: an explanation as plain data, the same for the console, the command line and the store; and the
newest raw readings of a device. Promises:

- The window is cut from the log by the windower of the stream, so it is the window that was scored;
  a score that comes out otherwise is reported as such.
- What is read from the log is bounded, and so is the share of a core that explanations take
  (`pipeline.quiet`). When too much is asked at once, the answer is `LineFull`, or an explanation
  of an alert-level score is left out and counted.

Files, in order: `scores` (which score is meant), `logscan` (the items of one device in the log,
newest first), `readings` (the newest readings), `rebuild` (the window of a score), `students`
(versions of the registry, loaded once more for this), `report` (an explanation as plain data),
`explainer` (all of it, for one gateway), `alerts` (explains alert-level scores in the background).
"""

__all__: list[str] = []
