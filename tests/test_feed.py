"""What a reader of the stream is told, and what nobody is asked for when nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from riskmon.core import events as ev
from riskmon.core.decisions import Sweep, Warned, Withdraw
from riskmon.core.engine import Engine
from riskmon.core.view import View, Withheld
from riskmon.port import Change, NotReady, PortfolioNow, Shutdown
from riskmon.sidecar.feed import READER_CHANGES, Feed

SECOND_NS = 10**9
PAUSE_SECONDS = 0.01
WARNING = Warned(limit="edge", scope="account", active=True, utilization=0.9, at_ns=1)


class Account:
    """An engine whose account holds the reference only, and what its readers are told."""

    def __init__(self) -> None:
        self.engine, self.now_ns, self.looks = Engine(), SECOND_NS, 0
        self.ready = True
        self.changes = Feed(self.look, poll_seconds=PAUSE_SECONDS, drain_seconds=0.05)

    def look(self) -> Engine:
        """The engine, once it is there."""
        self.looks += 1
        if not self.ready:
            raise NotReady("the journal is being replayed")
        return self.engine

    def hold(self, usdt: float) -> None:
        """A venue reports so much."""
        self.now_ns += SECOND_NS
        report = ev.Balances(venue="kraken", assets={"USDT": ev.AssetBalance(free=usdt)})
        self.engine.step([report], now_ns=self.now_ns, wall_ns=self.now_ns)

    def follow(self) -> Any:
        """A reader, to be used with `async with`."""
        changes = self.changes.subscribe()
        return aclosing(changes)


async def following(changes: AsyncIterator[Change]) -> Change:
    """The next change."""
    async with asyncio.timeout(5):
        return await anext(changes)


async def equity(changes: AsyncIterator[Change]) -> float | None:
    """The next change's equity; it must be the portfolio."""
    change = await following(changes)
    assert isinstance(change, PortfolioNow)
    return change.equity


async def test_reader_gets_what_is_there_first() -> None:
    """The whole state, then the portfolio's figures, each as the engine shows them."""
    account = Account()
    account.hold(100)
    async with account.follow() as changes:
        first, second = await following(changes), await following(changes)
    view = account.engine.view()
    assert first == view
    assert isinstance(second, PortfolioNow)
    for name in set(PortfolioNow.__struct_fields__) - {"at_ns"}:
        assert getattr(second, name) == getattr(view.portfolio, name), name
    assert second.at_ns == view.at_ns
    assert second.equity == 100


async def test_burst_is_told_as_its_end() -> None:
    """Of a thousand changes in one go only the last is sent, and it is sent."""
    account = Account()
    account.hold(100)
    async with account.follow() as changes:
        await following(changes)
        assert await equity(changes) == 100
        for usdt in range(1_000):
            account.hold(1_000 + usdt)
        assert await equity(changes) == 1_999
        account.changes.publish(WARNING)  # nothing of the burst is left before it
        assert await following(changes) == WARNING


async def test_same_figures_are_told_once() -> None:
    """Events that change no figure send nothing, however often the engine is looked at."""
    account = Account()
    account.hold(100)
    async with account.follow() as changes:
        await following(changes)
        await following(changes)
        looks = account.looks
        while account.looks < looks + 3:
            account.hold(100)
            await asyncio.sleep(PAUSE_SECONDS)
        account.changes.publish(WARNING)
        assert await following(changes) == WARNING


async def test_nothing_is_looked_at_for_nobody() -> None:
    """Before the first reader and after the last one the engine is left in peace."""
    account = Account()
    account.hold(100)
    account.changes.publish(WARNING)
    await asyncio.sleep(5 * PAUSE_SECONDS)
    assert account.looks == 0
    async with account.follow() as changes:
        await following(changes)
    looks = account.looks
    assert looks > 0
    account.hold(200)
    await asyncio.sleep(5 * PAUSE_SECONDS)
    assert account.looks == looks


async def test_each_reader_has_its_own_last() -> None:
    """One who comes later gets what is there, and the first does not get it twice."""
    account = Account()
    account.hold(100)
    async with account.follow() as early:
        await following(early)
        assert await equity(early) == 100
        async with account.follow() as late:
            await following(late)
            assert await equity(late) == 100
            account.hold(200)
            assert (await equity(early), await equity(late)) == (200, 200)


async def test_reader_during_the_replay_gets_the_state_after_it() -> None:
    """A stream may begin before there is an engine to look at."""
    account = Account()
    account.ready = False
    async with account.follow() as changes:
        first = asyncio.ensure_future(following(changes))
        await asyncio.sleep(2 * PAUSE_SECONDS)
        assert account.looks > 0
        account.hold(100)
        account.ready = True
        assert await first == account.engine.view()
        assert await equity(changes) == 100


async def test_only_changes_of_state_are_told() -> None:
    """What is for the journal and the outbox is not for readers."""
    account = Account()
    account.changes.publish(Withdraw(incident="inc_1"))
    async with account.follow() as changes:
        await following(changes)
        await following(changes)
        account.changes.publish(Withdraw(incident="inc_1"))
        account.changes.publish(
            Sweep(
                incident="inc_1",
                sweep=1,
                generation=1,
                scope="account",
                limit="edge",
                reason="",
                at_ns=1,
                cancels="all",
                flatten=False,
                targets=(),
            )
        )
        account.changes.publish(WARNING)
        assert await following(changes) == WARNING


async def test_shutdown_is_the_last_to_everyone() -> None:
    """The latest figures, then the end, and the iterators are over; no one can join."""
    account = Account()
    account.hold(100)
    async with account.follow() as one, account.follow() as other:
        for changes in (one, other):
            await following(changes)
            await following(changes)
        account.hold(200)

        async def rest(changes: AsyncIterator[Change]) -> list[Change]:
            return [change async for change in changes]

        ends = asyncio.gather(rest(one), rest(other))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await account.changes.end(clean=False, reason="failed: disk full")
            for told in await ends:
                portfolio, last = told
                assert isinstance(portfolio, PortfolioNow)
                assert portfolio.equity == 200
                assert isinstance(last, Shutdown)
                assert (last.clean, last.reason) == (False, "failed: disk full")
    async with account.follow() as late:
        assert [change async for change in late] == []


async def test_end_waits_for_no_one_who_stands_still() -> None:
    """A reader who does not take the last event holds the end for a moment only."""
    account = Account()
    async with account.follow() as changes:
        await following(changes)
        async with asyncio.timeout(5):
            await account.changes.end(clean=True, reason="stopped in order")


async def test_reader_who_falls_behind_is_let_go() -> None:
    """He keeps no more than a bounded number of changes, and the others go on."""
    account = Account()
    async with account.follow() as slow, account.follow() as quick:
        for changes in (slow, quick):
            await following(changes)
            await following(changes)
        for _ in range(READER_CHANGES + 1):
            account.changes.publish(WARNING)
            assert await following(quick) == WARNING
        assert [change async for change in slow] == []
        account.changes.publish(WARNING)
        assert await following(quick) == WARNING


async def test_a_reader_gets_the_state_when_the_lease_is_withheld() -> None:
    """At halt, with the reason; and anew when the lease is renewed again."""
    account = Account()
    withheld: list[Withheld] = []
    account.changes = Feed(
        account.look,
        withheld=lambda: withheld[-1] if withheld else None,
        poll_seconds=PAUSE_SECONDS,
        drain_seconds=0.05,
    )
    async with account.follow() as followed:
        first = await following(followed)
        assert isinstance(first, View)
        assert (first.level, first.withheld) == ("allow", None)
        await following(followed)
        withheld.append(Withheld(reason="storage", detail="the disk hangs"))
        halted = await following(followed)
        assert isinstance(halted, View)
        assert (halted.level, halted.withheld) == ("halt", withheld[0])
        withheld.clear()
        renewed = await following(followed)
        assert isinstance(renewed, View)
        assert renewed.level == "allow"
