from typing import final

from server.config import Config
from server.delivery.devices import Device
from server.delivery.geo import Place
from server.delivery.http import Ask

HEADERS_CACHED: int

@final
class Context:
    device: Device
    place: Place
    language: str | None
    def __init__(self, device: Device, place: Place, language: str | None) -> None: ...

@final
class ContextReader:
    def __init__(self, config: Config) -> None: ...
    def read(self, ask: Ask, stated_ip: str | None) -> Context: ...
    def lookups(self) -> dict[str, tuple[int, int]]: ...
    def client_ip(self, ask: Ask) -> str: ...

def language(accept_language: str | None) -> str | None: ...
def domain(url: str | None) -> str | None: ...
