"""All checks of the broker: the steps of a connection, and two questions behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

from deploy.doctor.brokercheck import BrokerCheck
from deploy.doctor.brokerquestions import check_beside, check_dropped
from deploy.doctor.brokersteps import BROKER, BrokerSteps, StepsEnd
from deploy.doctor.findings import Finding

__all__ = ["broker_findings", "check_broker"]


def check_broker(check: BrokerCheck) -> Iterator[Finding]:
    """Run all steps and questions; yields each finding at once. See `broker_findings`."""
    loop, findings = asyncio.new_event_loop(), broker_findings(check)
    try:
        while True:
            try:
                yield loop.run_until_complete(findings.__anext__())
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(findings.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def broker_findings(check: BrokerCheck) -> AsyncGenerator[Finding, None]:
    """Yield the findings of all steps and questions, in the order of the table above."""
    broker = BrokerSteps(check)
    steps: dict[str, Callable[[], Awaitable[list[Finding]]]] = {"TCP": broker.tcp}
    if check.endpoint.tls:
        steps["TLS"] = broker.tls
    steps |= {"CONNECT": broker.connect, "SUBSCRIBE": broker.subscribe, "PUBLISH": broker.publish}
    waiting = list(steps)
    try:
        while waiting:
            step = waiting.pop(0)
            try:
                found, is_end = await steps[step](), False
            except StepsEnd as exc:
                found, is_end = exc.findings, True
            for finding in found:
                yield finding
            if is_end:
                for later in waiting:
                    yield Finding(BROKER, "unknown", f"{later}: not tried, because {step} failed")
                yield Finding("queue", "unknown", f"not tried, because {step} failed")
                return
    finally:
        broker.close()
    yield await check_dropped(check, broker.version)
    if check.prefixes:
        for finding in await check_beside(check, broker.version):
            yield finding
