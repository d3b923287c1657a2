"""Simulated machines and people: for the demo, for tests, and for a first look without sensors.

1. A device is **deterministic by seed**: the same seed gives the same readings, in whatever
   portions they are asked for.
2. The numbers behind it are **fits in the code** to public recordings (turbofan: C-MAPSS FD001,
   IMU: UCI-HAR, training parts only). No data file is shipped or read.
3. What is published is what a real device would publish: MQTT topic and JSON forms of
   `ingest.payloads`, event time from the device, now and then a duplicate, disorder or rubbish.
4. The **truth** (RUL, activity) travels apart from the readings, in a JSON-lines file.

`turbofan` and `imu` (with `gait`) are the physics, `emitters` the devices with their schedules,
`fleet` the process that publishes, `truth` the comparison afterwards:

```python
from ingest.simulators.turbofan import Engine, engine_history
from ingest.simulators.imu import Bout, Person

history = engine_history(seed=7)           # values [life, 21] float32, rul [life]
reading = Engine(seed=7).reading(cycle=1)  # {"T2": 518.67, "T24": 642.5, ...}

person = Person(seed=3, schedule=[Bout("WALKING", 30_000), Bout("SITTING", 20_000)])
chunk = person.take(128)                   # offset_ms [128], values [128, 9], activity [128]
```

On the command line: `kpstream simulate`, or `python -m ingest.simulators.fleet --help`.
"""
