"""The forms of interpolation that only OmegaConf understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)
from omegaconf.grammar_parser import parse

from aifw.spec.source import Path, walk

SAFE = frozenset({"oc.create", "oc.decode", "oc.dict.keys", "oc.dict.values", "oc.env", "oc.select"})
"""Resolvers a spec may use. OmegaConf's `oc.coerce` imports any module it is told to, and other packages register their own."""

_MALFORMED = "this interpolation is not well formed"
_MARKER: Any = object()


class Omega:
    """Resolves single values of a spec.

    Args:
        data: The spec before interpolation. It is Omega's from here on.
        environment: What `oc.env` sees.
    """

    def __init__(self, data: dict[str, Any], environment: Mapping[str, str]) -> None:
        self.malformed = {path for path, value in walk(data) if isinstance(value, str) and not _well_formed(value)}
        for path in self.malformed:
            # One malformed value must not keep the others from being read.
            _replace(data, path, "")
        self.config = OmegaConf.create(data)
        self.environment = environment

    def resolve(self, path: Path) -> Any:
        """The value at `path`.

        Raises:
            ValueError: It cannot be resolved; the message is a code of `aifw explain`, a blank, and what is wrong.
        """
        if path in self.malformed:
            raise ValueError(f"AIFW043 {_MALFORMED}")
        resolvers = _resolvers()
        former = dict(resolvers)
        for name in former.keys() - SAFE:
            del resolvers[name]
        # Renamed in OmegaConf 2.4, where the old name warns.
        register = getattr(OmegaConf, "register_resolver", None) or OmegaConf.register_new_resolver
        register("oc.env", self._environment, replace=True)
        try:
            at: Any = self.config
            for part in path:
                at = at[part]
            if isinstance(at, DictConfig | ListConfig):
                at = OmegaConf.to_container(at, resolve=True)
        except InterpolationKeyError as error:
            raise ValueError(f"AIFW040 {_first_line(error)}") from None
        except UnsupportedInterpolationType as error:
            name = _first_line(error).rpartition(" ")[2]
            raise ValueError(f"AIFW043 there is no resolver `{name}`; there are {', '.join(sorted(SAFE))}") from None
        except GrammarParseError:
            raise ValueError(f"AIFW043 {_MALFORMED}") from None
        except InterpolationResolutionError as error:
            unset = isinstance(error.__cause__, KeyError) or "KeyError raised" in str(error)
            raise ValueError(f"{'AIFW041' if unset else 'AIFW043'} {_first_line(error)}") from None
        except (OmegaConfBaseException, RecursionError) as error:
            circle = isinstance(error, RecursionError) or "Recursi" in str(error)
            raise ValueError(
                "AIFW042 values go round in a circle" if circle else f"AIFW043 {_first_line(error)}"
            ) from None
        finally:
            resolvers.clear()
            resolvers.update(former)
        return at

    def _environment(self, name: str, default: Any = _MARKER) -> str | None:
        value = self.environment.get(name)
        if value is not None:
            return value
        if default is _MARKER:
            raise KeyError(f"the environment variable `{name}` is not set")
        return None if default is None else str(default)


def _well_formed(text: str) -> bool:
    if "${" not in text:
        return True
    try:
        parse(text)
    except GrammarParseError:
        return False
    return True


def _replace(data: Any, path: Path, value: str) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value


def _resolvers() -> dict[str, Any]:
    from omegaconf.basecontainer import BaseContainer

    return BaseContainer._resolvers  # type: ignore[no-any-return]


def _first_line(error: BaseException) -> str:
    text = str(error).splitlines()[0]
    _, _, after = text.partition("raised while resolving interpolation: ")
    return (after or text).strip("'\"")
