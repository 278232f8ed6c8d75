"""Threads that use one native object at the same time."""

from __future__ import annotations

from lifecycle.scripts import retried, run


def test_threads_that_change_the_metadata_of_one_client_do_not_wait_for_each_other_for_ever() -> None:
    body = """
async def main():
    client = await native.connect_client(shapes.runtime(), shapes.client(URL))
    def change(own):
        for count in range(3000):
            client.update_metadata({"tenant": f"{own}-{count}"})
    threads = [threading.Thread(target=change, args=(own,)) for own in range(2)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    print("changed")
asyncio.run(main())
"""
    assert retried(lambda: run(body)) == ["changed"]
