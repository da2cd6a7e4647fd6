"""The names in JSON values of conversations, for the level ``federated``: rooms, actors and mentions.

Source: reference 12.2.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conversations.player import Json


def renamed_rooms(value: Json, prefix: str) -> Json:
    """Put a prefix before each room id in a value, also in comments and mentions."""
    if isinstance(value, dict):
        names = ("roomid", "token", "id") if value.get("type") == "call" else ("roomid", "token")
        return {
            key: prefix + item if key in names and isinstance(item, str) and item else renamed_rooms(item, prefix)
            for key, item in value.items()
        }
    return [renamed_rooms(item, prefix) for item in value] if isinstance(value, list) else value


def mapped_actors(value: Json, rule: Callable[[str, str], tuple[str, str]]) -> Json:
    """Replace type and id of each actor in a value by those of the rule."""
    if isinstance(value, list):
        return [mapped_actors(item, rule) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: mapped_actors(item, rule) for key, item in value.items()}
    for type, id in (("actorType", "actorId"), ("lastEditActorType", "lastEditActorId")):
        if isinstance(value.get(type), str) and isinstance(value.get(id), str):
            changed[type], changed[id] = rule(value[type], value[id])
    return changed


def mapped_mentions(value: Json, rule: Callable[[Json], Json]) -> Json:
    """Replace each mention of a user in a value by that of the rule."""
    if isinstance(value, list):
        return [mapped_mentions(item, rule) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: mapped_mentions(item, rule) for key, item in value.items()}
    for key, item in changed.items():
        if key.startswith("mention-") and isinstance(item, dict) and item.get("type") == "user":
            changed[key] = rule(item)
    return changed
