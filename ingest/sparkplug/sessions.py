"""Sessions of a node: which message begins, continues or ends one. Pure.

A session begins with an NBIRTH and ends with the NDEATH of the same number (`bdSeq`, 0 to 255); its
messages carry a sequence (`seq`, 0 to 255, 0 in the birth). Numbers decide, not bytes: a node
without a clock sends the same bytes after every power cycle.

Is a message new? The broker marks what it may have sent before (DUP); everything else is new.

| message                                  | is                                                    |
|------------------------------------------|-------------------------------------------------------|
| marked, its bytes are among the last     | a redelivery: skipped                                 |
| marked, its bytes are not                | new: it got lost on its first way                     |
| not marked, NBIRTH                       | a new session, whatever its bytes                     |
| not marked, bytes seen in this session,  | sent twice by the node: skipped                       |
| seq of one of the last 16 messages       |                                                       |
| not marked, any other                    | new                                                   |

Does an NDEATH end the session of the last birth?

| number of the death                      | effect                                                |
|------------------------------------------|-------------------------------------------------------|
| that of the birth                        | offline                                               |
| up to 127 behind it                      | none: the late will of an earlier session             |
| up to 128 ahead                          | offline: whatever session it ends is later than ours, |
|                                          | so ours has ended too (pysparkplug counts on before a |
|                                          | clean disconnect). *Deviation*: the specification     |
|                                          | has hosts ignore it, and the node stays online        |
| none, an empty body, or none in the birth| offline, and the node is asked for a birth in case it |
|                                          | was a late will                                       |
| that of the birth, which did not move    | offline, and the node is asked for a birth: a late    |
| since the session before                 | will can't be told from a death                       |

What does `seq` say, `ahead` of the last number (modulo 256)?

| ahead                                    | is                                                    |
|------------------------------------------|-------------------------------------------------------|
| 1                                        | the next message                                      |
| 0                                        | the next message of a node that does not count        |
| 2 to 239                                 | a gap of ahead - 1 messages: values are unknown until |
|                                          | they are sent again, and a birth is requested         |
| 240 to 255, a number of the last gap     | a message that was overtaken: it is read with the     |
|                                          | values from before the gap; the last one closes it.   |
|                                          | *Deviation*: no timer holds back what overtook it     |
| 240 to 255, any other                    | the sequence began again without a birth: a gap of    |
|                                          | unknown length                                        |

(Sparkplug 3.0.0, sections 5.4 to 5.6 and 6.4.1.)
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OVERTAKEN", "Step", "ends_session", "step_of"]

OVERTAKEN = 16
"""Most messages by which another one may be overtaken."""


class Step(NamedTuple):
    """What a sequence number says.

    Attributes:
        missing: Numbers between the last message and this one.
        is_gap: Messages are missing, or the sequence began again.
        is_overtaken: The message is one of those that were missing.
    """

    missing: tuple[int, ...] = ()
    is_gap: bool = False
    is_overtaken: bool = False


def ends_session(birth: int | None, death: int | None) -> bool:
    """Whether a death with the number `death` ends the session of a birth; None: no number.

    >>> ends_session(3, 3), ends_session(3, 2), ends_session(0, 255), ends_session(255, 0)
    (True, False, False, True)
    """
    if birth is None or death is None:
        return True
    return not 1 <= (birth - death) % 256 <= 127


def step_of(last: int, seq: int, missing: tuple[int, ...]) -> Step:
    """Return what `seq` says after `last`, with the numbers that are still missing.

    >>> step_of(255, 0, ()), step_of(5, 8, ()).missing, step_of(8, 6, (6, 7)).is_overtaken
    (Step(missing=(), is_gap=False, is_overtaken=False), (6, 7), True)
    """
    ahead = (seq - last) % 256
    if ahead <= 1:
        return Step()
    if ahead < 256 - OVERTAKEN:
        return Step(tuple((last + n) % 256 for n in range(1, ahead)), is_gap=True)
    return Step(is_gap=seq not in missing, is_overtaken=seq in missing)
