"""The changes that readers of the stream get, and the engine at rest without readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import Sweep, Warned, Withdraw
from riskmon.core.engine import Engine
from riskmon.core.view import View, Withheld
from riskmon.port import Change, NotReady, PortfolioNow, Shutdown
from riskmon.sidecar.feed import READER_CHANGES, Feed

SECOND_NS = 10**9
PAUSE_SECONDS = 0.01
WARNING = Warned(limit="edge", scope="account", active=True, utilization=0.9, at_ns=1)


class Account:
    """An engine whose account has the reference asset only, and its feed."""

    def __init__(self) -> None:
        portfolio = PortfolioConfig(venues=("kraken",))
        self.engine = Engine(EngineConfig(portfolio=portfolio))
        self.now_ns, self.looks = SECOND_NS, 0
        self.ready = True
        self.changes = Feed(self.look, poll_seconds=PAUSE_SECONDS, drain_seconds=0.05)

    def look(self) -> Engine:
        """Return the engine, once it exists."""
        self.looks += 1
        if not self.ready:
            raise NotReady("the journal is being replayed")
        return self.engine

    def hold(self, usdt: float) -> None:
        """Report the balance of a venue."""
        self.now_ns += SECOND_NS
        report = ev.Balances(venue="kraken", assets={"USDT": ev.AssetBalance(free=usdt)})
        self.engine.step([report], now_ns=self.now_ns, wall_ns=self.now_ns)

    def follow(self) -> Any:
        """Return a subscription, to be used with `async with`."""
        changes = self.changes.subscribe()
        return aclosing(changes)


async def following(changes: AsyncIterator[Change]) -> Change:
    """Return the next change."""
    async with asyncio.timeout(5):
        return await anext(changes)


async def equity(changes: AsyncIterator[Change]) -> float | None:
    """Return the equity of the next change, which must be the portfolio."""
    change = await following(changes)
    assert isinstance(change, PortfolioNow)
    return change.equity


async def test_a_new_reader_gets_the_state_first() -> None:
    """A new reader gets the state, then the portfolio's figures."""
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


async def test_a_burst_is_sent_as_its_last_state() -> None:
    """Of a thousand changes of figures at once only the last is sent."""
    account = Account()
    account.hold(100)
    async with account.follow() as changes:
        await following(changes)
        assert await equity(changes) == 100
        for usdt in range(1_000):
            account.hold(1_000 + usdt)
        assert await equity(changes) == 1_999
        account.changes.publish(WARNING)  # no change of the burst is queued before it
        assert await following(changes) == WARNING


async def test_unchanged_figures_are_sent_once() -> None:
    """Events that change no figure send nothing."""
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


async def test_without_readers_the_engine_is_not_polled() -> None:
    """The engine is polled only while there is a reader."""
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


async def test_each_reader_has_its_own_last_figures() -> None:
    """A later reader gets the present figures; the first one does not get them twice."""
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
    """A reader that subscribes during the replay gets the state after it."""
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


async def test_only_changes_of_state_are_sent() -> None:
    """Decisions for the journal and the outbox are not sent to readers."""
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


async def test_shutdown_is_the_last_change() -> None:
    """Readers get the last figures, the shutdown, then the end; later readers get nothing."""
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


async def test_end_does_not_wait_for_a_stalled_reader() -> None:
    """A reader that does not take the shutdown event delays the end by drain_seconds at most."""
    account = Account()
    async with account.follow() as changes:
        await following(changes)
        async with asyncio.timeout(5):
            await account.changes.end(clean=True, reason="stopped in order")


async def test_a_reader_that_falls_behind_is_removed() -> None:
    """A slow reader is removed at a bounded number of changes; the others are not affected."""
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
    """The state is sent when the lease is withheld, with the reason, and when it is renewed."""
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
