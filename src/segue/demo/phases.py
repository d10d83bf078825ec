"""What the phases of a node's journey mean to whoever watches."""

from segue.journey import Phase

#: Calls wait, or are about to.
AWAY = frozenset(
    {
        Phase.QUIESCING,
        Phase.TRANSFORMING,
        Phase.STARTING,
        Phase.HANDING_OVER,
        Phase.RESUMING,
        Phase.RESTART_QUIESCING,
        Phase.RESTART_STARTING,
        Phase.RESTART_HANDING_OVER,
        Phase.RESTART_RESUMING,
    }
)
#: It runs the old version, and its future simulation is installed.
SIMULATING = frozenset({Phase.WAITING, Phase.WARMING, Phase.RETURNING})
#: It serves, and something is under way.
ON_THE_WAY = SIMULATING | {Phase.FETCHING, Phase.INSTALLING, Phase.PROVING, Phase.COMMITTING, Phase.RESTART_WARMING}
