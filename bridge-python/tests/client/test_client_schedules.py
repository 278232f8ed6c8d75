"""Schedules: what is kept of them, changing them, pausing, triggering, filling in the past, listing and deleting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone

import pytest

from client.programs import INT, KEYWORD, Echo, Wait
from support import eventually, unique
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleListActionStartWorkflow,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import RetryPolicy, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import TerminatedError
from temporalio.service import RPCError, RPCStatusCode

NEVER = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1000))])

Create = Callable[..., Awaitable[ScheduleHandle]]


@pytest.fixture
async def create(client: Client, queue: str) -> AsyncIterator[Create]:
    """Makes schedules of `Echo` that do nothing by themselves; they are gone after the test."""
    made: list[ScheduleHandle] = []

    async def one(
        spec: ScheduleSpec = NEVER,
        policy: SchedulePolicy = SchedulePolicy(),
        state: ScheduleState = ScheduleState(),
        **options: object,
    ) -> ScheduleHandle:
        action = ScheduleActionStartWorkflow(Echo.run, "tick", id=unique("scheduled"), task_queue=queue)
        schedule = Schedule(action=action, spec=spec, policy=policy, state=state)
        handle = await client.create_schedule(unique("schedule"), schedule, **options)  # type: ignore[arg-type]
        made.append(handle)
        return handle

    yield one
    for handle in made:
        try:
            await handle.delete()
        except RPCError as error:
            assert error.status == RPCStatusCode.NOT_FOUND


async def has_run(handle: ScheduleHandle, count: int) -> ScheduleDescription:
    """Waits until `count` actions were taken and nothing runs."""

    async def done() -> ScheduleDescription:
        description = await handle.describe()
        assert description.info.num_actions == count
        assert description.info.running_actions == []
        return description

    return await eventually(done)


async def test_a_description_gives_back_what_was_created(client: Client, queue: str) -> None:
    action = ScheduleActionStartWorkflow(
        Echo.run,
        args=[{"a": 1}],
        id=unique("scheduled"),
        task_queue=queue,
        execution_timeout=timedelta(hours=2),
        run_timeout=timedelta(hours=1),
        task_timeout=timedelta(seconds=5),
        retry_policy=RetryPolicy(maximum_attempts=3),
        memo={"of": "the action"},
        typed_search_attributes=TypedSearchAttributes([SearchAttributePair(KEYWORD, "action")]),
        static_summary="in short",
    )
    spec = ScheduleSpec(
        calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(1, 5, 2)], comment="odd hours")],
        intervals=[ScheduleIntervalSpec(every=timedelta(days=7), offset=timedelta(days=2))],
        skip=[ScheduleCalendarSpec(year=[ScheduleRange(2050)])],
        start_at=datetime(2060, 1, 1, tzinfo=timezone.utc),
        end_at=datetime(2070, 1, 1, tzinfo=timezone.utc),
        jitter=timedelta(seconds=80),
        time_zone_name="Europe/Berlin",
    )
    policy = SchedulePolicy(
        overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=timedelta(minutes=5), pause_on_failure=True
    )
    state = ScheduleState(note="a note", paused=True, limited_actions=True, remaining_actions=30)
    id = unique("schedule")
    handle = await client.create_schedule(
        id,
        Schedule(action=action, spec=spec, policy=policy, state=state),
        memo={"of": "the schedule"},
        search_attributes=TypedSearchAttributes([SearchAttributePair(INT, 6)]),
    )
    description = await client.get_schedule_handle(id).describe()
    kept = description.schedule
    assert (description.id, kept.policy, kept.state) == (id, policy, state)
    # Left out parts of a calendar come back as what they mean.
    [calendar] = kept.spec.calendars
    assert (list(calendar.hour), calendar.comment) == ([ScheduleRange(1, 5, 2)], "odd hours")
    assert kept.spec.intervals == spec.intervals and len(kept.spec.skip) == 1
    assert (kept.spec.start_at, kept.spec.end_at) == (spec.start_at, spec.end_at)
    assert (kept.spec.jitter, kept.spec.time_zone_name) == (spec.jitter, "Europe/Berlin")
    assert isinstance(kept.action, ScheduleActionStartWorkflow)
    assert (kept.action.workflow, kept.action.id, kept.action.task_queue) == ("Echo", action.id, queue)
    assert kept.action.execution_timeout == timedelta(hours=2)
    assert kept.action.run_timeout == timedelta(hours=1)
    assert kept.action.retry_policy is not None and kept.action.retry_policy.maximum_attempts == 3
    assert kept.action.typed_search_attributes[KEYWORD] == "action"
    assert await description.memo() == {"of": "the schedule"}
    assert description.typed_search_attributes[INT] == 6
    assert description.info.num_actions == 0 and description.info.last_updated_at is None
    assert [time.year for time in description.info.next_action_times][:1] == [2060]
    await handle.delete()


async def test_an_id_is_used_once(client: Client, create: Create) -> None:
    handle = await create()
    schedule = (await handle.describe()).schedule
    with pytest.raises(ScheduleAlreadyRunningError, match="Schedule already running"):
        await client.create_schedule(handle.id, schedule)


async def test_limits_and_remaining_actions_belong_together(create: Create) -> None:
    with pytest.raises(ValueError, match="limited actions to false"):
        await create(state=ScheduleState(limited_actions=True))
    with pytest.raises(ValueError, match="limited actions to true"):
        await create(state=ScheduleState(remaining_actions=1))


async def test_a_trigger_starts_the_workflow(client: Client, create: Create) -> None:
    handle = await create()
    await handle.trigger()
    description = await has_run(handle, 1)
    [taken] = description.info.recent_actions
    assert isinstance(taken.action, ScheduleActionExecutionStartWorkflow)
    assert isinstance(description.schedule.action, ScheduleActionStartWorkflow)
    assert taken.action.workflow_id.startswith(description.schedule.action.id)
    started = client.get_workflow_handle(taken.action.workflow_id, run_id=taken.action.first_execution_run_id)
    assert await started.result() == "tick"
    assert taken.started_at >= taken.scheduled_at


async def test_a_schedule_may_be_triggered_as_it_is_created(create: Create) -> None:
    await has_run(await create(trigger_immediately=True), 1)


async def test_a_spec_may_be_cron(create: Create) -> None:
    handle = await create(ScheduleSpec(cron_expressions=["15 3 * * MON"]))
    spec = (await handle.describe()).schedule.spec
    assert spec.cron_expressions == []
    [calendar] = spec.calendars
    assert (list(calendar.minute), list(calendar.hour)) == ([ScheduleRange(15, 15, 1)], [ScheduleRange(3, 3, 1)])
    assert list(calendar.day_of_week) == [ScheduleRange(1, 1, 1)]
    with pytest.raises(RPCError) as refused:
        await create(ScheduleSpec(cron_expressions=["now and then"]))
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def test_pausing_keeps_a_note(create: Create) -> None:
    handle = await create()
    await handle.pause()
    assert (await handle.describe()).schedule.state == ScheduleState(note="Paused via Python SDK", paused=True)
    await handle.unpause()
    assert (await handle.describe()).schedule.state == ScheduleState(note="Unpaused via Python SDK", paused=False)
    await handle.pause(note="holidays")
    assert (await handle.describe()).schedule.state == ScheduleState(note="holidays", paused=True)
    await handle.unpause(note="back")
    assert (await handle.describe()).schedule.state == ScheduleState(note="back", paused=False)


async def test_the_past_can_be_filled_in(create: Create) -> None:
    end = datetime(2024, 5, 6, 12, tzinfo=timezone.utc)
    fill = ScheduleBackfill(end - timedelta(minutes=3), end, ScheduleOverlapPolicy.ALLOW_ALL)
    state = ScheduleState(paused=True)
    handle = await create(ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=1))]), state=state)
    await handle.backfill(fill)
    # Both ends count.
    description = await has_run(handle, 4)
    times = sorted(action.scheduled_at for action in description.info.recent_actions)
    assert times == [end - timedelta(minutes=minutes) for minutes in (3, 2, 1, 0)]


async def test_a_trigger_while_one_runs_follows_the_overlap_policy(client: Client, queue: str) -> None:
    action = ScheduleActionStartWorkflow(Wait.run, id=unique("scheduled"), task_queue=queue)
    handle = await client.create_schedule(unique("schedule"), Schedule(action=action, spec=NEVER))

    async def runs(count: int, skipped: int) -> None:
        info = (await handle.describe()).info
        assert (info.num_actions, info.num_actions_skipped_overlap) == (count, skipped)

    await handle.trigger()
    await eventually(lambda: runs(1, 0))
    await handle.trigger()
    await eventually(lambda: runs(1, 1))
    await handle.trigger(overlap=ScheduleOverlapPolicy.TERMINATE_OTHER)
    await eventually(lambda: runs(2, 1))
    workflows = []
    for taken in (await handle.describe()).info.recent_actions:
        assert isinstance(taken.action, ScheduleActionExecutionStartWorkflow)
        run_id = taken.action.first_execution_run_id
        # Two of one second share an id.
        workflows.append(client.get_workflow_handle(taken.action.workflow_id, run_id=run_id))
    with pytest.raises(WorkflowFailureError) as ended:
        await workflows[0].result()
    assert isinstance(ended.value.cause, TerminatedError)
    assert (await workflows[1].describe()).status == WorkflowExecutionStatus.RUNNING
    await workflows[1].terminate()
    await handle.delete()


async def test_an_update_changes_what_it_is_given(create: Create) -> None:
    handle = await create(memo={"kept": True})

    def longer(input: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = input.description.schedule
        schedule.spec.intervals = [ScheduleIntervalSpec(every=timedelta(days=500))]
        schedule.state.note = "changed"
        attributes = TypedSearchAttributes([SearchAttributePair(INT, 9)])
        return ScheduleUpdate(schedule=schedule, search_attributes=attributes)

    await handle.update(longer)

    async def changed() -> ScheduleDescription:
        description = await handle.describe()
        assert description.schedule.state.note == "changed"
        assert description.typed_search_attributes.get(INT) == 9
        return description

    description = await eventually(changed)
    assert description.schedule.spec.intervals[0].every == timedelta(days=500)
    assert await description.memo() == {"kept": True}
    assert description.info.last_updated_at is not None

    async def nothing(input: ScheduleUpdateInput) -> None:
        return None

    await handle.update(nothing)
    assert (await handle.describe()).schedule.state.note == "changed"


async def test_a_list_finds_schedules_by_their_attributes(client: Client, create: Create) -> None:
    mark = unique("mark")
    attributes = TypedSearchAttributes([SearchAttributePair(KEYWORD, mark)])
    made = {
        (await create(search_attributes=attributes, memo={"n": n}, state=ScheduleState(note=f"note {n}"))).id
        for n in range(3)
    }

    async def listed() -> None:
        found = [item async for item in await client.list_schedules(f"OutlastKeyword = '{mark}'", page_size=2)]
        assert {item.id for item in found} == made
        for item in found:
            assert item.schedule is not None and item.info is not None
            assert isinstance(item.schedule.action, ScheduleListActionStartWorkflow)
            assert (item.schedule.action.workflow, item.schedule.state.paused) == ("Echo", False)
            assert item.schedule.state.note == f"note {await item.memo_value('n')}"
            assert item.typed_search_attributes[KEYWORD] == mark
            assert item.info.next_action_times != []

    await eventually(listed)


async def test_a_deleted_schedule_is_not_found(create: Create) -> None:
    handle = await create()
    await handle.delete()
    for call in (handle.describe, handle.pause, handle.trigger, handle.delete):
        with pytest.raises(RPCError) as missing:
            await call()
        assert missing.value.status == RPCStatusCode.NOT_FOUND
