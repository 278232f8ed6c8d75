"""Configs of native workers: which are refused and in which words, and which worker excludes which."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.bridge import worker as bridge

from support import unique
from surface import shapes
from surface.shapes import line, native, raised

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
    "WorkerDeploymentVersion must have a non-empty build_id and deployment_name "
    "when deployment-based versioning is enabled"
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
async def test_a_valid_config_makes_a_worker_that_ends_in_order(
    change: dict[str, Any], quiet: Any, connected: Any
) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), **change))
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError) as caught:
            await getattr(worker, poll)()
        assert caught.value.args == ()
    assert await worker.finalize_shutdown() == ()


DUPLICATE = (
    "RuntimeError: Failed creating worker\n\nCaused by:\n    Registration of multiple workers with overlapping worker "
    "task types on the same namespace, task queue, and deployment build ID not allowed: "
)


async def test_one_client_takes_one_worker_for_a_queue_and_a_kind_of_task(quiet: Any, connected: Any) -> None:
    queue = unique()
    make: Callable[..., Any] = lambda **change: native.new_worker(quiet, connected, shapes.worker(queue, **change))  # noqa: E731
    first = make(task_types=shapes.task_types("workflow activity"))
    for kinds in ("workflow", "activity", "workflow local", "activity nexus"):
        assert line(raised(make, task_types=shapes.task_types(kinds))).startswith(DUPLICATE)
    others = [
        make(task_types=shapes.task_types("nexus")),
        make(namespace="other"),
        make(versioning_strategy=deployment("d", "b")),
    ]
    first.initiate_shutdown()
    assert type(make(task_types=shapes.task_types("workflow activity"))) is native.WorkerRef
    for other in others:
        other.initiate_shutdown()


async def test_two_clients_take_a_worker_each(quiet: Any, connected: Any, address: str) -> None:
    queue = unique()
    other = await native.connect_client(quiet, shapes.client(f"http://{address}"))
    workers = [native.new_worker(quiet, client, shapes.worker(queue)) for client in (connected, other)]
    assert [type(worker) for worker in workers] == [native.WorkerRef] * 2
