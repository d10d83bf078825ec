"""A colour for each version, in the picture and in the terminal: the same one all the way."""

from segue.model.ids import Version

#: Told apart also by those who do not see red and green apart; after the last, they begin again.
_COLORS = ("#4a7ab5", "#e0893b", "#3a9d86", "#9a6bb3", "#c9b23e")
_STYLES = ("dodger_blue1", "dark_orange", "dark_cyan", "medium_orchid", "gold3")


def color_of(version: Version) -> str:
    """Return the version's colour in the picture."""
    return _COLORS[(version - 1) % len(_COLORS)]


def style_of(version: Version) -> str:
    """Return the version's style in the terminal."""
    return _STYLES[(version - 1) % len(_STYLES)]
