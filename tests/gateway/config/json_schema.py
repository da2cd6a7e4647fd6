"""Validator for the part of JSON Schema that the configuration's schema uses."""

from __future__ import annotations

from typing import Any

ANNOTATIONS = {"$schema", "title", "description"}
VALIDATED = {
    *("type", "enum", "minimum", "exclusiveMinimum", "maximum", "items", "required"),
    *("properties", "additionalProperties", "anyOf", "oneOf", "allOf", "not"),
}


def is_valid(value: object, schema: dict[str, Any]) -> bool:
    """Return whether a value conforms to a schema."""
    return all(_conforms(keyword, value, schema) for keyword in schema.keys() - ANNOTATIONS)


def keywords(schema: dict[str, Any]) -> set[str]:
    """Return the keywords of a schema and of all schemas in it."""
    inner = [*schema.get("properties", {}).values()]
    inner += [schema[name] for name in ("items", "additionalProperties", "not") if isinstance(schema.get(name), dict)]
    inner += [member for name in ("anyOf", "oneOf", "allOf") for member in schema.get(name, ())]
    return set(schema).union(*map(keywords, inner))


def _conforms(keyword: str, value: object, schema: dict[str, Any]) -> bool:
    argument = schema[keyword]
    if keyword in ("enum", "anyOf", "oneOf", "allOf") and not argument:
        raise ValueError(f"{keyword} must not be empty")
    match keyword:
        case "type":
            return _has_type(value, argument)
        case "enum":
            return value in argument
        case "minimum":
            return not _is_number(value) or value >= argument
        case "exclusiveMinimum":
            return not _is_number(value) or value > argument
        case "maximum":
            return not _is_number(value) or value <= argument
        case "items":
            return not isinstance(value, list) or all(is_valid(item, argument) for item in value)
        case "required":
            return not isinstance(value, dict) or set(argument) <= value.keys()
        case "properties":
            return not isinstance(value, dict) or all(
                is_valid(value[name], subschema) for name, subschema in argument.items() if name in value
            )
        case "additionalProperties":
            return not isinstance(value, dict) or _others_conform(value, argument, schema)
        case "anyOf":
            return any(is_valid(value, subschema) for subschema in argument)
        case "oneOf":
            return [is_valid(value, subschema) for subschema in argument].count(True) == 1
        case "allOf":
            return all(is_valid(value, subschema) for subschema in argument)
        case "not":
            return not is_valid(value, argument)
    raise ValueError(f"unknown keyword {keyword}")


def _others_conform(value: dict[str, Any], argument: Any, schema: dict[str, Any]) -> bool:
    others = value.keys() - schema.get("properties", {}).keys()
    return not others if argument is False else all(is_valid(value[name], argument) for name in others)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_type(value: object, name: str) -> bool:
    match name:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return _is_number(value) and value == int(value)  # type: ignore[call-overload]
        case "number":
            return _is_number(value)
    raise ValueError(f"unknown type {name}")
