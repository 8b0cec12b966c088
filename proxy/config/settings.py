"""The whole file, and what has to agree between its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, PrivateAttr, model_validator

from proxy.config.fields import Section
from proxy.config.routes import Mode, RouteSettings, names_of, shadowed
from proxy.config.sections import (
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    InDoubtSettings,
    LoggingSettings,
    QueueSettings,
    RetrySettings,
    SmppSettings,
    StatusSettings,
    WebhookSettings,
)
from proxy.config.upstreams import ModemSettings, PoolSettings, UpstreamUnion


class Settings(Section):
    """The whole file."""

    database: DatabaseSettings = DatabaseSettings()
    smpp: SmppSettings = SmppSettings()
    http: HttpSettings = HttpSettings()
    upstream: list[UpstreamUnion] = Field(default_factory=list)
    route: list[RouteSettings] = Field(default_factory=list)
    status: StatusSettings = StatusSettings()
    retry: RetrySettings = RetrySettings()
    queue: QueueSettings = QueueSettings()
    in_doubt: InDoubtSettings = InDoubtSettings()
    delivery: DeliverySettings = DeliverySettings()
    webhook: WebhookSettings = WebhookSettings()
    logging: LoggingSettings = LoggingSettings()

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file these settings came from; None for the embedded default."""
        return self._source

    @property
    def routes_or_default(self) -> list[RouteSettings]:
        """The routes, each with its name and mode.

        Without a [[route]] there is one, "any", over all upstreams that are in no pool, in
        their order; without any upstream there is none.
        """
        routes = self.route
        if not routes:
            pooled = {name for pool in self._pools for name in pool.modems}
            names = [one.name for one in self.upstream if one.name not in pooled]
            routes = [RouteSettings(upstreams=names)] if names else []
        return [
            route.model_copy(update={"name": name, "mode": self.mode_of(route)})
            for route, name in zip(routes, names_of(routes), strict=True)
        ]

    def mode_of(self, route: RouteSettings) -> Mode:
        """Its mode: left out, it is "queued" when one of its upstreams is a modem or a pool."""
        if route.mode is not None:
            return route.mode
        slow = {one.name for one in self.upstream if is_modem(one)}
        return "direct" if slow.isdisjoint(route.upstreams) else "queued"

    @property
    def _pools(self) -> list[PoolSettings]:
        return [one for one in self.upstream if isinstance(one, PoolSettings)]

    @model_validator(mode="after")
    def _parts_agree(self) -> Settings:
        problems = [
            *_upstream_problems(self),
            *_modem_problems(self),
            *_route_problems(self),
            *_other_problems(self),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def is_modem(upstream: UpstreamUnion) -> bool:
    """Whether it is a modem or a pool of them: slow, so that its messages are queued."""
    return isinstance(upstream, ModemSettings | PoolSettings)


def _upstream_problems(settings: Settings) -> Iterator[str]:
    times = Counter(upstream.name for upstream in settings.upstream)
    for i, upstream in enumerate(settings.upstream):
        if times[upstream.name] > 1:
            yield f'upstream[{i}].name: "{upstream.name}" is the name of several upstreams'
        if isinstance(upstream, PoolSettings):
            continue
        if upstream.reconnect_max_s < upstream.reconnect_min_s:
            yield f"upstream[{i}].reconnect_max_s: should not be below reconnect_min_s"


def _modem_problems(settings: Settings) -> Iterator[str]:
    by_name = {one.name: one for one in settings.upstream}
    pool_of: dict[str, str] = {}
    modems: list[tuple[int, ModemSettings]] = []
    for i, upstream in enumerate(settings.upstream):
        if isinstance(upstream, ModemSettings):
            for j, other in modems:
                if _same_device(upstream.device_key, other.device_key):
                    yield f'upstream[{i}].device: "{upstream.device}" {_whose(j, upstream, other)}'
            modems.append((i, upstream))
        elif isinstance(upstream, PoolSettings):
            for j, name in enumerate(upstream.modems):
                key = f"upstream[{i}].modems[{j}]"
                if name not in by_name:
                    yield f'{key}: there is no upstream "{name}"'
                elif not isinstance(by_name[name], ModemSettings):
                    yield f'{key}: "{name}" is no modem, but kind = "{by_name[name].kind}"'
                elif name in upstream.modems[:j]:
                    yield f'{key}: "{name}" is there already'
                elif pool_of.setdefault(name, upstream.name) != upstream.name:
                    yield f'{key}: "{name}" is in pool "{pool_of[name]}" already'


def _same_device(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether both may be one device: a usb device without a serial number is any of its make."""
    shorter = min(len(one), len(other)) if one[0] == "usb" else max(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _whose(position: int, one: ModemSettings, other: ModemSettings) -> str:
    if one.device_key == other.device_key:
        return f"is the device of upstream[{position}] already"
    return f"may be the device of upstream[{position}]: both need their serial number"


def _route_problems(settings: Settings) -> Iterator[str]:
    upstreams = {upstream.name for upstream in settings.upstream}
    times = Counter(route.name for route in settings.route if route.name is not None)
    for i, route in enumerate(settings.route):
        key = f"route[{i}]"
        if route.name is not None and times[route.name] > 1:
            yield f'{key}.name: "{route.name}" is the name of several routes'
        for j, name in enumerate(route.upstreams):
            if name not in upstreams:
                yield f'{key}.upstreams[{j}]: there is no upstream "{name}"'
            if name in route.upstreams[:j]:
                yield f'{key}.upstreams[{j}]: "{name}" is there already'
        if route.policy != "weighted":
            if route.weights is not None:
                yield f'{key}.weights: has no effect without policy = "weighted"'
        elif route.weights is None:
            yield f'{key}.weights: is missing; policy = "weighted" needs one for each upstream'
        elif len(route.weights) != len(route.upstreams):
            count = len(route.upstreams)
            yield f"{key}.weights: should have {count}, one for each upstream"
        if route.when_down == "queue" and settings.mode_of(route) != "direct":
            yield f'{key}.when_down: "queue" is for mode = "direct"; here everything is queued'
    names = names_of(settings.route)
    for i, j in shadowed(settings.route):
        yield f'route[{i}]: never reached, route[{j}] ("{names[j]}") takes all of its messages'


def _other_problems(settings: Settings) -> Iterator[str]:
    for name, waits in (("queue", settings.queue), ("delivery", settings.delivery)):
        if waits.retry_max_s < waits.retry_min_s:
            yield f"{name}.retry_max_s: should not be below retry_min_s"
    if settings.webhook.url is not None and settings.webhook.secret is None:
        yield "webhook.secret: is missing; what goes to webhook.url is signed with it"
    taken: dict[tuple[str, int], str] = {}
    for key, host, port in _listeners(settings):
        other = taken.setdefault((host, port), key)
        if port and other != key:
            yield f"{key}: {port} is {other} already"


def _listeners(settings: Settings) -> Iterator[tuple[str, str, int]]:
    yield "smpp.port", settings.smpp.host, settings.smpp.port
    if settings.smpp.tls is not None:
        yield "smpp.tls.port", settings.smpp.host, settings.smpp.tls.port
    if settings.http.enabled:
        yield "http.port", settings.http.host, settings.http.port
