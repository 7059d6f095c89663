"""The real scripts on a real Redis, which can be taken back to any moment without ending it.

Going back restores every key as it was; another run id in the state is what a process finds that
starts with them. `tests/test_budget_faults.py` has processes that really end.
"""

from typing import Any

from server.store import Keyspace
from server.store.budgets import BudgetStore

Copy = dict[bytes, bytes]


class BudgetBox(BudgetStore):
    def __init__(self, client: Any, replicas: int = 0) -> None:
        super().__init__(client, Keyspace(), replicas)

    def copy(self) -> Copy:
        keys = self._client.keys("*")
        pipeline = self._client.pipeline(transaction=True)
        for key in keys:
            pipeline.dump(key)
        return dict(zip(keys, pipeline.execute(), strict=True))

    def restart(self, kept: Copy) -> None:
        self.go_back(kept)
        if self.state() is not None:
            self._client.hset(self._keys.budget_state, "run_id", "another")

    def go_back(self, kept: Copy) -> None:
        """Without a restart: such as a primary that was one before."""
        self._client.flushall()
        for key, content in kept.items():
            self._client.restore(key, 0, content)

    def tear(self) -> None:
        if self.state() is not None:
            self._client.hincrby(self._keys.budget_state, "begun", 1)

    def flush(self) -> None:
        self._client.flushall()
