"""The door that Granian's own thread answers behind, an RSGI door where it can't.

What is direct about it is in `dispatch.pyx`; the start and the end of a worker are the RSGI door's.
"""

import asyncio

from server.delivery.dispatch import Dispatch
from server.delivery.door_rsgi import RsgiDoor
from server.delivery.worker import Worker


class DirectDoor(RsgiDoor):
    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.dispatch = Dispatch(worker.core, worker.waiting)
        worker.users.share_turn(self.dispatch.turn)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        # A client that hung up does not keep Granian from stopping while its request is decided.
        with self.dispatch.turn:
            super().__rsgi_del__(loop)
