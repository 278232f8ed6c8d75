"""The stubs of the native module and the settings that `temporalio` passes to it fit each other.

`check-types` reads this file; the one test that runs shows that stub and module have the same names.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import temporalio.bridge.client
import temporalio.bridge.runtime
import temporalio.bridge.testing
import temporalio.bridge.worker
from outlast.compat import temporal_sdk_bridge as native


async def settings_fit(
    options: temporalio.bridge.runtime.RuntimeOptions,
    connection: temporalio.bridge.client.ClientConfig,
    call: temporalio.bridge.client.RpcCall,
    worker: temporalio.bridge.worker.WorkerConfig,
    dev: temporalio.bridge.testing.DevServerConfig,
    skipping: temporalio.bridge.testing.TestServerConfig,
) -> None:
    """For the type checker: each dataclass of the package is what its function takes."""
    runtime = native.init_runtime(options)
    client = await native.connect_client(runtime, connection)
    answer: bytes = await client.call_workflow_service(call)
    native.new_worker(runtime, client, worker).replace_client(client)
    _, pusher = native.new_replay_worker(runtime, worker)
    await pusher.push_history("workflow", answer)
    for server in (await native.start_dev_server(runtime, dev), await native.start_test_server(runtime, skipping)):
        await server.shutdown()
    entries: Sequence[temporalio.bridge.runtime.BufferedLogEntry] = list[native.BufferedLogEntry]()
    assert not entries


def test_the_stub_has_the_names_of_the_module_and_no_others() -> None:
    stub = Path(native.__file__).with_suffix(".pyi")
    public = {
        name
        for node in ast.parse(stub.read_text()).body
        for name in (
            [node.name] if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            else [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            else []
        )
        if not name.startswith("_")
    }
    assert public == set(native.__all__)
