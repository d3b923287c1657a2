"""An activity by its name: a student names what it has never seen, from a description.

1. `training.teachers.facts` reads from sentences what a sensor can measure: strength, rhythm,
   impacts, tilt, turns; `training.teachers.lexicon` has sentences for the usual labels, and the
   frozen text model turns them into vectors.
2. `training.students.movement` measures the same things in windows.
3. `placing` predicts from the known classes where the windows of the new one lie, and scores a
   window by how much nearer it is to that place than to all known classes.
4. `names` joins two views (movement, and the student's features) and finds the margin on windows of
   known activities by held-out people, so it needs no window of the new activity.
5. `extend` writes the next version of a student: its own graph, and `module` behind it.
   `leaveout` measures what to expect by leaving each known activity out in turn.

```python
extension = extend_student(
    artifact, data, "cycling", ["seated, a smooth periodic rhythm without impacts"], {}, folder,
    share=0.05, encode=encode_text, command="kpstream models extend har-waist ...",
)
```
"""

__all__: list[str] = []
