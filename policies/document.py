"""Documents that people write: a Policy or Claims, strict and versioned, every error with its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from policies.errors import DocumentInvalid
from policies.model.codec import from_plain_strict
from policies.model.policy import Policy
from policies.model.workload import Claim
from policies.soundness import faults_of_claim, faults_of_policy
from policies.yamltext import Located, documents

API_VERSION = "partage/v1"
T = TypeVar("T")


def parse_policy(text: str, file: str = "<policy>") -> Policy:
    """Return the policy that the YAML text describes. Raises ``DocumentInvalid`` with line, column and path."""
    found = documents(text, file)
    if len(found) != 1:
        raise DocumentInvalid(file, 1, 1, "", f"expected one document of kind Policy, found {len(found)}")
    policy = _noun(found[0], file, "Policy", Policy)
    for path, fault in faults_of_policy(policy):
        raise _at(found[0], file, ("spec", *path), fault)
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
    for path, fault in faults_of_claim(claim):
        raise _at(found, file, ("spec", *path), fault)
    return claim


def with_ladder(claim: Claim, ladder: tuple[Any, ...]) -> Claim:
    """Return the claim with this ladder if it has none of its own, else the claim itself."""
    return claim if claim.ladder else replace(claim, ladder=ladder)


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
    for key in envelope:
        if key not in ("apiVersion", "kind", "spec"):
            raise _at(found, file, (key,), "unknown field; a document has apiVersion, kind and spec")
    if envelope.get("apiVersion") != API_VERSION:
        raise _at(found, file, ("apiVersion",), f"expected {API_VERSION}, found {envelope.get('apiVersion')!r}")
    if envelope.get("kind") != kind:
        raise _at(found, file, ("kind",), f"expected {kind}, found {envelope.get('kind')!r}")
    try:
        return from_plain_strict(noun, envelope.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(part for part in first["loc"] if isinstance(part, str | int))
        raise _at(found, file, path, _said(first["type"], first["msg"])) from None


def _said(kind: str, message: str) -> str:
    if kind == "unexpected_keyword_argument":
        return "unknown field"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "this field is required"
    return message[0].lower() + message[1:]


def _at(found: Located, file: str, path: tuple[str | int, ...], fault: str) -> DocumentInvalid:
    line, column = found.place(path)
    return DocumentInvalid(file, line, column, ".".join(str(part) for part in path), fault)
