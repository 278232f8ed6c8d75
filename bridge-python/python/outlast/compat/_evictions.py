"""Lets workflows leave the cache when their worker ends, and keeps those that do not leave from holding it up.

A worker that ends is told to evict each cached run; the core waits for the answers only so long. `temporalio` waits without
end: it tries an eviction again until it succeeds, and joins the threads that its workflows run on, as the interpreter does at
exit. So the evictions at the end run on threads that nobody joins, a few at a time, and whatever is left when the core says
that the worker is down is given up. Evictions while a worker runs are left as they are; at its end they are given up, too.

Called by the native module for each worker. It knows some insides of `temporalio.worker._workflow`; where those are others, no run
is evicted at the end.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

AT_THE_END = 0
"""The reason of evictions at the end of a worker: unspecified. All others have one."""
AT_ONCE = 4
"""So many evictions run at the same time. One would do, as they share the interpreter; more hide the way to a thread and back."""
STALLED = 0.05
"""If none ends for so many seconds, those that run may be blocked: twice as many may run."""
AT_ONCE_MAX = 256
AGAIN = 0.01
"""How many seconds after it was cancelled an eviction that goes on is cancelled again: it may be catching everything."""

_NEEDED = {
    "_bridge_worker",
    "_debug_mode",
    "_disable_safe_eviction",
    "_workflow_task_executor",
    "_workflow_task_executor_user_provided",
}


def guard() -> bool:
    """Whether a worker of `temporalio` may evict its runs at its end."""
    module: Any = sys.modules.get("temporalio.worker._workflow")
    workers = getattr(module, "_WorkflowWorker", None)
    if workers is None:
        return False
    if hasattr(workers, "_outlast_guarded"):
        return True
    known = hasattr(workers, "run") and hasattr(workers, "_handle_cache_eviction") and hasattr(module, "PollShutdownError")
    if not known or not _NEEDED.issubset(workers.__init__.__code__.co_names):
        return False
    workers.run = _runs(workers.run, module.PollShutdownError)
    workers._handle_cache_eviction = _evicts(workers._handle_cache_eviction)
    workers._outlast_guarded = True
    return True


def _runs(run: Callable[[Any], Any], down: type[Exception]) -> Callable[[Any], Any]:
    @functools.wraps(run)
    async def guarded(self: Any) -> None:
        bridge_worker = self._bridge_worker
        self._outlast_leaving = _Leaving(self)
        polled = _Polled(bridge_worker(), down, self._outlast_leaving.end)
        self._bridge_worker = lambda: polled
        try:
            await run(self)
        finally:
            self._bridge_worker = bridge_worker

    return guarded


class _Polled:
    """A worker of the bridge that says when there is nothing more to poll, before whoever polls hears it."""

    def __init__(self, worker: Any, down: type[Exception], end: Callable[[], None]) -> None:
        self._worker, self._down, self._end = worker, down, end

    async def poll_workflow_activation(self) -> Any:
        try:
            return await self._worker.poll_workflow_activation()
        except self._down:
            self._end()
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)


def _evicts(evict: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    @functools.wraps(evict)
    async def guarded(self: Any, act: Any, job: Any) -> None:
        leaving: _Leaving = self._outlast_leaving
        task = asyncio.current_task()
        assert task is not None, "activations are handled in tasks"
        leaving.tasks.add(task)
        try:
            if job.reason == AT_THE_END:
                leaving.begin()
                async with leaving.turn:
                    await evict(self, act, job)
                    leaving.left += 1
            else:
                await evict(self, act, job)
        finally:
            leaving.tasks.discard(task)

    return guarded


class _Leaving:
    """The evictions of one worker that are not answered yet."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.tasks: set[asyncio.Task[Any]] = set()
        self.turn = asyncio.Semaphore(AT_ONCE)
        self.turns = AT_ONCE
        self.left = 0
        self.looking = False
        self.threads: _Threads | None = None
        self.theirs: Any = None

    def begin(self) -> None:
        """From the first eviction at the end on, workflows run on our threads."""
        if self.threads is None:
            worker = self.worker
            # With its debug mode on, `temporalio` runs workflows on the event loop: one that blocks would block everything.
            worker._debug_mode = False
            self.theirs = worker._workflow_task_executor
            self.threads = worker._workflow_task_executor = _Threads()
        if not self.looking:
            self.looking = True
            asyncio.get_running_loop().call_later(STALLED, self.look, self.left)

    def look(self, left: int) -> None:
        """Lets more of them run at the same time, if those that do seem to be blocked."""
        if not self.tasks:
            self.looking = False
            return
        if left == self.left and self.turn.locked() and self.turns < AT_ONCE_MAX:
            for _ in range(self.turns):
                self.turn.release()
            self.turns *= 2
        asyncio.get_running_loop().call_later(STALLED, self.look, self.left)

    def end(self) -> None:
        """The worker is down: nobody waits for an answer any more."""
        # An eviction that is not "safe" does not wait for its workflow's thread, so that one may be blocked unseen.
        wait = not self.tasks and not self.worker._disable_safe_eviction
        if not wait:
            self.begin()
        if self.threads is None:
            return
        self.threads.end(wait)
        if not self.worker._workflow_task_executor_user_provided:
            self.theirs.shutdown(wait=wait)
        self.give_up()

    def give_up(self) -> None:
        if self.tasks:
            for task in self.tasks:
                task.cancel()
            asyncio.get_running_loop().call_later(AGAIN, self.give_up)


class _Threads:
    """As much of an executor as an event loop needs, on threads that nobody waits for, nor the interpreter at its exit."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._ended = False

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._ended:
            # A workflow whose thread is blocked must not be entered by another.
            future.set_result(None)
            return future
        self._work.put((future, functools.partial(call, *args)))
        if not self._idle.acquire(blocking=False):
            name = f"outlast_evictions_{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
        return future

    def _serve(self) -> None:
        while work := self._work.get():
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del work, future, call
            self._idle.release()

    def end(self, wait: bool) -> None:
        """Takes no more work. `wait`: until the threads are gone, of which none is blocked."""
        self._ended = True
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def shutdown(self) -> None:
        """What `temporalio` calls when it has nothing more to run; it was ended before."""
