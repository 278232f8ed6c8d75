"""However a program ends with polls in flight, it ends: with its own exit code and without a word on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from lifecycle.scripts import ended, retried, run, start

ENDINGS: dict[str, tuple[str, int, str | None]] = {
    "main_returns": ("asyncio.run(main())", 0, None),
    "loop_is_never_closed": ("loop = asyncio.new_event_loop()\nloop.run_until_complete(main())", 0, None),
    "loop_is_closed_early": ("loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\nloop.close()", 0, None),
    "loop_is_stopped": (
        "loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\n"
        "loop.call_later(0.05, loop.stop)\nloop.run_forever()",
        0,
        None,
    ),
    "sys_exit_in_main": ("async def more():\n    await main()\n    sys.exit(7)\nasyncio.run(more())", 7, None),
    "sys_exit_in_a_loop_callback": (
        "async def more():\n    await main()\n    asyncio.get_running_loop().call_soon(sys.exit, 7)\n"
        "    await asyncio.sleep(60)\nasyncio.run(more())",
        7,
        None,
    ),
    "os_exit": ("async def more():\n    await main()\n    os._exit(3)\nasyncio.run(more())", 3, None),
    "error_in_main": (
        "async def more():\n    await main()\n    raise ValueError('mine')\nasyncio.run(more())",
        1,
        "ValueError: mine",
    ),
    "error_at_exit": (
        "import atexit\natexit.register(lambda: 1 / 0)\nasyncio.run(main())",
        0,
        "ZeroDivisionError: division by zero",
    ),
    "calls_at_exit": (
        "import atexit\natexit.register(lambda: held[1].request_workflow_eviction('none'))\nasyncio.run(main())",
        0,
        None,
    ),
    "debug_mode": ("asyncio.run(main(), debug=True)", 0, None),
    "gc_at_exit": ("asyncio.run(main())\nheld.clear()\ngc.collect()", 0, None),
}
MAIN = """
runtime = shapes.runtime()
held = []
async def main():
    held.extend(await busy(runtime))
    print("ready")
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_with_polls_in_flight(ending: str) -> None:
    body, code, traceback = ENDINGS[ending]
    assert retried(lambda: run(MAIN + body, code=code, traceback=traceback)) == ["ready"]


def test_an_end_in_the_middle_of_connecting() -> None:
    body = """
    import socket
    silent = socket.socket(); silent.bind(("127.0.0.1", 0)); silent.listen()
    async def main():
        future = native.connect_client(shapes.runtime(), shapes.client("http://127.0.0.1:%d" % silent.getsockname()[1]))
        peer, _ = silent.accept()
        print(future.done())
    asyncio.run(main())
    """
    assert retried(lambda: run(body)) == ["False"]


def test_an_end_with_daemon_threads_that_poll() -> None:
    body = """
    ready = threading.Semaphore(0)
    async def main():
        held = await busy(shapes.runtime())
        ready.release()
        await held[2]
    for _ in range(3):
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    for _ in range(3):
        ready.acquire()
    print("ready")
    """
    assert retried(lambda: run(body)) == ["ready"]


def test_an_end_in_the_middle_of_a_flood_of_logs() -> None:
    body = """
    seen = []
    runtime = shapes.runtime(shapes.logging(filter="info", forward_to=seen.extend))
    def flood():
        while True:
            runtime.write_test_info_log("a", "b")
    threading.Thread(target=flood, daemon=True).start()
    while not seen:
        time.sleep(0.001)
    print("ready")
    """
    assert retried(lambda: run(body)) == ["ready"]


WORKER = """
import logging
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker
@workflow.defn(name="idle", sandboxed=False)
class Idle:
    @workflow.run
    async def run(self) -> None: ...
async def main():
    client = await Client.connect(ADDRESS)
    queue = unique()
    async def tell():
        await client.execute_workflow("idle", id=unique(), task_queue=queue)
        print("ready", flush=True)
    task = asyncio.ensure_future(tell())
    await Worker(client, task_queue=queue, workflows=[Idle]).run()
"""


def interrupted(body: str, code: int, traceback: str | None = None) -> list[str]:
    """The program gets SIGINT while its worker has shown that it works."""
    program = start(WORKER + body)
    assert program.stdout is not None
    first = program.stdout.readline().strip()
    program.send_signal(signal.SIGINT)
    return [first, *ended(program, code, traceback)]


# asyncio of 3.10 cancels every task at once then, that in which `temporalio` handles an eviction too, which it may never end.
interruptible = pytest.mark.xfail(
    sys.version_info < (3, 11), run=False, reason="temporalio itself may hang when it is interrupted on Python 3.10"
)


@interruptible
def test_an_interrupt_during_a_worker_run_is_a_keyboard_interrupt() -> None:
    body = "try:\n    asyncio.run(main())\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    assert retried(lambda: interrupted(body, 0)) == ["ready", "interrupted"]


@interruptible
def test_an_uncaught_interrupt_kills_with_its_signal() -> None:
    assert retried(lambda: interrupted("asyncio.run(main())", -signal.SIGINT, "KeyboardInterrupt")) == ["ready"]


def test_an_orderly_end_of_a_whole_worker_says_nothing_in_debug_mode() -> None:
    body = """
async def whole():
    client = await Client.connect(ADDRESS)
    async with Worker(client, task_queue=unique(), workflows=[Idle]) as worker:
        await client.execute_workflow("idle", id=unique(), task_queue=worker.task_queue)
    print("done")
asyncio.run(whole(), debug=True)
"""
    assert retried(lambda: run(WORKER + body, PYTHONDEVMODE="1")) == ["done"]


def test_exits_many_times() -> None:
    """`OUTLAST_EXITS` ends, four at a time: 10 in daily use, 500 at night."""
    left = int(os.environ.get("OUTLAST_EXITS", "10"))
    while left > 0:
        programs: list[subprocess.Popen[str]] = [start(MAIN + "asyncio.run(main())") for _ in range(min(4, left))]
        left -= len(programs)
        for program in programs:
            assert retried(partial(ended, program), lambda: run(MAIN + "asyncio.run(main())")) == ["ready"]
