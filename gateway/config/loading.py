"""Loading the configuration: one TOML file, decoded into its sections; an unknown key or a wrong type is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from gateway.config.checks import check_config
from gateway.config.problems import ConfigError
from gateway.config.sections import NO_MCU, Config, McuSection
from gateway.config.source import PREFIX, ConfigSource
from mcu import factory


def load(path: str | Path, environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: the configuration is invalid; the text is one sentence about the first problem, which names file
            or variable, and key. ``all`` has all problems.
    """
    return load_with_source(path, environ)[0]


def load_with_source(path: str | Path, environ: Mapping[str, str]) -> tuple[Config, ConfigSource]:
    """Read the configuration; return it with the source, which knows the origin of each value.

    Raises:
        ConfigError: as ``load`` does.
    """
    source = ConfigSource(Path(path))
    types = {name: factory.settings_type(name) for name in factory.names() if _is_named(name, source.values, environ)}
    source.read(file_schema(types), environ)
    mcu = source.values.get("mcu")
    sections = {name: mcu.pop(name) for name in types if name in mcu} if isinstance(mcu, dict) else {}
    try:
        config: Config = source.convert(source.values, Config)
    except ConfigError:
        source.problems.raise_first()
        raise
    try:
        settings = {name: source.convert(values, types[name], "mcu", name) for name, values in sections.items()}
        if config.mcu.type != NO_MCU:
            chosen = _sfu_settings(config.mcu.type, settings, types, source)
            config = msgspec.structs.replace(config, mcu=msgspec.structs.replace(config.mcu, settings=chosen))
    except ConfigError as error:  # of the SFU; the other sections are checked nevertheless
        source.problems.add(error)
    config = check_config(config, source)
    source.problems.raise_first()
    return config, source


def _is_named(sfu: str, values: dict[str, Any], environ: Mapping[str, str]) -> bool:
    """Return whether the configuration names an SFU; only the modules of such SFUs are imported."""
    mcu, variable = values.get("mcu"), f"{PREFIX}MCU__"
    if environ.get(f"{variable}TYPE") == sfu or any(name.startswith(variable + sfu.upper()) for name in environ):
        return True
    return isinstance(mcu, dict) and (sfu in mcu or mcu.get("type") == sfu)


def file_schema(types: dict[str, Any]) -> inspect.StructType:
    """Return the type of the whole file; ``types`` has the type of each SFU's section by the SFU's name."""
    sfu_sections = tuple(
        inspect.Field(
            name, name, inspect.type_info(types[name]) if name in types else inspect.AnyType(), required=False
        )
        for name in factory.names()
    )
    config, mcu = _struct_type(Config), _struct_type(McuSection)
    mcu = msgspec.structs.replace(
        mcu, fields=tuple(field for field in mcu.fields if field.name != "settings") + sfu_sections
    )
    fields = tuple(
        msgspec.structs.replace(field, type=mcu) if field.name == "mcu" else field for field in config.fields
    )
    return msgspec.structs.replace(config, fields=fields)


def _struct_type(type: Any) -> inspect.StructType:
    info = inspect.type_info(type)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{type} is not a Struct")
    return info


def _sfu_settings(name: str, sections: dict[str, Any], types: dict[str, Any], source: ConfigSource) -> Any:
    if name in sections:
        try:
            factory.check(name, sections[name])
        except ValueError as error:
            raise source.error(f"mcu.{name}", str(error)) from None
        return sections[name]
    if name not in types:
        raise source.error("mcu.type", f"expected one of {', '.join(factory.names())}, {NO_MCU}")
    if not isinstance(inspect.type_info(types[name]), inspect.StructType):
        raise source.error("mcu.type", f"is {name}, but there is no [[mcu.{name}]]")
    return source.convert({}, types[name], "mcu", name)
