"""The state of the reserved orders, as a snapshot holds it."""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.pending import Reservation
from riskmon.core.decisions import CheckAnswer


class Refused(Struct):
    """A check that was refused, and its answer."""

    check: ev.Check
    answer: CheckAnswer
    at_ns: int


class Counted(Struct):
    """How many orders rest at a venue, by a report; less those that ended since."""

    count: int
    taken_ns: int


class ReservationsState(Struct):
    """The orders, and what was refused lately."""

    reserved: dict[str, Reservation] = field(default_factory=dict)
    # Of a snapshot of before 0.2.1: when orders without a report were permitted.
    unreported_ns: dict[str, int] = field(default_factory=dict, name="unheard_ns")
    made: int = 0  # ids given to orders without one
    refused: dict[str, Refused] = field(default_factory=dict)  # the oldest first
    counted: dict[str, Counted] = field(default_factory=dict)  # by venue

    def upgrade(self) -> None:
        """Name the orders of an earlier snapshot by their venues too."""
        for name, order in list(self.reserved.items()):
            if not order.id:
                order.id, order.lapsed = name, order.executed
                order.began_ns = self.unreported_ns.get(name, 0)
                order.reported_ns = None if name in self.unreported_ns else 0
                del self.reserved[name]
                self.reserved[order.key] = order
        self.unreported_ns.clear()
