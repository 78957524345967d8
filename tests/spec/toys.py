"""Kinds that only tests have, with every sort of setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from aifw.kind import AnyKind, ArtifactKind, Output
from aifw.settings import Duration, Money, Ref, Secret, Settings, Share, Size


class Grain(Output):
    name = "grain"


class Flour(Output):
    name = "flour"


class Bran(Output):
    name = "bran"


class FieldSettings(Settings):
    rows: Annotated[int, Field(ge=1)] = 1
    """How many rows."""
    path: str = "field"


class Stones(Settings):
    gap: Annotated[float, Field(gt=0, lt=2)] = 0.5
    speed: Literal["slow", "fast"] = "slow"


class MillSettings(Settings):
    grain: Annotated[Ref[Grain], Field(alias="from")]
    """What to mill."""
    blend: list[Ref[Grain | Flour]] = []
    parts: dict[str, Ref[Flour]] = {}
    stones: Stones = Stones()
    passes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    wet: bool = False
    loss: Annotated[Share, Field(ge=0, lt=0.5)] = 0.1
    bag: Size = 1024
    rest: Duration = 1.0
    price: Money | None = None
    names: tuple[str, ...] = ()
    token: Secret | None = None
    note: Annotated[str, Field(min_length=2, max_length=9, pattern=r"^[a-z ]*$")] | None = None


class Field_(ArtifactKind[FieldSettings]):  # noqa: N801 - `Field` is pydantic's
    """A field."""

    name = "field"
    section = "datasets"
    settings = FieldSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"grain": Grain}
    run = "toys:grow"


class Mill(ArtifactKind[MillSettings]):
    """A mill."""

    name = "mill"
    section = "stages"
    settings = MillSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"white": Flour, "whole": Flour, "bran": Bran}
    run = "toys:mill"


class Silo(ArtifactKind[FieldSettings]):
    """A silo, in a section of its own."""

    name = "silo"
    section = "barns"
    settings = FieldSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"grain": Grain}
    run = "toys:store"


KINDS: dict[str, AnyKind] = {kind.name: kind for kind in (Field_(), Mill(), Silo())}


def spec(**sections: Any) -> dict[str, Any]:
    """A spec of the toy kinds."""
    return {"apiVersion": "aifw/v1", "kind": "Stack", "metadata": {"name": "farm"}, **sections}
