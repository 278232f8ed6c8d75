"""Nothing stays behind: Python objects on both engines; native handles where the engine counts them (ours)."""

from __future__ import annotations

import textwrap

import pytest

from lifecycle.scripts import retried, run

CHECK = """
import weakref
def counted():
    # Live native handles by kind. The original does not count.
    if os.environ.get("OUTLAST_ENGINE", "outlast") != "outlast":
        return {}
    import outlast._native
    return outlast._native.handles()

def settled(*watched):
    # Waits until nothing is held, natively or by the watched weak references; what is left after that is a leak.
    deadline = time.monotonic() + 20
    while True:
        gc.collect()
        left = {name: count for name, count in counted().items() if count}
        alive = sum(reference() is not None for reference in watched)
        if (not left and not alive) or time.monotonic() > deadline:
            print("left:", left, alive)
            return
        time.sleep(0.01)
"""

BODIES = {
    "after_an_orderly_end": """
        async def main():
            held = await busy(shapes.runtime(), 3)
            for first in range(1, len(held), 4):
                await stop(*held[first:first + 4])
        asyncio.run(main())
        settled()
        """,
    "after_a_drop_without_a_shutdown": """
        async def main():
            await busy(shapes.runtime(), 3)
        asyncio.run(main())
        settled()
        """,
    "after_failures": """
        async def main():
            runtime = shapes.runtime()
            client = await native.connect_client(runtime, shapes.client(URL))
            wrong = [client.call_workflow_service(shapes.call("nope"))]
            wrong.append(native.connect_client(runtime, shapes.client(shapes.NOWHERE)))
            wrong.append(native.start_dev_server(runtime, shapes.dev_server("/nope")))
            print([type(error).__name__ for error in await asyncio.gather(*wrong, return_exceptions=True)])
            for bad in (None, shapes.client("")):
                try: native.connect_client(runtime, bad)
                except (AttributeError, ValueError): pass
        asyncio.run(main())
        settled()
        """,
    "after_cancelled_calls": """
        async def main():
            client = await native.connect_client(shapes.runtime(), shapes.client(URL))
            calls = [client.call_workflow_service(shapes.call("get_system_info")) for _ in range(100)]
            for future in calls[::2]:
                future.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        asyncio.run(main())
        settled()
        """,
    "after_a_replay": """
        async def main():
            worker, pusher = native.new_replay_worker(shapes.runtime(), shapes.replay_worker())
            pusher.close()
            await stop(worker, worker.poll_workflow_activation())
        asyncio.run(main())
        settled()
        """,
    "of_what_was_given": """
        class Forward:
            def __call__(self, batch): pass
        class Context: pass
        import contextvars
        variable = contextvars.ContextVar("held")
        async def main(watched):
            forward, context = Forward(), Context()
            watched += [weakref.ref(forward), weakref.ref(context)]
            variable.set(context)
            held = await busy(shapes.runtime(shapes.logging(filter="info", forward_to=forward)))
            await stop(*held[1:])
        watched = []
        asyncio.run(main(watched))
        settled(*watched)
        """,
    "of_metrics_and_logs": """
        entries = []
        logging = shapes.logging(filter="info", forward_to=entries.extend)
        runtime = shapes.runtime(logging, shapes.metrics(buffered_with_size=1000))
        meter = native.new_metric_meter(runtime)
        counter = meter.new_counter("c", None, None)
        for number in range(100):
            counter.add(1, meter.default_attributes.with_additional_attributes(meter, {"n": number}))
            runtime.write_test_info_log("a", "b")
        while len(entries) < 100:
            time.sleep(0.001)
        updates = runtime.retrieve_buffered_metrics(True)
        print(len(updates))
        del runtime, meter, counter, updates
        entries.clear()
        settled()
        """,
}
LINES = {"after_failures": ["['ValueError', 'RuntimeError', 'RuntimeError']"], "of_metrics_and_logs": ["100"]}


@pytest.mark.parametrize("name", BODIES)
def test_nothing_is_left(name: str) -> None:
    body = CHECK + textwrap.dedent(BODIES[name])
    assert retried(lambda: run(body)) == [*LINES.get(name, []), "left: {} 0"]


def test_handles_are_counted_while_they_live(engine: str) -> None:
    body = """
async def main():
    held = await busy(shapes.runtime())
    handles = counted()
    print(*sorted(name for name in ("runtimes", "clients", "workers", "futures") if handles.get(name)))
    await stop(*held[1:])
asyncio.run(main())
settled()
"""
    names = "clients futures runtimes workers" if engine == "outlast" else ""
    assert retried(lambda: run(CHECK + body)) == [names, "left: {} 0"]
