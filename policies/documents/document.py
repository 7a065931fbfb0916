"""Documents that people write: a Policy or Claims, strict and versioned, every error with its place."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from policies.documents.errors import DocumentInvalid
from policies.documents.soundness import faults_of_claim, faults_of_policy
from policies.documents.yamltext import Located, documents
from policies.model.codec import from_plain_strict
from policies.model.policy import Policy
from policies.model.workload import Claim

API_VERSION = "partage/v1"
T = TypeVar("T")


def parse_policy(text: str, file: str = "<policy>") -> Policy:
    """Return the policy that the YAML text describes. Raises ``DocumentInvalid`` with line, column and path."""
    found = documents(text, file)
    if len(found) != 1:
        raise DocumentInvalid(file, 1, 1, "", f"expected one document of kind Policy, found {len(found)}")
    policy = _noun(found[0], file, "Policy", Policy)
    _refuse([_at(found[0], file, ("spec", *path), fault) for path, fault in faults_of_policy(policy)])
    return policy


def parse_claims(text: str, file: str = "<claims>") -> tuple[Claim, ...]:
    """Return the claims that the YAML text describes, one per document, in their order.

    A serving claim may name only its ``model`` and leave the ladder out: its ladder is then empty, and the caller
    fills it from the catalogue. Raises ``DocumentInvalid``.
    """
    return tuple(_claim(found, file) for found in documents(text, file))


def _claim(found: Located, file: str) -> Claim:
    spec = found.value.get("spec") if isinstance(found.value, dict) else None
    if isinstance(spec, dict) and "model" in spec:
        spec.setdefault("ladder", [])
        spec.setdefault("kind", "serving")
    claim = _noun(found, file, "Claim", Claim)
    _refuse([_at(found, file, ("spec", *path), fault) for path, fault in faults_of_claim(claim)])
    return claim


def kind_of(text: str, file: str = "<document>") -> str:
    """Return the kind that the first document names. Raises ``DocumentInvalid``."""
    found = documents(text, file)
    kind = found[0].value.get("kind") if found and isinstance(found[0].value, dict) else None
    if not isinstance(kind, str):
        raise DocumentInvalid(file, 1, 1, "kind", "a document names its kind: Policy or Claim")
    return kind


def _noun(found: Located, file: str, kind: str, noun: type[T]) -> T:
    envelope = found.value
    if not isinstance(envelope, dict):
        raise _at(found, file, (), f"expected a document of kind {kind}")
    faults = [
        _at(found, file, (key,), "unknown field; a document has apiVersion, kind and spec")
        for key in envelope
        if key not in ("apiVersion", "kind", "spec")
    ]
    for field, expected in (("apiVersion", API_VERSION), ("kind", kind)):
        if envelope.get(field) != expected:
            faults.append(_at(found, file, (field,), f"expected {expected}, found {_quoted(envelope, field)}"))
    _refuse(faults)
    try:
        return from_plain_strict(noun, envelope.get("spec"))
    except ValidationError as error:
        _refuse([_at(found, file, path, fault) for path, fault in faults_in(error)])
        raise


def _quoted(envelope: dict[str, object], field: str) -> str:
    return repr(envelope[field]) if field in envelope else "nothing"


def _refuse(faults: list[DocumentInvalid]) -> None:
    """Raise the first of the faults in the order of the document, the others with it; none is no error."""
    if faults:
        first, *others = sorted(faults, key=lambda fault: (fault.line, fault.column))
        first.others = tuple(others)
        raise first


def faults_in(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the path of each fault and what is wrong there; a value that fits none of two types is one fault."""
    found: dict[tuple[str | int, ...], str] = {}
    for fault in error.errors():
        path = tuple(fault["loc"])
        is_limit = len(path) > 1 and str(path[-2]).endswith("_limit_millis")
        is_moment = str(path[-1]).endswith(MOMENTS) and fault["type"].startswith("int_") if path else False
        told = LIMIT if is_limit else MOMENT if is_moment else said(fault["type"], fault["msg"])
        found[path[:-1] if is_limit else path] = told
    return list(found.items())


MOMENTS = ("_at_ms", "deadline_ms", "since_ms")
MOMENT = "expected a whole number: milliseconds since 1970 in UTC, such as 1790000000000; no date is read here"


LIMIT = "expected a whole number or unlimited"


def said(kind: str, message: str) -> str:
    """Return what is wrong with a value in the words of whoever wrote it; both arguments are pydantic's."""
    return SAID.get(kind) or message[0].lower() + message[1:]


SAID = {
    "unexpected_keyword_argument": "unknown field",
    "missing": "this field is required",
    "missing_argument": "this field is required",
    "missing_keyword_only_argument": "this field is required",
    "list_type": "expected a list: [a, b], or one item per line, each after a hyphen",
    "tuple_type": "expected a list: [a, b], or one item per line, each after a hyphen",
    "string_type": "expected text; put it in quotes if it looks like a number, a date or yes and no",
    "dict_type": "expected fields with their values",
    "dataclass_type": "expected fields with their values",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "bool_type": "expected true or false",
    "json_invalid": "this is not JSON",
}
"""Words for pydantic's kinds of fault."""


def _at(found: Located, file: str, path: tuple[str | int, ...], fault: str) -> DocumentInvalid:
    line, column = found.place(path)
    return DocumentInvalid(file, line, column, ".".join(str(part) for part in path), fault)
