"""Loops, threads, runtimes and processes come and go around the native module."""

from __future__ import annotations

import pytest

from lifecycle.scripts import retried, run

BODIES: dict[str, tuple[str, list[str]]] = {
    "two_loops_one_after_another": (
        """
        runtime = shapes.runtime()
        async def main():
            client = await native.connect_client(runtime, shapes.client(URL))
            worker = native.new_worker(runtime, client, shapes.worker(unique()))
            await worker.validate()
            await stop(worker, worker.poll_workflow_activation(), worker.poll_activity_task(), worker.poll_nexus_task())
            print("ended")
        asyncio.run(main())
        asyncio.run(main())
        """,
        ["ended", "ended"],
    ),
    "a_client_outlives_its_loop": (
        """
        runtime = shapes.runtime()
        async def connect():
            return await native.connect_client(runtime, shapes.client(URL))
        async def use(client):
            return len(await client.call_workflow_service(shapes.call("get_system_info"))) > 0
        client = asyncio.run(connect())
        print(asyncio.run(use(client)), asyncio.run(use(client)))
        """,
        ["True True"],
    ),
    "a_loop_closed_early_and_another_after_it": (
        """
        runtime = shapes.runtime()
        loop = asyncio.new_event_loop()
        held = loop.run_until_complete(busy(runtime))
        loop.close()
        held[1].initiate_shutdown()
        async def again():
            for poll in (held[1].poll_workflow_activation, held[1].poll_activity_task, held[1].poll_nexus_task):
                try:
                    await poll()
                except native.PollShutdownError:
                    print("shut down")
        asyncio.run(again())
        """,
        ["shut down"] * 3,
    ),
    "two_loops_in_two_threads": (
        """
        runtime = shapes.runtime()
        lines = []
        async def main():
            client = await native.connect_client(runtime, shapes.client(URL))
            worker = native.new_worker(runtime, client, shapes.worker(unique()))
            await worker.validate()
            await stop(worker, worker.poll_workflow_activation(), worker.poll_activity_task(), worker.poll_nexus_task())
            lines.append("ended")
        threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(lines)
        """,
        ["['ended', 'ended']"],
    ),
    "two_runtimes_and_the_first_is_dropped": (
        """
        async def main():
            first, second = shapes.runtime(), shapes.runtime()
            held = await busy(second)
            client = await native.connect_client(first, shapes.client(URL))
            await client.call_workflow_service(shapes.call("get_system_info"))
            del client, first
            gc.collect()
            await held[0].call_workflow_service(shapes.call("get_system_info"))
            await stop(*held[1:])
            print("ended")
        asyncio.run(main())
        """,
        ["ended"],
    ),
    "the_runtime_is_dropped_first": (
        """
        async def main():
            held = await busy(shapes.runtime())
            gc.collect()
            await held[0].call_workflow_service(shapes.call("get_system_info"))
            await stop(*held[1:])
            print("ended")
        asyncio.run(main())
        """,
        ["ended"],
    ),
    "a_runtime_is_dropped_on_a_thread_and_inside_the_loop": (
        """
        async def main():
            for _ in range(5):
                held = await busy(shapes.runtime())
                await stop(*held[1:])
                await asyncio.to_thread(held.clear)
            print("ended")
        asyncio.run(main())
        """,
        ["ended"],
    ),
    "everything_is_dropped_without_a_shutdown": (
        """
        async def main():
            for _ in range(3):
                held = await busy(shapes.runtime(), 2)
                held.clear()
                gc.collect()
            client = await native.connect_client(shapes.runtime(), shapes.client(URL))
            print(len(await client.call_workflow_service(shapes.call("get_system_info"))) > 0)
        asyncio.run(main())
        """,
        ["True"],
    ),
    "a_shutdown_twice": (
        """
        async def main():
            held = await busy(shapes.runtime())
            held[1].initiate_shutdown()
            await stop(*held[1:])
            try:
                held[1].initiate_shutdown()
            except BaseException as error:
                print("refused", isinstance(error, (TypeError, AttributeError)))
            print("ended")
        asyncio.run(main())
        """,
        ["refused False", "ended"],
    ),
    "garbage_is_collected_all_the_time_while_polls_wait": (
        """
        gc.set_threshold(1)
        async def main():
            runtime = shapes.runtime()
            client = await native.connect_client(runtime, shapes.client(URL))
            for _ in range(5):
                worker = native.new_worker(runtime, client, shapes.worker(unique()))
                await worker.validate()
                polls = [worker.poll_workflow_activation(), worker.poll_activity_task(), worker.poll_nexus_task()]
                calls = [client.call_workflow_service(shapes.call("get_system_info")) for _ in range(20)]
                for _ in range(10):
                    gc.collect()
                    await asyncio.sleep(0)
                await asyncio.gather(*calls)
                await stop(worker, *polls)
            print("ended")
        asyncio.run(main())
        """,
        ["ended"],
    ),
    "any_loop_will_do": (
        """
        async def main():
            held = await busy(shapes.runtime())
            await stop(*held[1:])
            print("ended")
        try:
            import uvloop
            uvloop.run(main())
        except ImportError:
            asyncio.run(main())
        """,
        ["ended"],
    ),
    "a_cancelled_task_cancels_its_poll": (
        """
        async def main():
            held = await busy(shapes.runtime())
            async def wait(poll): await poll
            task = asyncio.ensure_future(wait(held[2]))
            await asyncio.sleep(0)
            task.cancel()
            print(type((await asyncio.gather(task, return_exceptions=True))[0]).__name__, held[2].cancelled())
            held[1].initiate_shutdown()
            ends = await asyncio.gather(held[1].poll_workflow_activation(), held[3], held[4], return_exceptions=True)
            print({type(end).__name__ for end in ends})
        asyncio.run(main())
        """,
        ["CancelledError True", "{'PollShutdownError'}"],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_life_goes_on(name: str) -> None:
    body, lines = BODIES[name]
    assert retried(lambda: run(body, misuse=name == "a_shutdown_twice", PYTHONMALLOC="debug")) == lines


THREAD = """
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker
@workflow.defn(name="hello", sandboxed=False)
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return "hello " + name
def serve(queue, up, down):
    async def go():
        client = await Client.connect(ADDRESS)
        async with Worker(client, task_queue=queue, workflows=[Hello]):
            up.set()
            await asyncio.to_thread(down.wait)
    asyncio.run(go())
async def call(queue):
    client = await Client.connect(ADDRESS)
    print(await client.execute_workflow("hello", "you", id=unique(), task_queue=queue), flush=True)
"""


def test_a_worker_in_a_thread_serves_a_loop_in_another() -> None:
    body = """
queue, up, down = unique(), threading.Event(), threading.Event()
thread = threading.Thread(target=serve, args=(queue, up, down))
thread.start()
up.wait()
asyncio.run(call(queue))
asyncio.run(call(queue))
down.set()
thread.join()
"""
    assert retried(lambda: run(THREAD + body)) == ["hello you", "hello you"]


FORKS: dict[str, tuple[str, list[str]]] = {
    "before_the_runtime": (
        """
        def work():
            async def main():
                held = await busy(shapes.runtime())
                await stop(*held[1:])
            asyncio.run(main())
            print("ended", flush=True)
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        work()
        """,
        ["ended", "ended"],
    ),
    "after_the_runtime_the_child_makes_its_own": (
        """
        async def main():
            held = await busy(shapes.runtime())
            await stop(*held[1:])
            return held
        held = asyncio.run(main())
        child = os.fork()
        if child == 0:
            asyncio.run(main())
            print("child", flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(main())
        print("parent")
        """,
        ["child", "parent"],
    ),
    "with_polls_in_flight_the_child_leaves_at_once": (
        """
        async def main():
            held = await busy(shapes.runtime())
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            await held[0].call_workflow_service(shapes.call("get_system_info"))
            await stop(*held[1:])
            print("parent")
        asyncio.run(main())
        """,
        ["parent"],
    ),
    "the_child_is_told_not_to_use_the_parents": (
        """
        async def main():
            return await busy(shapes.runtime())
        held = asyncio.run(main())
        child = os.fork()
        if child == 0:
            try:
                held[1].poll_activity_task()
            except AssertionError as error:
                print(str(error).split(" (")[0], flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        ["Cannot use worker across forks"],
    ),
    "multiprocessing_fork": (
        """
        import multiprocessing
        async def main():
            held = await busy(shapes.runtime())
            await stop(*held[1:])
        def work(queue):
            asyncio.run(main())
            queue.put("child")
        asyncio.run(main())
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        processes = [context.Process(target=work, args=(queue,)) for _ in range(2)]
        for process in processes: process.start()
        for process in processes: process.join()
        print(queue.get(), queue.get(), [process.exitcode for process in processes])
        """,
        ["child child [0, 0]"],
    ),
    "multiprocessing_spawn": (
        """
        import multiprocessing, lifecycle.scripts
        async def main():
            held = await busy(shapes.runtime())
            await stop(*held[1:])
        asyncio.run(main())
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        process = context.Process(target=lifecycle.scripts.spawned, args=(queue, URL))
        process.start()
        process.join()
        print(queue.get(), process.exitcode)
        """,
        ["True 0"],
    ),
}


@pytest.mark.parametrize("name", FORKS)
def test_forks_and_children(name: str) -> None:
    body, lines = FORKS[name]
    assert retried(lambda: run(body)) == lines
