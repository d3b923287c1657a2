"""Mapping: messages of devices as they are become readings.

One TOML file describes one kind of device: its topics, its format, its times, its channels. In:
topic and bytes of a message. Out: readings of our own form, or a refusal that says what to mend.

```python
from ingest.mapping.compiled import compile_mapping
from ingest.mapping.file import read_mapping_file

mapping = compile_mapping(read_mapping_file(Path("tasmota.toml")))
extract = mapping.read("tele/plug-3/SENSOR", b'{"ENERGY": {"Power": 12}}', recv_ms)
extract.readings[0].values        # {"power": 12.0}
```

Files, lowest first:

- `errors`: faults of messages.
- `paths`: paths into a message.
- `patterns`: topic patterns with places, and names made of them.
- `times`: forms of event times.
- `values`: numbers from what devices send.
- `file`: the mapping file and its faults.
- `texts`, `lines`, `binary`, `packed`: the formats; `bodies` chooses.
- `channels`, `eventtimes`, `senders`: the parts of a reading.
- `extract`: what a message becomes.
- `straight`: the way of plain messages.
- `compiled`: a mapping at work.
- `recorded`: recorded messages, as `mosquitto_sub` prints them.
- `trial`: what recorded messages become, and what streams there are.
- `survey`, `objects`, `guesses`: what is in messages, as far as it can be told.
- `topicdraft`, `draftplan`, `draftchannels`, `drafting`, `drafttext`: a first file from messages.
- `ready`: files that ship with kpstream.
"""

__all__: list[str] = []
