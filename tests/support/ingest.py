"""Elasticsearch's ingest processors, as far as our pipeline uses them, by their documentation.

A stand-in, because Elasticsearch itself cannot be had from the package registries. It reads the shipped file, and
refuses what it does not know: a processor, an option, a form of a condition. docs/logs.md names what it cannot show.

The patterns keep to what Oniguruma (Elasticsearch) and Python's `re` read alike: classes, groups, `*`, `+`, `?`, `|`,
escapes of punctuation, `\\A`, `\\s`, `\\S`, and `$` at the end.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.support.service import ROOT

Document = dict[str, Any]
TEMPLATE: Document = json.loads((ROOT / "monitoring" / "elasticsearch" / "index-template.json").read_text())
_OPTIONS_OF_ALL = {"description", "if", "ignore_failure", "on_failure", "tag"}


class ProcessorError(Exception):
    """A processor failed; the pipeline goes on with its `on_failure`."""


def run(pipeline: Mapping[str, Any], document: Document) -> Document:
    """What a pipeline makes of a document."""
    assert set(pipeline) <= {"description", "version", "processors", "on_failure"}
    result: Document = json.loads(json.dumps(document))
    try:
        _run_all(pipeline["processors"], result, "")
    except ProcessorError as error:
        _run_all(pipeline["on_failure"], result, str(error))
    return result


def _run_all(processors: list[dict[str, Any]], document: Document, message: str) -> None:
    for processor in processors:
        ((name, options),) = processor.items()
        work, needed, optional = _PROCESSORS[name]
        given = set(options) - _OPTIONS_OF_ALL
        assert needed <= given <= needed | optional, f"{name}: wanted {needed} and maybe {optional}, got {given}"
        if not holds(options.get("if", "true"), document):
            continue
        try:
            work({**options, "failure": message}, document)
        except ProcessorError as error:
            if "on_failure" in options:
                _run_all(options["on_failure"], document, str(error))
            elif not options.get("ignore_failure", False):
                raise


def _json(options: dict[str, Any], document: Document) -> None:
    text = _get(document, options["field"])
    try:
        value = json.loads(text, strict=False)
    except (ValueError, TypeError) as error:
        raise ProcessorError(f"json: {error}") from error
    if not options.get("add_to_root"):
        _set(document, options["target_field"], value)
        return
    assert options["add_to_root_conflict_strategy"] == "merge"
    if not isinstance(value, dict):
        raise ProcessorError("json: cannot add non-map fields to root of document")
    _merge(document, value)


def _merge(into: Document, other: Document) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _dot_expander(options: dict[str, Any], document: Document) -> None:
    assert options["field"] == "*"
    assert options["override"] is True
    for key in [key for key in document if "." in key]:
        value = document.pop(key)
        _set(document, key, value)


def _grok(options: dict[str, Any], document: Document) -> None:
    text = _get(document, options["field"])
    for pattern in options["patterns"]:
        expression, fields = compile_grok(pattern, options["pattern_definitions"])
        if (found := re.search(expression, text)) is not None:
            for group, (field, kind) in fields.items():
                if found[group] is not None:
                    _set(document, field, int(found[group]) if kind in {"int", "long"} else found[group])
            return
    raise ProcessorError(f"grok: provided expressions do not match field value: {text!r}")


def compile_grok(pattern: str, definitions: Mapping[str, str]) -> tuple[str, dict[str, tuple[str, str]]]:
    """A grok pattern as a regular expression, and the field and type of each of its groups."""
    fields: dict[str, tuple[str, str]] = {}

    def expand(found: re.Match[str]) -> str:
        name, field, kind = found["name"], found["field"], found["kind"] or "string"
        assert name in definitions, f"pattern {name}: wanted one of ours, {sorted(definitions)}"
        assert kind in {"string", "int", "long"}
        group = f"f{len(fields)}"
        fields[group] = (field, kind)
        return f"(?P<{group}>{definitions[name]})"

    expression = re.sub(r"%\{(?P<name>\w+):(?P<field>[\w.]+)(?::(?P<kind>\w+))?\}", expand, pattern)
    for part in [pattern.removesuffix("$"), *definitions.values()]:
        assert not re.search(r"\(\?|\$(?!\{)|\^(?<!\[\^)|\\[a-zA-Z](?<!\\[AsS])", part), f"not alike in both: {part}"
    return expression, fields


def _date(options: dict[str, Any], document: Document) -> None:
    assert options["formats"] == ["ISO8601"]
    try:
        time = datetime.datetime.fromisoformat(_get(document, options["field"]))
    except ValueError as error:
        raise ProcessorError(f"date: {error}") from error
    document["@timestamp"] = time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _set_processor(options: dict[str, Any], document: Document) -> None:
    if "copy_from" in options:
        value = _get(document, options["copy_from"])
    else:
        value = options["value"].replace("{{{_ingest.on_failure_message}}}", options["failure"])
        assert "{{" not in value
    _set(document, options["field"], value)


def _append(options: dict[str, Any], document: Document) -> None:
    there = _find(document, options["field"])
    values = there if isinstance(there, list) else [] if there is None else [there]
    _set(document, options["field"], [*values, options["value"]])


def _remove(options: dict[str, Any], document: Document) -> None:
    assert "." not in options["field"]
    if document.pop(options["field"], None) is None and not options.get("ignore_missing", False):
        raise ProcessorError(f"remove: field {options['field']} not present")


# Each with the options that it needs and those that it may have.
_PROCESSORS: dict[str, tuple[Callable[[dict[str, Any], Document], None], set[str], set[str]]] = {
    "json": (_json, {"field"}, {"target_field", "add_to_root", "add_to_root_conflict_strategy"}),
    "dot_expander": (_dot_expander, {"field", "override"}, set()),
    "grok": (_grok, {"field", "patterns", "pattern_definitions"}, set()),
    "date": (_date, {"field", "formats"}, set()),
    "set": (_set_processor, {"field"}, {"value", "copy_from"}),
    "append": (_append, {"field", "value"}, set()),
    "remove": (_remove, {"field"}, {"ignore_missing"}),
}

_PATH = r"ctx(?:\??\.\w+)+"
_TERM = re.compile(
    rf"(?P<field>{_PATH}) (?P<operator>==|!=) (?:null|'(?P<text>[^']*)')"
    rf"|(?P<called>{_PATH})\.(?P<method>startsWith|endsWith|contains)\('(?P<argument>[^']*)'\)"
)


def holds(condition: str, document: Document) -> bool:
    """Whether a condition in Painless holds; a few of its forms, joined by &&."""
    if condition == "true":
        return True
    return all(_term_holds(term, document) for term in condition.split(" && "))


def _term_holds(term: str, document: Document) -> bool:
    found = _TERM.fullmatch(term)
    assert found is not None, f"condition {term!r}: not one of the known forms"
    if found["method"]:
        method = {"startsWith": "startswith", "endsWith": "endswith", "contains": "__contains__"}[found["method"]]
        return bool(getattr(_painless(document, found["called"]), method)(found["argument"]))
    return (_painless(document, found["field"]) == found["text"]) == (found["operator"] == "==")


def _painless(document: Document, path: str) -> Any:
    """A field, or null; without `?` a missing object on the way is an error, as it is there."""
    value: Any = document
    for safe, name in re.findall(r"(\??)\.(\w+)", path):
        if value is None:
            assert safe, f"{path}: null pointer before {name}"
            return None
        value = value.get(name)
    return value


def _find(document: Document, path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _get(document: Document, path: str) -> Any:
    if (value := _find(document, path)) is None:
        raise ProcessorError(f"field [{path}] not present as part of path")
    return value


def _set(document: Document, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise ProcessorError(f"cannot set [{path}]: [{part}] is no object")
    document[last] = value


def flat(document: Document, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a document by their dotted names."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def field_types(properties: Document, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a mapping by their dotted names."""
    for name, mapping in properties.items():
        if "properties" in mapping:
            yield from field_types(mapping["properties"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", mapping["type"]
