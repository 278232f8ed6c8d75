"""Native workers: which configs are refused, the order of life, malformed completions, polls after the end, replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import temporalio.bridge.proto as core
import temporalio.client
from support import eventually, unique
from surface import shapes
from surface.shapes import line, native, raised
from temporalio import workflow
from temporalio.bridge import worker as bridge
from temporalio.bridge.proto.nexus import NexusTaskCompletion
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

POLLS = ["poll_workflow_activation", "poll_activity_task", "poll_nexus_task"]
COMPLETIONS = ["complete_workflow_activation", "complete_activity_task", "complete_nexus_task"]


def deployment(name: str, build: str, versioned: bool = True, behavior: int = 0) -> bridge.WorkerDeploymentOptions:
    return bridge.WorkerDeploymentOptions(bridge.WorkerDeploymentVersion(name, build), versioned, behavior)


def resources(memory: float) -> bridge.ResourceBasedSlotSupplier:
    return bridge.ResourceBasedSlotSupplier(1, 2, 3, bridge.ResourceBasedTunerConfig(memory, 0.5))


def scaling(minimum: int, maximum: int, initial: int) -> bridge.PollerBehaviorAutoscaling:
    return bridge.PollerBehaviorAutoscaling(minimum, maximum, initial)


POLLERS = ["workflow_task_poller_behavior", "activity_task_poller_behavior", "nexus_task_poller_behavior"]
UNVERSIONED = (
    "WorkerDeploymentVersion must have a non-empty build_id and deployment_name when deployment-based versioning is enabled"
)
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"task_types": shapes.task_types("")}, "At least one task type must be enabled in `task_types`"),
    *(
        ({"task_types": shapes.task_types(kinds)}, "`task_types` cannot enable local activities without workflows")
        for kinds in ("local", "local activity", "local nexus")
    ),
    (
        {"workflow_task_poller_behavior": shapes.pollers(1)},
        "`max_cached_workflows` > 0 requires `workflow_task_poller_behavior` to be at least 2",
    ),
    *(({field: shapes.pollers(0)}, "SimpleMaximum poller behavior must be at least 1") for field in POLLERS),
    *(({field: scaling(0, 1, 1)}, "Autoscaling minimum poller behavior must be at least 1") for field in POLLERS),
    *(({field: scaling(2, 1, 1)}, "Autoscaling maximum must be greater than or equal to minimum") for field in POLLERS),
    *(({field: scaling(1, 5, 6)}, "Autoscaling initial must be between minimum and maximum") for field in POLLERS),
    *(({field: scaling(2, 5, 1)}, "Autoscaling initial must be between minimum and maximum") for field in POLLERS),
    *(
        ({"max_activities_per_second": rate}, "`max_worker_activities_per_second` must be positive and nonzero")
        for rate in (0.0, -1.0, float("nan"), float("inf"))
    ),
    (
        {"versioning_strategy": bridge.WorkerVersioningStrategyLegacyBuildIdBased("")},
        "Legacy build id-based versioning must have a non-empty build_id",
    ),
    *(({"versioning_strategy": deployment(*names)}, UNVERSIONED) for names in (("", "b"), ("d", ""), ("", ""))),
]


@pytest.mark.parametrize("change,text", INVALID, ids=[str(number) for number in range(len(INVALID))])
async def test_an_invalid_config_is_refused(change: dict[str, Any], text: str, quiet: Any, connected: Any) -> None:
    error = raised(native.new_worker, quiet, connected, shapes.worker(unique(), **change))
    assert line(error) == f"ValueError: Invalid worker config: {text}"


async def test_resource_based_suppliers_share_their_targets(quiet: Any, connected: Any) -> None:
    tuner = shapes.tuner(workflow_slot_supplier=resources(0.5), activity_slot_supplier=resources(0.6))
    error = raised(native.new_worker, quiet, connected, shapes.worker(unique(), tuner=tuner))
    assert line(error) == "ValueError: All resource-based slot suppliers must have the same ResourceBasedTunerOptions"


async def test_a_worker_needs_a_namespace(quiet: Any, connected: Any) -> None:
    error = raised(native.new_worker, quiet, connected, shapes.worker(unique(), namespace=""))
    assert line(error) == "RuntimeError: Failed creating worker\n\nCaused by:\n    Worker namespace cannot be empty"


VALID: list[dict[str, Any]] = [
    {},
    {"max_cached_workflows": 0, "workflow_task_poller_behavior": shapes.pollers(1)},
    {"tuner": shapes.tuner(activity_slot_supplier=shapes.slots(0))},
    {"tuner": shapes.tuner(workflow_slot_supplier=resources(0.5), activity_slot_supplier=resources(0.5))},
    {"tuner": shapes.tuner(nexus_slot_supplier=SimpleNamespace(num_slots=3))},
    {"max_activities_per_second": 1e-9},
    {"max_task_queue_activities_per_second": 0.0},
    {"versioning_strategy": bridge.WorkerVersioningStrategyNone("")},
    {"versioning_strategy": bridge.WorkerVersioningStrategyLegacyBuildIdBased("b")},
    {"versioning_strategy": deployment("", "", False)},
    {"versioning_strategy": deployment("d", "b", False, 9)},
    {"versioning_strategy": deployment("d", "b", True, 1)},
    {"plugins": ("a", "b"), "storage_drivers": {"c"}, "nonsticky_to_sticky_poll_ratio": 1},
    *({"task_types": shapes.task_types(kinds)} for kinds in ("workflow", "activity", "nexus", "workflow local")),
    *({field: scaling(1, 1, 1)} for field in POLLERS),
]


@pytest.mark.parametrize("change", VALID, ids=[str(number) for number in range(len(VALID))])
async def test_a_valid_config_makes_a_worker_that_ends_in_order(change: dict[str, Any], quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), **change))
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError) as caught:
            await getattr(worker, poll)()
        assert caught.value.args == ()
    assert await worker.finalize_shutdown() == ()


DUPLICATE = (
    "RuntimeError: Failed creating worker\n\nCaused by:\n    Registration of multiple workers with overlapping worker task "
    "types on the same namespace, task queue, and deployment build ID not allowed: "
)


async def test_one_client_takes_one_worker_for_a_queue_and_a_kind_of_task(quiet: Any, connected: Any) -> None:
    queue = unique()
    make: Callable[..., Any] = lambda **change: native.new_worker(quiet, connected, shapes.worker(queue, **change))  # noqa: E731
    first = make(task_types=shapes.task_types("workflow activity"))
    for kinds in ("workflow", "activity", "workflow local", "activity nexus"):
        assert line(raised(make, task_types=shapes.task_types(kinds))).startswith(DUPLICATE)
    others = [make(task_types=shapes.task_types("nexus")), make(namespace="other"), make(versioning_strategy=deployment("d", "b"))]
    first.initiate_shutdown()
    assert type(make(task_types=shapes.task_types("workflow activity"))) is native.WorkerRef
    for other in others:
        other.initiate_shutdown()


async def test_two_clients_take_a_worker_each(quiet: Any, connected: Any, address: str) -> None:
    queue = unique()
    other = await native.connect_client(quiet, shapes.client(f"http://{address}"))
    workers = [native.new_worker(quiet, client, shapes.worker(queue)) for client in (connected, other)]
    assert [type(worker) for worker in workers] == [native.WorkerRef] * 2


@pytest.fixture
async def worker(quiet: Any, connected: Any) -> Any:
    """A validated worker on a queue of its own."""
    made = native.new_worker(quiet, connected, shapes.worker(unique()))
    await made.validate()
    return made


async def test_validation_tells_of_the_namespace(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique()))
    info = core.NamespaceInfo.FromString(await worker.validate())
    assert info.HasField("limits")


async def test_validation_fails_for_a_namespace_that_is_not_there(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), namespace="nope"))
    with pytest.raises(RuntimeError) as caught:
        await worker.validate()
    text = "Worker validation failed: Namespace nope was not found or otherwise could not be described: Status {"
    assert str(caught.value).startswith(text)
    assert "Namespace nope is not found." in str(caught.value)


async def test_validation_is_done_once(worker: Any, engine: str) -> None:
    error = raised(worker.validate)
    assert "must only be set once" in str(error)
    if engine == "original":
        assert type(error).__name__ == "PanicException"


@pytest.mark.parametrize("method", [*COMPLETIONS, "record_activity_heartbeat"])
async def test_messages_are_bytes_and_decode(method: str, worker: Any) -> None:
    class Mine(bytes):
        pass

    send = getattr(worker, method)
    for value, name in (("x", "'str' object"), (bytearray(), "'bytearray' object"), (None, "'None'"), (memoryview(b""), "'memoryview' object")):
        assert line(raised(send, value)) == f"TypeError: {name} is not an instance of 'bytes'"
    for wrong in (b"\xff", Mine(b"\xff")):
        assert line(raised(send, wrong)).startswith("ValueError: Invalid proto: failed to decode Protobuf message: ")


def workflow_completion(**status: bool) -> bytes:
    message = WorkflowActivationCompletion(run_id="RID")
    if status.get("successful"):
        message.successful.commands.add()
    return message.SerializeToString()


def activity_completion(result: bool = False, completed: bool = False) -> bytes:
    message = core.ActivityTaskCompletion(task_token=b"token")
    if result:
        message.result.SetInParent()
    if completed:
        message.result.completed.SetInParent()
    return message.SerializeToString()


EMPTY_ACTIVITY = "Lang SDK sent us a malformed activity completion (Activity completion had empty result/status field): None"
MALFORMED: list[tuple[str, bytes, str]] = [
    (
        COMPLETIONS[0],
        b"",
        "Lang SDK sent us a malformed workflow completion for run (): Workflow completion had empty status field",
    ),
    (
        COMPLETIONS[0],
        workflow_completion(),
        "Lang SDK sent us a malformed workflow completion for run (RID): Workflow completion had empty status field",
    ),
    (
        COMPLETIONS[0],
        workflow_completion(successful=True),
        "Lang SDK sent us a malformed workflow completion for run (RID): "
        "At least one workflow command in the completion contained an empty variant",
    ),
    (COMPLETIONS[1], b"", EMPTY_ACTIVITY),
    (COMPLETIONS[1], activity_completion(), EMPTY_ACTIVITY),
    (COMPLETIONS[1], activity_completion(result=True), EMPTY_ACTIVITY),
    (
        COMPLETIONS[1],
        activity_completion(completed=True),
        "Lang SDK sent us a malformed activity completion "
        "(Activity completions must contain a `result` payload (which may be empty)): None",
    ),
    (COMPLETIONS[2], b"", "Lang SDK sent us a malformed nexus completion: Nexus completion had empty status field"),
]


@pytest.mark.parametrize("method,message,text", MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
async def test_a_malformed_completion_fails_in_the_future(method: str, message: bytes, text: str, worker: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        await getattr(worker, method)(message)
    assert line(caught.value) == f"RuntimeError: Completion failure\n\nCaused by:\n    {text}"


async def test_what_nobody_knows_is_taken_without_a_word(worker: Any) -> None:
    unknown = core.ActivityTaskCompletion(task_token=b"token")
    unknown.result.will_complete_async.SetInParent()
    assert await worker.complete_activity_task(unknown.SerializeToString()) == ()
    acknowledged = NexusTaskCompletion(task_token=b"token", ack_cancel=True)
    assert await worker.complete_nexus_task(acknowledged.SerializeToString()) == ()
    assert worker.record_activity_heartbeat(core.ActivityHeartbeat(task_token=b"token").SerializeToString()) is None
    assert worker.record_activity_heartbeat(b"") is None
    assert worker.request_workflow_eviction("no such run") is None
    assert line(raised(worker.request_workflow_eviction, 1)) == "TypeError: 'int' object is not an instance of 'str'"


async def failure(future: asyncio.Future[Any]) -> str:
    """The words with which it fails."""
    with pytest.raises(RuntimeError) as caught:
        await future
    return line(caught.value)


@pytest.mark.parametrize("kind", ["workflow", "activity", "nexus"])
async def test_kinds_that_are_off_are_shut_down_from_the_start(kind: str, quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), task_types=shapes.task_types(kind)))
    await worker.validate()
    for poll in POLLS:
        if kind not in poll:
            for _ in range(2):
                with pytest.raises(native.PollShutdownError):
                    await getattr(worker, poll)()
    message = WorkflowActivationCompletion(run_id="RID")
    message.successful.SetInParent()
    text = "RuntimeError: Completion failure\n\nCaused by:\n    {} not enabled on this worker"
    if kind != "workflow":
        assert await failure(worker.complete_workflow_activation(message.SerializeToString())) == text.format("Workflows are")
    if kind == "activity":
        unknown = NexusTaskCompletion(task_token=b"t", ack_cancel=True)
        assert await failure(worker.complete_nexus_task(unknown.SerializeToString())) == text.format("Nexus is")
    if kind == "workflow":
        done = core.ActivityTaskCompletion(task_token=b"token")
        done.result.completed.result.SetInParent()
        assert await failure(worker.complete_activity_task(done.SerializeToString())) == text.format("Activities are")


async def test_shutdown_ends_polls_again_and_again(worker: Any) -> None:
    waiting = [getattr(worker, poll)() for poll in POLLS]
    worker.initiate_shutdown()
    worker.initiate_shutdown()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert (type(ended), ended.args) == (native.PollShutdownError, ())
    for _ in range(3):
        for poll in POLLS:
            with pytest.raises(native.PollShutdownError):
                await getattr(worker, poll)()
    assert await worker.finalize_shutdown() == ()


@pytest.mark.parametrize("count", [1, 3])
async def test_finalize_needs_all_polls_to_have_ended(count: int, worker: Any) -> None:
    waiting = [getattr(worker, poll)() for poll in POLLS[:count]]
    error = raised(worker.finalize_shutdown)
    assert line(error) == f"ValueError: Cannot finalize, expected 1 reference, got {count + 1}"
    for poll in waiting:
        assert poll.cancel()


@pytest.mark.parametrize(
    "method,arguments",
    [
        ("validate", ()),
        *((poll, ()) for poll in POLLS),
        *((completion, (b"",)) for completion in COMPLETIONS),
        ("record_activity_heartbeat", (b"",)),
        ("request_workflow_eviction", ("run",)),
        ("initiate_shutdown", ()),
        ("finalize_shutdown", ()),
        ("replace_client", "client"),
    ],
)
async def test_after_finalize_every_method_fails_at_the_call(
    method: str, arguments: Any, worker: Any, connected: Any, engine: str
) -> None:
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError):
            await getattr(worker, poll)()
    await worker.finalize_shutdown()
    error = raised(getattr(worker, method), *((connected,) if arguments == "client" else arguments))
    assert not isinstance(error, (TypeError, AttributeError, native.PollShutdownError))
    if engine == "original":
        assert type(error).__name__ == "PanicException"


async def test_the_client_can_be_replaced(quiet: Any, connected: Any, address: str, worker: Any) -> None:
    other = await native.connect_client(quiet, shapes.client(f"http://{address}"))
    assert worker.replace_client(other) is None
    assert worker.replace_client(connected) is None
    assert line(raised(worker.replace_client, 1)) == "TypeError: 'int' object is not an instance of 'ClientRef'"


@workflow.defn(name="surface-idle", sandboxed=False)
class Idle:
    @workflow.run
    async def run(self) -> None: ...


def completed(run_id: str) -> bytes:
    message = WorkflowActivationCompletion(run_id=run_id)
    message.successful.commands.add().complete_workflow_execution.SetInParent()
    return message.SerializeToString()


def evicted(run_id: str) -> bytes:
    message = WorkflowActivationCompletion(run_id=run_id)
    message.successful.SetInParent()
    return message.SerializeToString()


async def test_a_workflow_by_hand_from_its_start_to_its_eviction(
    quiet: Any, connected: Any, client: temporalio.client.Client
) -> None:
    queue = unique()
    worker = native.new_worker(quiet, connected, shapes.worker(queue))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert begun.run_id == handle.first_execution_run_id
    assert [job.WhichOneof("variant") for job in begun.jobs] == ["initialize_workflow"]
    assert await worker.complete_workflow_activation(completed(begun.run_id)) == ()
    assert await handle.result() is None
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert [job.WhichOneof("variant") for job in gone.jobs] == ["remove_from_cache"]
    assert await worker.complete_workflow_activation(evicted(gone.run_id)) == ()
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError):
            await getattr(worker, poll)()
    assert await worker.finalize_shutdown() == ()


async def test_a_requested_eviction_comes_alone_and_the_run_begins_anew(
    quiet: Any, connected: Any, client: temporalio.client.Client
) -> None:
    queue = unique()
    worker = native.new_worker(quiet, connected, shapes.worker(queue))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(evicted(begun.run_id))
    worker.request_workflow_eviction(begun.run_id)
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert [job.WhichOneof("variant") for job in gone.jobs] == ["remove_from_cache"]
    assert gone.jobs[0].remove_from_cache.reason == gone.jobs[0].remove_from_cache.LANG_REQUESTED
    await worker.complete_workflow_activation(evicted(begun.run_id))
    await handle.signal("wake")
    again = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert (again.run_id, again.is_replaying) == (begun.run_id, True)
    assert [job.WhichOneof("variant") for job in again.jobs] == ["initialize_workflow"]
    await worker.complete_workflow_activation(evicted(begun.run_id))
    woken = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert (woken.run_id, woken.is_replaying) == (begun.run_id, False)
    assert [job.WhichOneof("variant") for job in woken.jobs] == ["signal_workflow"]
    await worker.complete_workflow_activation(completed(begun.run_id))
    assert await handle.result() is None


class Permits:
    """A slot supplier that gives numbered permits and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.given: list[object] = []

    async def reserve_slot(self, context: Any, accept: Callable[[Any], None]) -> object:
        accept(asyncio.current_task())
        self.heard.append(("reserve", context))
        self.given.append(object())
        return self.given[-1]

    def try_reserve_slot(self, context: Any) -> object | None:
        return None

    def mark_slot_used(self, context: Any) -> None:
        self.heard.append(("used", context))

    def release_slot(self, context: Any) -> None:
        self.heard.append(("release", context))


async def test_a_custom_supplier_hears_of_its_slots(quiet: Any, connected: Any, client: temporalio.client.Client) -> None:
    permits, queue = Permits(), unique()
    tuner = shapes.tuner(workflow_slot_supplier=native.CustomSlotSupplier(permits))
    worker = native.new_worker(quiet, connected, shapes.worker(queue, tuner=tuner, identity_override="me", max_cached_workflows=0))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(completed(begun.run_id))
    await handle.result()

    async def released() -> tuple[Any, Any]:
        used = [context for verb, context in permits.heard if verb == "used"]
        given_back = [context for verb, context in permits.heard if verb == "release" and context.slot_info is not None]
        assert used and given_back
        return used[0], given_back[0]

    # The eviction frees the slot when nothing is cached.
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(evicted(gone.run_id))
    used, released_context = await eventually(released)
    first = permits.heard[0][1]
    assert type(first) is native.SlotReserveCtx
    assert (first.slot_type, first.task_queue, first.worker_identity, first.is_sticky) == ("workflow", queue, "me", False)
    assert (first.worker_build_id, first.worker_deployment_version) == ("build", {"deployment_name": "", "build_id": "build"})
    assert type(used) is native.SlotMarkUsedCtx
    assert type(used.slot_info) is native.WorkflowSlotInfo
    assert (used.slot_info.workflow_type, used.slot_info.is_sticky) == ("surface-idle", False)
    assert any(used.permit is given for given in permits.given)
    assert type(released_context) is native.SlotReleaseCtx
    assert released_context.permit is used.permit
