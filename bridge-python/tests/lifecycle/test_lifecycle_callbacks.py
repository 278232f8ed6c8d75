"""Exceptions in what the native module calls back, and exceptions thrown into threads: they stay where they belong."""

from __future__ import annotations

import textwrap

import pytest

from lifecycle.scripts import retried, run

SUPPLIER = """
from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
import temporalio.client

class Permits:
    def __init__(self, broken):
        self.broken, self.calls = broken, []
    def meet(self, name):
        self.calls.append(name)
        if name == self.broken and self.calls.count(name) <= 3:
            raise ValueError(name + " broke")
    async def reserve_slot(self, context, accept):
        accept(asyncio.current_task())
        self.meet("reserve_slot")
        return object()
    def try_reserve_slot(self, context):
        self.meet("try_reserve_slot")
    def mark_slot_used(self, context):
        self.meet("mark_slot_used")
    def release_slot(self, context):
        self.meet("release_slot")

async def main(broken):
    permits, queue = Permits(broken), unique()
    runtime = shapes.runtime(shapes.logging(filter="off", forward_to=lambda batch: None))
    client = await native.connect_client(runtime, shapes.client(URL))
    starter = await temporalio.client.Client.connect(ADDRESS)
    tuner = shapes.tuner(workflow_slot_supplier=native.CustomSlotSupplier(permits))
    config = shapes.worker(queue, tuner=tuner, task_types=shapes.task_types("workflow"))
    worker = native.new_worker(runtime, client, config)
    await worker.validate()
    handle = await starter.start_workflow("any", id=unique(), task_queue=queue)
    activation = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    message = WorkflowActivationCompletion(run_id=activation.run_id)
    message.successful.commands.add().complete_workflow_execution.SetInParent()
    await worker.complete_workflow_activation(message.SerializeToString())
    await handle.result()
    while broken != "try_reserve_slot" and broken not in permits.calls:
        await asyncio.sleep(0.01)
    worker.initiate_shutdown()
    while True:
        try:
            eviction = WorkflowActivation.FromString(await worker.poll_workflow_activation())
            message = WorkflowActivationCompletion(run_id=eviction.run_id)
            message.successful.SetInParent()
            await worker.complete_workflow_activation(message.SerializeToString())
        except native.PollShutdownError:
            break
    await worker.finalize_shutdown()
    print("ended")
"""


@pytest.mark.parametrize("method", ["reserve_slot", "try_reserve_slot", "mark_slot_used", "release_slot"])
def test_a_slot_supplier_that_raises_stops_no_workflow(method: str) -> None:
    assert retried(lambda: run(SUPPLIER + f"\nasyncio.run(main({method!r}))")) == ["ended"]


BODIES: dict[str, tuple[str, list[str]]] = {
    "a_forwarder_that_raises": (
        """
        calls = []
        def forward(batch):
            calls.append(len(batch))
            raise ValueError("forward broke")
        runtime = shapes.runtime(shapes.logging(filter="info", forward_to=forward))
        for count in (1, 2, 3):
            runtime.write_test_info_log("a", "b")
            while sum(calls) < count:
                time.sleep(0.001)
        print(sum(calls))
        """,
        ["3"],
    ),
    "a_forwarder_that_raises_more_than_an_exception": (
        """
        calls = []
        def forward(batch):
            calls.append(len(batch))
            raise KeyboardInterrupt
        runtime = shapes.runtime(shapes.logging(filter="info", forward_to=forward))
        for count in (1, 2):
            runtime.write_test_info_log("a", "b")
            while sum(calls) < count:
                time.sleep(0.001)
        print(sum(calls))
        """,
        ["2"],
    ),
    "a_forwarder_that_is_none": (
        """
        runtime = shapes.runtime(shapes.logging(filter="info", forward_to=5))
        runtime.write_test_info_log("a", "b")
        async def main():
            held = await busy(runtime)
            await stop(*held[1:])
            print("ended")
        asyncio.run(main())
        """,
        ["ended"],
    ),
    "a_forwarder_that_uses_its_runtime": (
        """
        seen = []
        def forward(batch):
            for entry in batch:
                seen.append(entry.message)
                if len(seen) < 5:
                    runtime.write_test_info_log("again", "x")
        runtime = shapes.runtime(shapes.logging(filter="info", forward_to=forward))
        runtime.write_test_info_log("first", "x")
        while len(seen) < 5:
            time.sleep(0.001)
        print(seen)
        """,
        ["['first', 'again', 'again', 'again', 'again']"],
    ),
    "a_runtime_dropped_while_its_forwarder_runs": (
        """
        inside = threading.Event()
        def forward(batch):
            inside.set()
            for _ in range(1000):
                time.sleep(0)
        for _ in range(5):
            inside.clear()
            runtime = shapes.runtime(shapes.logging(filter="info", forward_to=forward))
            runtime.write_test_info_log("a", "b")
            inside.wait()
            del runtime
            gc.collect()
        print("ended")
        """,
        ["ended"],
    ),
    "metrics_that_are_refused": (
        """
        runtime = shapes.runtime(None, shapes.metrics(buffered_with_size=100))
        meter = native.new_metric_meter(runtime)
        counter = meter.new_counter("c", None, None)
        class Odd(str):
            def __hash__(self): raise ValueError("hash broke")
        for bad in (-1, "x", None):
            try: counter.add(bad, meter.default_attributes)
            except (OverflowError, TypeError) as error: print(type(error).__name__)
        counter.add(1, meter.default_attributes)
        print([update.value for update in runtime.retrieve_buffered_metrics(True)])
        """,
        ["OverflowError", "TypeError", "TypeError", "[1]"],
    ),
    "config_attributes_that_raise": (
        """
        class Config:
            @property
            def telemetry(self): raise KeyError("telemetry broke")
        try: native.init_runtime(Config())
        except KeyError as error: print(error.args)
        """,
        ["('telemetry broke',)"],
    ),
    "done_callbacks_that_raise": (
        """
        async def main():
            heard = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: heard.append(str(context["exception"])))
            client = await native.connect_client(shapes.runtime(), shapes.client(URL))
            def broken(future): raise ValueError("callback broke")
            future = client.call_workflow_service(shapes.call("get_system_info"))
            future.add_done_callback(broken)
            await future
            await client.call_workflow_service(shapes.call("get_system_info"))
            print(heard)
        asyncio.run(main())
        """,
        ["['callback broke']"],
    ),
    "an_exception_thrown_into_a_thread": (
        """
        caught, running = [], threading.Event()
        class Stop(Exception): pass
        def work():
            try:
                running.set()
                while True:
                    time.sleep(0.001)
            except Stop:
                caught.append(True)
        thread = threading.Thread(target=work)
        thread.start()
        running.wait()
        print(native.raise_in_thread(thread.ident, Stop))
        thread.join()
        print(caught, native.raise_in_thread(thread.ident, Stop))
        """,
        ["True", "[True] False"],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_raised_outside_does_no_harm_inside(name: str, engine: str) -> None:
    body, lines = BODIES[name]
    if engine == "original" and name == "a_forwarder_that_is_none":
        # It does its work, and then mostly hangs or aborts at the end of the interpreter.
        body = textwrap.dedent(body) + "\nos._exit(0)"
    assert retried(lambda: run(body)) == lines
