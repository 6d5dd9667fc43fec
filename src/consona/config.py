"""`consona.toml`: what a system consists of.

    [system]
    name = "storefront"
    ops = "sqlite:///ops.db"            # where its processes report what they do

    [services.shop]
    app = "storefront.api:api"          # module:attribute, found from this file's folder
    port = 8000
    workers = 2
    env = { SHOP_CURRENCY = "EUR" }

    [workers.mail]
    run = ["storefront.mail:queue"]     # the queues, buses and apps that it works on

    [dashboard]
    port = 8090

    [database]
    address = "sqlite:///shop.db"       # given to the services as CONSONA_DATABASE; `consona migrate` works on it

Each value can be replaced from the environment: `CONSONA_` and its place, the steps joined by two
underscores, for example `CONSONA_SERVICES__SHOP__PORT=9000`. Secrets stand in the environment only;
a file that seems to hold one is refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from consona.address import Address
from consona.errors import AddressError, ConfigurationError

__all__ = ["Config", "Dashboard", "Database", "Service", "System", "Telemetry", "Visitors", "Worker", "load_config"]

FILE_NAME: Final = "consona.toml"
DATABASE_VARIABLE: Final = "CONSONA_DATABASE"
"""Environment variable that takes the place of `[database] address`."""
PREFIX: Final = "CONSONA_"
SECRET_WORDS: Final = ("password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "privatekey")

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$")]
Target = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?$")]
Port = Annotated[int, Meta(ge=0, le=65535)]

_WANTED: Final[dict[Any, str]] = {
    Name: "small letters, digits, - and _, beginning with a letter",
    Target: 'text such as "shop.api:api" (module:attribute)',
    Port: "a whole number from 0 to 65535 (0: any free port)",
}


class System(Struct, frozen=True, kw_only=True):
    """The whole, that all services belong to."""

    name: Name = "consona"
    ops: str = "sqlite:///ops.db"
    """Address of the shared store of figures, spans and histories; a relative file is in the folder of the TOML file."""


class Service(Struct, frozen=True, kw_only=True):
    """One application, run as one or more worker processes that share its port."""

    app: Target
    """The ASGI application, as `module:attribute`."""
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    env: dict[str, str] = {}
    """Environment variables for its processes, besides those that `consona up` was started with."""


class Worker(Struct, frozen=True, kw_only=True):
    """What handles messages and events, in one or more processes."""

    run: Annotated[list[Target], Meta(min_length=1)]
    """Queues, buses, or apps that have some, each as `module:attribute`."""
    processes: Annotated[int, Meta(ge=1, le=256)] = 1
    env: dict[str, str] = {}
    """Environment variables for its processes, besides those that `consona up` was started with."""


class Dashboard(Struct, frozen=True, kw_only=True):
    """The page of everything that the system does."""

    host: str = "127.0.0.1"
    port: Port = 8090


class Database(Struct, frozen=True, kw_only=True):
    """The SQL database of the services, which find it in `CONSONA_DATABASE`; `consona migrate` changes its schema."""

    address: str
    """A relative file is in the folder of the TOML file."""
    migrations: str = "migrations"
    """The folder of its migrations, from the folder of the TOML file."""


class Telemetry(Struct, frozen=True, kw_only=True):
    """Which traces are kept: the first `traces_per_second`, and a share of the rest."""

    traces_per_second: Annotated[int, Meta(ge=0)] = 10
    trace_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01


class Visitors(Struct, frozen=True, kw_only=True):
    """Made-up visitors, for `consona up --visitors N`."""

    walk: Target
    """`async def walk(api: APIClient, rng: random.Random)`: one visit, as `module:attribute`."""
    service: Name
    """The service that they visit."""


class Config(Struct, frozen=True, kw_only=True):
    """Everything that one `consona.toml` says, checked."""

    system: System = System()
    services: dict[Name, Service] = {}
    workers: dict[Name, Worker] = {}
    dashboard: Dashboard | None = None
    database: Database | None = None
    telemetry: Telemetry = Telemetry()
    visitors: Visitors | None = None
    folder: Path = Path()
    """The folder of the file: modules and relative files are found from here."""

    @property
    def ops(self) -> str:
        """The address of the ops store, with a relative file resolved against `folder`."""
        return self.resolved(self.system.ops)

    def database_address(self, environ: Mapping[str, str]) -> str:
        """Where the database is: what `CONSONA_DATABASE` says, else this file; empty where neither does."""
        named = environ.get(DATABASE_VARIABLE, "")
        return named or (self.resolved(self.database.address) if self.database is not None else "")

    def resolved(self, url: str) -> str:
        """An address of the file, with a relative SQLite file resolved against `folder`."""
        address = Address.parse(url)
        if address.scheme != "sqlite" or address.is_memory:
            return url
        return str(dataclasses.replace(address, path=str(self.folder / address.path)))


def load_config(place: Path | str = ".", *, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check `consona.toml`.

    Args:
        place: The file, or the folder that it is in.
        environ: Replaces the process's environment, for the `CONSONA_…` settings.

    Raises:
        ConfigurationError: The file is missing or wrong; the message names every mistake with its
            line and its key, and what to do.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "consona.toml").write_text('services.shop.app = "shop:api"')
        >>> load_config(folder, environ={"CONSONA_SERVICES__SHOP__PORT": "9000"}).services["shop"].port
        9000
    """
    file = Path(place)
    if file.is_dir():
        file /= FILE_NAME
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no file {file}.", hint="Name the file or its folder, or make a project with `consona new NAME`."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not text in UTF-8: {error.reason}.", hint="Save it as UTF-8.") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{file} is not valid TOML: {error}.", hint="Text needs quotes; a table begins with [its.name]."
        ) from None
    reading = _Reading(file, text)
    _apply(os.environ if environ is None else environ, data, reading)
    config = reading.struct(Config, data, ())
    if config is not None:
        reading.cross_check(config)
    if reading.mistakes:
        raise ConfigurationError("\n".join(reading.mistakes), mistakes=len(reading.mistakes))
    assert isinstance(config, Config)
    return msgspec.structs.replace(config, folder=file.resolve().parent)


class _Reading:
    """One pass over the file's tables that collects all mistakes instead of stopping at the first."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.lines = _key_lines(text)
        self.mistakes: list[str] = []
        self.from_environment: dict[tuple[str, ...], str] = {}

    def mistake(self, path: tuple[str, ...], what: str) -> None:
        place = ".".join(path)
        variable = self.from_environment.get(path)
        if variable is None and path not in self.lines:  # a table that only exists because of a variable
            variable = next((name for at, name in self.from_environment.items() if at[: len(path)] == path), None)
        if variable is not None:
            self.mistakes.append(f"Environment variable {variable}, {place}: {what}")
            return
        at = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        where = f"{self.file}, line {at}" if at else str(self.file)
        self.mistakes.append(f"{where}, {place}: {what}")

    def struct(self, kind: type[Struct], data: Any, path: tuple[str, ...]) -> Struct | None:
        """`data` as a `kind`, or None after the mistakes in it have been noted."""
        if not isinstance(data, dict):
            self.mistake(path, f"expected a table, written [{'.'.join(path)}], and found {_a(data)}.")
            return None
        before = len(self.mistakes)
        hints = get_type_hints(kind, include_extras=True)
        hints.pop("folder", None)
        for key in data.keys() - hints.keys():
            self.mistake((*path, key), f"there is no such setting.{_nearest(key, hints)}")
        values = {key: self._value(hints[key], data[key], (*path, key)) for key in hints if key in data}
        for info in msgspec.structs.fields(kind):
            if info.required and info.name not in data:
                self.mistake(
                    path, f"the setting {info.name!r} is missing; write {_sample(hints[info.name], info.name)}."
                )
        return kind(**values) if len(self.mistakes) == before else None

    def _value(self, hint: Any, data: Any, path: tuple[str, ...]) -> Any:
        if get_origin(hint) is dict and (kind := _struct_in(get_args(hint)[1])) is not None:
            return self._table_of(kind, data, path)
        if (kind := _struct_in(hint)) is not None:
            return self.struct(kind, data, path)
        if hint == dict[str, str] and isinstance(data, dict):
            self._no_secrets(data, path)
            return {key: self._value(str, value, (*path, key)) for key, value in data.items()}
        try:
            return msgspec.convert(data, hint, strict=path not in self.from_environment)
        except msgspec.ValidationError as error:
            self.mistake(path, f"expected {_WANTED.get(hint) or _plain(error)}; found {_a(data)}.")
            return None

    def _table_of(self, kind: type[Struct], data: Any, path: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.mistake(path, f"expected tables, written [{'.'.join(path)}.NAME], and found {_a(data)}.")
            return {}
        for key in data:
            try:
                msgspec.convert(key, Name)
            except msgspec.ValidationError:
                self.mistake((*path, key), f"the name {key!r} is not allowed: use {_WANTED[Name]}.")
        return {key: self.struct(kind, value, (*path, key)) for key, value in data.items()}

    def _no_secrets(self, table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key in table:
            if any(word in re.sub(r"[^a-z]", "", key.lower()) for word in SECRET_WORDS):
                self.mistake(
                    (*path, key),
                    f"secrets do not belong in a file. Take it out and set {key} in the environment of `consona up`, "
                    "which hands it to every service.",
                )

    def cross_check(self, config: Struct) -> None:
        """What no single value can show."""
        assert isinstance(config, Config)
        self._address(("system", "ops"), config.system.ops)
        if config.database is not None:
            self._address(("database", "address"), config.database.address)
        for name in config.workers.keys() & config.services.keys():
            self.mistake(("workers", name), f"a service is called {name!r} already; choose another name.")
        taken: dict[tuple[str, int], str] = {}
        for place, host, port in _ports(config):
            if port and (other := taken.setdefault((host, port), place)) != place:
                self.mistake((*place.split("."), "port"), f"port {port} is that of {other} already; choose another.")
        visited = config.visitors
        if visited is not None and visited.service not in config.services:
            self.mistake(
                ("visitors", "service"),
                f"there is no service {visited.service!r}.{_nearest(visited.service, config.services)}",
            )

    def _address(self, path: tuple[str, ...], url: str) -> None:
        try:
            address = Address.parse(url)
        except AddressError as error:
            self.mistake(path, str(error))
            return
        if address.password and path not in self.from_environment:
            variable = PREFIX + "__".join(path).upper()
            self.mistake(path, f"holds a password; set {variable} in the environment instead.")


def _ports(config: Config) -> Iterator[tuple[str, str, int]]:
    for name, service in config.services.items():
        yield f"services.{name}", service.host, service.port
    if config.dashboard is not None:
        yield "dashboard", config.dashboard.host, config.dashboard.port


def _apply(environ: Mapping[str, str], data: dict[str, Any], reading: _Reading) -> None:
    """Put `CONSONA_A__B=value` into `data["a"]["b"]`; without `__` a variable is no setting of the file."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        *tables, setting = variable.removeprefix(PREFIX).lower().split("__")
        table, path = data, []
        for step in tables:
            # A variable's name cannot hold the - that a service's name may.
            path.append(next((key for key in table if key.replace("-", "_") == step), step))
            table = table.setdefault(path[-1], {})
            if not isinstance(table, dict):
                break
        else:
            if path[-1:] == ["env"]:
                setting = variable.rpartition("__")[2]  # the names of environment variables keep their case
            table[setting] = environ[variable]
            reading.from_environment[*path, setting] = variable


def _key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Where each key and table stands. `tomllib` does not tell; keys over several lines are not looked into."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = _steps(header[1])
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w\-.\"' ]+?)\s*=", line):
            lines.setdefault((*table, *_steps(key[1])), number)
    return lines


def _steps(dotted: str) -> tuple[str, ...]:
    return tuple(step.strip().strip("\"'") for step in dotted.split("."))


def _struct_in(hint: Any) -> type[Struct] | None:
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Struct):
            return kind
    return None


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known) or 'none'}."


def _plain(error: msgspec.ValidationError) -> str:
    """`Expected `int`, got `str` - at `$`` -> `a whole number`."""
    found = re.match(r"Expected `?(\w+)`?(.*?)(, got|$| - at)", str(error))
    if found is None:
        return str(error)
    words = {"int": "a whole number", "float": "a number", "str": "text in quotes", "bool": "true or false"}
    words["object"] = "a table of texts"
    return words.get(found[1], found[1]) + found[2].replace("`", "")


def _sample(hint: Any, name: str) -> str:
    return f'{name} = "shop.api:api"' if hint == Target else f'{name} = "…"'


def _a(value: Any) -> str:
    """What was found, as a kind of thing: the value itself may be a secret in the wrong place."""
    words = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        dict: "a table",
        list: "a list",
    }
    kind = words.get(type(value), type(value).__name__)
    return f"{kind} ({value!r})" if isinstance(value, int | float) else kind
