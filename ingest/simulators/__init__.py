"""Simulated machines and people: for the demo, for tests, and for a first try without sensors.

1. A device is **deterministic by seed**: the same seed gives the same readings, whatever the sizes
   in which they are requested.
2. Its numbers are **fits in the code** to public recordings (turbofan: C-MAPSS FD001, IMU: UCI-HAR,
   transformers: ETTh1 and ETTh2; training parts only). No data file is shipped or read.
3. It publishes like a real device: MQTT topic and JSON forms of `ingest.payloads`, event times of
   the device, and occasional duplicates, disorder and garbage.
4. The **truth** (RUL, activity, faults) travels apart from the readings, in a file of JSON lines.

`turbofan`, `imu` (with `gait`) and `transformers` (with `transformerfits`) are the physics,
`faults` injects six kinds of faults into any series, `emitters` and `transformeremitter` are the
devices with their schedules, `fleet` the process that publishes, `truth` and `forecasttruth` the
comparison of scores with the truth:

```python
from ingest.simulators.turbofan import Engine, engine_history
from ingest.simulators.faults import draw_faults, inject
from ingest.simulators.imu import Bout, Person
from ingest.simulators.transformers import Transformer

history = engine_history(seed=7)           # values [life, 21] float32, rul [life]
reading = Engine(seed=7).reading(cycle=1)  # {"T2": 518.67, "T24": 642.5, ...}

person = Person(seed=3, schedule=[Bout("WALKING", 30_000), Bout("SITTING", 20_000)])
chunk = person.take(128)                   # offset_ms [128], values [128, 9], activity [128]

transformer = Transformer(seed=3, hours=600)
faults = draw_faults(600, 7, np.random.default_rng(1))
broken = inject(transformer.values, faults, transformer.deviation)  # [600, 7]
```

On the command line: `kpstream simulate`, or `python -m ingest.simulators.fleet --help`.
"""
