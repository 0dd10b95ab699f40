"""The head of a ranking for the start page."""

from paibench.leaderboard.site.board import Board
from paibench.leaderboard.site.track_boards import Frames

_SHOWN_ROWS, _SHOWN_DENSITIES = 12, 7


def narrow(shown: Frames, found: list[Board], title: str) -> Board:
    """The head of a track's ranking for the start page: its first rows, without their costs."""
    ranked = next((board for board in found if board.id == "ranked"), None)
    if ranked is None:
        return Board(f"on-{shown.slug}", title, "No row of it can be ranked.", "method", (), ())
    spread = [place for place, column in enumerate(ranked.columns) if column.spread]
    filled = {place: sum(bool(row.items[place].n) for row in ranked.rows) for place in spread}
    fullest = sorted(spread, key=lambda place: (place > 0, -filled[place], place))
    keys = ("critical", "area", "verdict", "mark")
    kept = [
        *sorted(fullest[:_SHOWN_DENSITIES]),
        *(p for p, c in enumerate(ranked.columns) if c.key in keys),
    ]
    rows = [
        row._replace(items=tuple(row.items[place] for place in kept))
        for row in ranked.rows[:_SHOWN_ROWS]
    ]
    columns = tuple(ranked.columns[place] for place in kept)
    total = ranked.cut or len(ranked.rows)
    more = f" The first {len(rows)} of {total} rows." if total > len(rows) else ""
    return Board(f"on-{shown.slug}", title, ranked.caption + more, "method", columns, tuple(rows))
