"""The alert rules of releases from a centre: paused releases, gateways that fell back. Pure."""

from __future__ import annotations

from dashboards.alerts.alert import Rule
from dashboards.queries import alerts as queries
from dashboards.visuals.links import ROLLOUT_UID

__all__ = ["rollout_rules"]


def rollout_rules() -> list[Rule]:
    """The rules of releases; a site without a centre has no such points, and no such alerts."""
    return [_release_paused(), _gateway_fell_back()]


def _release_paused() -> Rule:
    return Rule(
        uid="kpstream-release-paused",
        title="Release paused",
        queries={"paused": queries.RELEASES_PAUSED, "failed": queries.RELEASE_FAILURES},
        fires_when="above",
        limit=0.5,
        look_back_s=3_600,
        for_s=0,
        no_data=("OK", "no centre has reported a release, and then nothing can pause"),
        severity="warning",
        summary=(
            "The release of {{ .Labels.model }} is paused; it failed on "
            '{{ printf "%.0f" .Values.failed.Value }} gateways'
        ),
        meaning=(
            "More gateways than the plan allows judged the new student unhealthy, or somebody "
            "paused the release by hand. No further gateway takes it. The gateways that judged it "
            "unhealthy run the old student again."
        ),
        action=(
            "Read the remark of the release and the reasons of the gateways on the board. If the "
            "student is bad, end the release with `kpstream centre abort`: its gateways go back. "
            "If only those gateways are at fault, let it go on with `kpstream centre resume` and a "
            "higher --max-failed."
        ),
        panel=(ROLLOUT_UID, "releases-now"),
    )


def _gateway_fell_back() -> Rule:
    return Rule(
        uid="kpstream-gateway-fell-back",
        title="Gateway fell back",
        queries={"failed": queries.GATEWAYS_FAILED},
        fires_when="above",
        limit=0.5,
        look_back_s=3_600,
        for_s=0,
        no_data=("OK", "no gateway follows a centre, or none has reported within the hour"),
        severity="warning",
        summary="{{ .Labels.gateway }} judged the new version of {{ .Labels.model }} unhealthy",
        meaning=(
            "The gateway compared the new student with the old one on its own windows and broke "
            "off: the old one scores. It does not try this release again. The alert ends with a "
            "newer release."
        ),
        action=(
            "Read the reason in the table of gateways. One gateway alone points to its machine or "
            "its devices; several point to the student, so look at its release as well."
        ),
        panel=(ROLLOUT_UID, "gateways-now"),
    )
