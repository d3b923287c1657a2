"""Steps with a gateway of their own: other settings, another user, or another broker."""

from __future__ import annotations

import time

from tests.brokers.clients import Devices, ask, wait_for
from tests.brokers.plant import BrokerPlant
from tests.brokers.rig import Result, Rig, kill_under_load

__all__ = ["no_right_to_read", "pinned_version", "short_session"]

_SHORT_SESSION_S = 4


def short_session(rig: Rig) -> Result:
    """A broker that keeps sessions for 4 s: not ready, and the loss of a stop is counted."""
    broker = type(rig.broker)(rig.folder / "short" / "broker")
    broker.session_s = _SHORT_SESSION_S
    plant = BrokerPlant(broker, rig.folder / "short")
    devices: Devices | None = None
    try:
        broker.start()
        plant.start_gateway(wait=False)
        wait_for(lambda: plant.get("ready") is not None, 200)
        text = plant.problem("keeps our session", 60)
        is_ready = bool((plant.get("ready") or {}).get("ready"))
        plant.kill_gateway()
        devices = Devices(broker.port, "devices-short")
        devices.publish_all(rig.messages("short", 0, rig.size.load))
        devices.flush()
        time.sleep(2 * _SHORT_SESSION_S)
        plant.start_gateway(wait=False)
        wait_for(lambda: plant.mqtt_health().get("sessions_lost", 0) > 0, 200, poll_s=1.0)
        counted = plant.mqtt_health().get("sessions_lost", 0)
    finally:
        if devices is not None:
            devices.close()
        if plant.runs:
            plant.kill_gateway()
        broker.kill()
    said = f"for {_SHORT_SESSION_S} s" in text and not is_ready
    numbers = {"confirmed": len(devices.confirmed), "sessions_lost": counted, "ready": text}
    found = f"{text or 'nothing said'}; after a stop: {counted} lost sessions counted"
    return "held" if said and counted == 1 else "BROKEN", found, numbers


def pinned_version(rig: Rig) -> Result:
    """MQTT 3.1.1 by the settings, with a broker that speaks 5 too: nothing lost over a SIGKILL."""
    plant = BrokerPlant(
        rig.broker,
        rig.folder / "pinned",
        KPSTREAM_INGEST_MQTT_PROTOCOL="3.1.1",
        KPSTREAM_INGEST_MQTT_CLIENT_ID="pinned-gateway",
    )
    pinned = Rig(rig.broker, rig.folder, rig.size, plant, "3.1.1")
    try:
        plant.start_gateway()
        verdict, text, numbers = kill_under_load(pinned, "pinned")
        spoken = plant.mqtt_health().get("protocol")
    finally:
        if plant.runs:
            plant.kill_gateway()
    return verdict if spoken == "3.1.1" else "BROKEN", f"MQTT {spoken}: {text}", numbers


def no_right_to_read(rig: Rig) -> Result:
    """A user who may not subscribe: the gateway is not ready, and asks for the right."""
    raw = ask(rig.broker.port, rig.version, name="noread", user="noread", subscribe="sensors/#")
    granted = raw.suback.startswith("Granted")
    plant = BrokerPlant(rig.broker, rig.folder / "noread", user="noread")
    plant.env["KPSTREAM_INGEST_MQTT_CLIENT_ID"] = "noread-gateway"
    plant.start_gateway(wait=False)
    try:
        # A broker that grants what it then does not deliver cannot be seen through.
        wait_for(lambda: plant.get("ready") is not None, 200)
        text = plant.problem("sensors/#", 20 if granted else 60)
        log = plant.output()
    finally:
        plant.kill_gateway()
    said = "sensors/#" in text + log and not (plant.get("ready") or {}).get("ready")
    numbers = {"suback": raw.suback, "ended": raw.ended, "ready": text, "log": log[-2000:]}
    answer = raw.suback or raw.ended
    if granted:
        return "broker", f"SUBACK says {answer}, nothing is delivered", numbers
    return "held" if said else "BROKEN", f"broker: {answer}. Gateway: {text[:250]}", numbers
