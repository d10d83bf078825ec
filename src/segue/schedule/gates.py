"""Gates: what somebody must have said yes to."""

from segue.model.fleet import NodeFact
from segue.schedule.reasons import GateClosed, WebhookSaysNo, WebhookUnknown
from segue.schedule.scene import Scene


class Gates:
    """Which gates are open: approvals of operators, and answers of webhooks.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._reason = _closed(scene)

    def refuse(self, _fact: NodeFact) -> GateClosed | WebhookSaysNo | WebhookUnknown | None:
        """Return the first gate that is not open; None if all are."""
        return self._reason


def _closed(scene: Scene) -> GateClosed | WebhookSaysNo | WebhookUnknown | None:
    fleet = scene.fleet
    for gate in scene.rules.gates:
        if (fleet.target, gate) not in fleet.hand.approved:
            return GateClosed(gate=gate)
    for url in scene.rules.webhooks:
        answer = fleet.answers.get(url)
        if answer is None:
            return WebhookUnknown(url=url, text="")
        if answer.says is None:
            return WebhookUnknown(url=url, text=answer.text)
        if not answer.says:
            return WebhookSaysNo(url=url, text=answer.text, since=answer.since)
    return None
