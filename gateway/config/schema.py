"""JSON Schema of the configuration file, generated from the types into which the file is decoded.

Source: JSON Schema 2020-12.
"""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from gateway.config.loading import file_schema
from gateway.config.sections import NO_MCU
from gateway.config.source import FILE_SUFFIX
from mcu import factory

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of a complete file.

    The schema applies to the TOML file, for editors and validators; it does not know values from the environment.
    """
    schema = _schema(file_schema({name: factory.settings_type(name) for name in factory.names()}))
    schema["properties"]["mcu"]["properties"]["type"] |= {"enum": [*factory.names(), NO_MCU]}
    return {"$schema": DIALECT, "title": "Configuration of Portunus", **schema}


def _schema(type: inspect.Type) -> dict[str, Any]:
    match type:
        case inspect.Metadata():
            return _schema(type.type)
        case inspect.StructType():
            return _struct_schema(type)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType() | inspect.FloatType():
            return _number_schema(type)
        case inspect.StrType():
            return {"type": "string"}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.VarTupleType() | inspect.ListType():
            return {"type": "array", "items": _schema(type.item_type)}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _schema(type.value_type)}
        case inspect.UnionType():  # TOML has no null: a key without a value is left out
            members = [_schema(member) for member in type.types if not isinstance(member, inspect.NoneType)]
            return members[0] if len(members) == 1 else {"anyOf": members}
    raise TypeError(f"{type} has no JSON Schema")


def _number_schema(type: inspect.IntType | inspect.FloatType) -> dict[str, Any]:
    bounds = {"minimum": type.ge, "exclusiveMinimum": type.gt, "maximum": type.le, "exclusiveMaximum": type.lt}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": "integer" if isinstance(type, inspect.IntType) else "number", **given}


def _struct_schema(type: inspect.StructType) -> dict[str, Any]:
    """Return the schema of a section; each string key also has a form ``…_file``, the path of a file with the value."""
    properties: dict[str, Any] = {}
    required = []
    conditions = []
    names = {field.encode_name for field in type.fields}
    for field in type.fields:
        name, file_key = field.encode_name, f"{field.encode_name}{FILE_SUFFIX}"
        properties[name] = _schema(field.type)
        has_file = isinstance(field.type, inspect.StrType) and file_key not in names
        if has_file:
            properties[file_key] = {"type": "string", "description": f"path of a file with the value of {name}"}
            either = [{"required": [name]}, {"required": [file_key]}]
            conditions.append({"oneOf": either} if field.required else {"not": {"required": [name, file_key]}})
        elif field.required:
            required.append(name)
    doc_lines = (type.cls.__doc__ or "").strip().splitlines()
    return {
        "type": "object",
        **({"description": doc_lines[0].replace("``", "")} if doc_lines else {}),
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
        **({"allOf": conditions} if conditions else {}),
    }
