"""Settings that do not go together with those of the resources they refer to, as kinds tell them."""

from __future__ import annotations

from collections.abc import Mapping

from aifw.kind import Kind
from aifw.spec.models import Resource
from aifw.spec.references import Resolver


def check_agreement(resources: Mapping[str, Resource], resolver: Resolver) -> None:
    """Ask every kind that has something to say."""
    for resource in resources.values():
        kind = resource.kind
        if type(kind).disagreements is Kind.disagreements:
            continue
        inputs = {
            reference.field: resources[reference.address].settings
            for reference in resource.references
            if reference.alias is None and reference.address in resources
        }
        for each in kind.disagreements(resource.settings, inputs):
            place = (*resource.address.split(".", 1), *each.field)
            resolver.complain(place, "AIFW024", each.message, each.advice)
