"""Which route takes a request: `compile` makes a table of the routes, `Table.match` asks it.

Routes are tried in order and the first match wins, but nothing is tried one by one: the table is indexed by
domain, path and method, so its cost hardly depends on the number of routes. The package is pure.
"""

from prox.routing.table import Match, RouteMatch, Table, compile  # noqa: A004 - the package is used by its name

__all__ = ["Match", "RouteMatch", "Table", "compile"]
