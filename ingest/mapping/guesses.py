"""Guesses of a draft: the unit of a channel by its name, the form of a time by its value. Pure.

Names are those that Home Assistant, Zigbee2MQTT, Tasmota, rtl_433 and payload formatters use. A
guess that a name does not support is not made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ingest.mapping.times import EPOCH_FORMS, time_reader
from ingest.payloads import YEAR_2000_MS, YEAR_2100_MS
from ingest.topics import is_name

__all__ = [
    "TimeGuess",
    "channel_name",
    "is_counter",
    "is_time_name",
    "time_guess",
    "time_rank",
    "unit_guess",
]

_QUARTER_MS = 15 * 60_000

_UNIT_ENDINGS = (
    ("_c", "degC"), ("_f", "degF"), ("_k", "K"), ("_hpa", "hPa"), ("_kpa", "kPa"), ("_pa", "Pa"),
    ("_bar", "bar"), ("_mbar", "mbar"), ("_psi", "psi"), ("_mv", "mV"), ("_v", "V"), ("_ma", "mA"),
    ("_a", "A"), ("_kw", "kW"), ("_w", "W"), ("_kwh", "kWh"), ("_wh", "Wh"), ("_va", "VA"),
    ("_var", "var"), ("_hz", "Hz"), ("_rpm", "rpm"), ("_mm", "mm"), ("_cm", "cm"),
    ("_m_s", "m/s"), ("_km_h", "km/h"), ("_mi_h", "mph"), ("_deg", "deg"), ("_pct", "%"),
    ("_percent", "%"), ("_ppm", "ppm"), ("_lux", "lx"), ("_lx", "lx"), ("_dbm", "dBm"),
)  # fmt: skip
_UNIT_WORDS = {
    "temperature": "degC", "temp": "degC", "tempc": "degC", "tempf": "degF", "humidity": "%RH",
    "hum": "%RH", "soil_moisture": "%", "moisture": "%", "illuminance": "lx", "lux": "lx",
    "co2": "ppm", "battery": "%", "batt": "%", "batv": "V", "volt": "V", "power": "W",
    "apower": "W", "apparent_power": "VA", "aprt_power": "VA", "reactive_power": "var",
    "voltage": "V", "current": "A", "frequency": "Hz", "freq": "Hz", "pf": "1", "factor": "1",
}  # fmt: skip
_BY_LENGTH = sorted(_UNIT_WORDS, key=len, reverse=True)
_PRESSURES = (("Pa", 30_000, 120_000), ("hPa", 300, 1200), ("kPa", 30, 120))
_COUNTERS = {
    "id", "seq", "sequence", "counter", "count", "fcnt", "f_cnt", "fport", "f_port", "uptime",
    "uptimesec", "messageid", "message_id", "msgid", "rssi", "snr", "lqi", "linkquality", "port",
    "version", "channel", "protocol", "mod", "dr", "devaddr", "heap", "loadavg", "sleep", "mac",
    "measurementsequencenumber", "measurement_sequence_number", "txpower", "tx_power", "dataformat",
    "data_format", "total", "today", "yesterday", "period", "energy", "returned_energy", "counts",
    "minute_ts", "qos", "retain", "spreadingfactor", "bandwidth", "mac_type", "aenergy", "update",
    "ret_aenergy", "rxinfo", "txinfo", "rx_metadata", "settings", "location", "wifi", "noise",
    "movement_counter", "duration", "battery_ok", "systimestamp", "gwts",
}  # fmt: skip
_ABOUT = {
    "rxinfo", "txinfo", "rx_metadata", "settings", "location", "wifi", "update", "aenergy",
    "ret_aenergy", "counts",
}  # fmt: skip
"""Members of which everything is about the message or the device."""
_TIME_NAMES = (
    "time", "ts", "timestamp", "datetime", "date_time", "tstamp", "measured_at", "sampled_at",
    "t", "at", "date", "utc", "epoch", "last_seen", "received_at", "created_at", "unixtime",
    "unix_time_s", "gwts", "time_ms", "ts_ms", "reporttime", "report_time",
)  # fmt: skip
_STRPTIME = (
    "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S", "%a, %d %b %Y %H:%M:%S",
)  # fmt: skip


class TimeGuess(NamedTuple):
    """The form of a time.

    Attributes:
        form: Form of the mapping file.
        format: Format for strptime, or None.
        zone: Zone for a time without an offset, or None.
        distance_ms: Distance of the time from the time of receipt; None if that is not known.
        is_sure: Whether the zone is certain.
    """

    form: str
    format: str | None = None
    zone: str | None = None
    distance_ms: int | None = None
    is_sure: bool = True


def unit_guess(name: str, values: Sequence[float]) -> str | None:
    """Return the unit of a channel, if its name tells it.

    >>> unit_guess("temperature_C", [21.5]), unit_guess("pressure", [1013.2]), unit_guess("x", [1])
    ('degC', 'hPa', None)
    """
    last = _snake(name.split(".")[-1]).lower()
    if "pressure" in last or last in ("press", "baro"):
        largest = max((abs(value) for value in values), default=0.0)
        return next((unit for unit, low, high in _PRESSURES if low < largest < high), None)
    for ending, unit in _UNIT_ENDINGS:
        if last.endswith(ending):
            return unit
    for word in _BY_LENGTH:
        if last == word or last.endswith(f"_{word}"):
            return _UNIT_WORDS[word]
    for word in ("temperature", "tempc", "temp", "humidity", "hum", "voltage"):
        if last.startswith(f"{word}_"):
            return _UNIT_WORDS[word]
    return None


def is_counter(names: Iterable[str]) -> bool:
    """Whether a number is about the message or the device, or only ever grows.

    >>> is_counter(["rxInfo", "snr"]), is_counter(["ENERGY", "Power"])
    (True, False)

    Args:
        names: Names on the way to the number.
    """
    plain = [_snake(name).lower() for name in names]
    joined = {re.sub(r"_", "", each) for each in plain}
    if _COUNTERS.intersection(plain[-1:]) or _ABOUT.intersection({*plain, *joined}):
        return True
    return any(each.endswith(("_id", "_cnt", "_seq", "_total", "version")) for each in plain[-1:])


def is_time_name(name: str) -> bool:
    """Whether a name is one that devices give to times."""
    return name.lower() in _TIME_NAMES


def time_rank(name: str) -> int:
    """Return how probable it is that a name means the time of measurement; 0 is best."""
    plain = name.lower()
    return _TIME_NAMES.index(plain) if plain in _TIME_NAMES else len(_TIME_NAMES)


def time_guess(value: Any, recv_ms: int | None) -> TimeGuess | None:
    """Return the form of a time, if the value can be one of the years 2000 to 2099.

    >>> time_guess(1700000000250, None).form, time_guess("2023-11-14T22:13:20Z", None).form
    ('epoch-ms', 'iso8601')
    >>> time_guess("2023-11-14T23:13:20", 1_700_000_000_400).zone
    '+01:00'
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _epoch(value, recv_ms)
    if not isinstance(value, str) or len(value) > 60:
        return None
    if re.fullmatch(r"\d{9,20}(\.\d{1,9})?", value.strip()):
        return _epoch(value, recv_ms)
    for zone in (None, "UTC"):
        found = _read("iso8601", None, zone, value)
        if found is not None:
            return _zoned("iso8601", None, zone, found, recv_ms)
    for format_ in _STRPTIME:
        found = _read("strptime", format_, "UTC", value)
        if found is not None:
            return _zoned("strptime", format_, "UTC", found, recv_ms)
    return None


def channel_name(steps: Sequence[str | int], taken: set[str]) -> str | None:
    """Return a channel name for a path that is not taken; None if none can be made.

    >>> channel_name(("ENERGY", "ApparentPower"), set()), channel_name(("em:0", "p"), {"p"})
    ('apparent_power', 'em_0_p')
    """
    words = [_snake(str(step)) for step in steps]
    for first in range(len(words) - 1, -1, -1):
        name = "_".join(words[first:]).strip("_")[:64]
        if first < len(words) - 1 and isinstance(steps[first + 1], int) and first:
            continue  # a position alone with its array, never without the name above it
        if words[first].isdigit():
            continue
        if is_name(name) and name not in taken:
            return name
    return None


def _snake(text: str) -> str:
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z]{2,}\b)", "_", text)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text.lower() if not text.isupper() else text)


def _epoch(value: Any, recv_ms: int | None) -> TimeGuess | None:
    for form in EPOCH_FORMS:
        found = _read(form, None, None, value)
        if found is not None:
            return TimeGuess(form, distance_ms=_distance(found, recv_ms))
    return None


def _read(form: str, format_: str | None, zone: str | None, value: Any) -> int | None:
    try:
        found = time_reader(form, format_, zone)(value)
    except (ValueError, OverflowError):
        return None
    return found if YEAR_2000_MS < found < YEAR_2100_MS else None


def _zoned(
    form: str, format_: str | None, zone: str | None, found_ms: int, recv_ms: int | None
) -> TimeGuess:
    """Return a guess; a local time is compared with the time of receipt to find its zone."""
    if zone is None:
        return TimeGuess(form, format_, None, _distance(found_ms, recv_ms))
    if recv_ms is None:
        return TimeGuess(form, format_, "UTC", None, is_sure=False)
    quarters = round((found_ms - recv_ms) / _QUARTER_MS)
    away_ms = abs(found_ms - recv_ms - quarters * _QUARTER_MS)
    if abs(quarters) > 14 * 4:
        return TimeGuess(form, format_, "UTC", _distance(found_ms, recv_ms), is_sure=False)
    if quarters == 0:
        return TimeGuess(form, format_, "UTC", away_ms, is_sure=False)
    sign, minutes = "-+"[quarters > 0], abs(quarters) * 15
    offset = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    return TimeGuess(form, format_, offset, away_ms, is_sure=False)


def _distance(found_ms: int, recv_ms: int | None) -> int | None:
    return None if recv_ms is None else abs(found_ms - recv_ms)
