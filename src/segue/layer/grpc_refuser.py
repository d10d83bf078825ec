"""What a node says when it refuses a call: the reason, in words for people, with the versions that it answers."""

from dataclasses import replace

from segue.layer.grpc_collector import service_of
from segue.layer.grpc_refusal import Refusal, RefusalReason
from segue.layer.grpc_table import Table
from segue.model.ids import NodeId, Version

#: What a caller is told to wait where too many calls do. Much shorter, and those who were refused are a load of
#: their own; longer, and they wait longer than the pause.
_RETRY_AFTER_S = 1.0


class Refuser:
    """Words the refusals of one node.

    Args:
        node: the node's id; None if it has none.
    """

    def __init__(self, node: NodeId | None) -> None:
        self._node = node
        self._table: Table | None = None

    def show(self, table: Table | None) -> None:
        """Take `table` for what the node answers from now on; None if it answers nothing."""
        self._table = table

    def refusal(self, reason: RefusalReason, caller_version: Version | None, message: str) -> Refusal:
        """Return a refusal that names the node and the versions that it answers now.

        Args:
            reason: why.
            caller_version: the version that the call was taken to speak; None if there was none to tell.
            message: the same for people.
        """
        table = self._table
        return Refusal(
            reason=reason,
            message=message,
            caller_version=caller_version,
            oldest_version=None if table is None else table.oldest,
            newest_version=None if table is None else table.newest,
            node=self._node,
        )

    def retired(self, table: Table, spoken: Version, *, labelled: bool) -> Refusal:
        """Refuse a call of a version older than all that are answered."""
        message = (
            f"{_who(spoken, labelled)} is no longer answered here: "
            f"call with version {table.oldest} or later, up to {table.newest}"
        )
        return self.refusal(RefusalReason.RETIRED_VERSION, spoken, message)

    def no_such_method(self, table: Table, spoken: Version | None, method: str, *, labelled: bool) -> Refusal:
        """Refuse a call of a method that the caller's version, or any if None, does not have."""
        who = "segue: no version" if spoken is None else _who(spoken, labelled)
        having = ", ".join(map(str, table.versions.get(method, ())))
        what_now = f"call with a version that has it: {having}" if having else "no version that is answered here has it"
        return self.refusal(RefusalReason.NO_SUCH_METHOD, spoken, f"{who} has no {method}: {what_now}")

    def not_yet(self, spoken: Version | None, method: str, waited_s: float) -> Refusal:
        """Refuse a call that has waited for its version, or for the node's first objects.

        Args:
            spoken: the version on the call's label; None if it has none.
            method: the method's path.
            waited_s: how long it waited, in seconds.
        """
        within = f"within {max(waited_s, 0):.3g} s: try again later"
        table = self._table
        if table is None:
            message = f"segue: this node did not come to answer calls {within}"
            return self.refusal(RefusalReason.NODE_NOT_READY, spoken, message)
        version = table.unlabelled.get(method) if spoken is None else spoken
        message = f"segue: this node did not come to answer version {version} {within}"
        return self.refusal(RefusalReason.UNKNOWN_VERSION, version, message)

    def too_many_parked(self, spoken: Version | None) -> Refusal:
        """Refuse a call that would have to wait, as too many do.

        Args:
            spoken: the version on the call's label; None if it has none.
        """
        message = (
            "segue: as many calls wait at this node as may (segue node --park-calls, --park-mib): "
            f"try again after {_RETRY_AFTER_S:g} s"
        )
        return replace(self.refusal(RefusalReason.TOO_MANY_PARKED, spoken, message), retry_after_s=_RETRY_AFTER_S)

    def not_relayed_longer(self, spoken: Version | None, method: str) -> Refusal:
        """Refuse a call that was relayed to the process that replaced this one, which leaves.

        Args:
            spoken: the version on the call's label; None if it has none.
            method: the method's path.
        """
        message = (
            f"segue: this node has upgraded, and its old process leaves without waiting longer for {method}: call again"
        )
        return self.refusal(RefusalReason.NODE_UPGRADING, spoken, message)

    def not_here(self, spoken: Version | None, method: str) -> Refusal:
        """Refuse a call of a version that nobody will install, or that came before the first objects.

        Args:
            spoken: the version on the call's label; None if it has none.
            method: the method's path.
        """
        table = self._table
        if table is None:
            message = "segue: this server has not started its versions (versions.start()): try again later"
            return self.refusal(RefusalReason.NODE_NOT_READY, spoken, message)
        version = table.unlabelled.get(method) if spoken is None else spoken
        message = f"segue: version {version} is not known here: call with version {table.oldest}"
        message += f", up to {table.newest}" if table.newest > table.oldest else ""
        return self.refusal(RefusalReason.UNKNOWN_VERSION, version, message)

    def is_ours(self, method: str, refusal: Refusal) -> bool:
        """Say whether a call is ours to refuse, or may be of another handler of the same server: a health service."""
        if refusal.reason is not RefusalReason.NO_SUCH_METHOD:
            return True
        return self._table is not None and service_of(method) in self._table.services


def _who(spoken: Version, labelled: bool) -> str:
    return f"segue: version {spoken}" + ("" if labelled else ", which calls without a label are taken for,")
