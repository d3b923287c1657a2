"""Properties of MQTT 5 as bytes, any of them with any value, also one that the standard forbids."""

from __future__ import annotations

__all__ = ["properties", "varint"]

_NUMBERS = {  # name: identifier, bytes (MQTT 5, 2.2.2.2)
    "payload_format_indicator": (0x01, 1),
    "message_expiry_interval": (0x02, 4),
    "session_expiry_interval": (0x11, 4),
    "server_keep_alive": (0x13, 2),
    "request_response_information": (0x19, 1),
    "receive_maximum": (0x21, 2),
    "topic_alias_maximum": (0x22, 2),
    "topic_alias": (0x23, 2),
    "maximum_qos": (0x24, 1),
    "retain_available": (0x25, 1),
    "maximum_packet_size": (0x27, 4),
    "wildcard_subscription_available": (0x28, 1),
    "subscription_identifier_available": (0x29, 1),
    "shared_subscription_available": (0x2A, 1),
}
_TEXTS = {
    "content_type": 0x03,
    "response_topic": 0x08,
    "assigned_client_identifier": 0x12,
    "authentication_method": 0x15,
    "response_information": 0x1A,
    "server_reference": 0x1C,
    "reason_string": 0x1F,
}
_USER_PROPERTY = 0x26


def properties(**values: int | str | tuple[str, str] | None) -> bytes:
    """Return the properties without their length, for `ScriptedBroker.connack_properties`.

    >>> properties(receive_maximum=10, reason_string="no").hex()
    '21000a1f00026e6f'

    Args:
        values: Value by name in snake case; None leaves a property out.
    """
    out = b""
    for name, value in values.items():
        if isinstance(value, int):
            identifier, size = _NUMBERS[name]
            out += bytes([identifier]) + value.to_bytes(size, "big")
        elif isinstance(value, str):
            out += bytes([_TEXTS[name]]) + _text(value)
        elif value is not None:
            out += bytes([_USER_PROPERTY]) + _text(value[0]) + _text(value[1])
    return out


def varint(number: int) -> bytes:
    """Return a variable byte integer (MQTT 5, 1.5.5)."""
    out = bytearray()
    while True:
        number, digit = number >> 7, number & 0x7F
        out.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
