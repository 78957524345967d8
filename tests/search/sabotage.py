"""Mistakes that the comparison of kernels must find: each would go unnoticed if one of its checks were missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from compiled import SOURCES


@dataclass(frozen=True)
class Mistake:
    """A level whose kernels go wrong, the functions it shows in, and what is replaced by what in a source."""

    level: str
    functions: tuple[str, ...]
    source: str
    before: str
    after: str

    @property
    def label(self) -> str:
        """A name for the test."""
        return f"{self.level}-{self.functions[0]}-{self.after[:30]}"

    def write(self, folder: Path) -> Path:
        """The level's file with the mistake; what it includes is beside it."""
        for name in (f"{self.level}.cpp", "avx256.h", "avx512.h"):
            shutil.copy(SOURCES / name, folder)
        text = (folder / self.source).read_text(encoding="utf-8")
        assert self.before in text
        (folder / self.source).write_text(text.replace(self.before, self.after), encoding="utf-8")
        return folder / f"{self.level}.cpp"


BOTH = ("filter", "filter_six")
# Six steps of six bits, or ten of four, overflow sums of 16 bits, but only with nearly the largest codes; so does adding two sums.
SIX_STEPS = ("? g + kStepsOfSix / 2", "&& g + 3 < segment.code_dimensions / 8 ? g + 3")
OTHER_LIFT = ("tile.lift[u])", "tile.lift[0])")
NARROW = (
    "_mm256_madd_epi16(sums, _mm256_set1_epi16(1))",
    "_mm256_srai_epi32(_mm256_slli_epi32(_mm256_add_epi16(sums, _mm256_srli_epi32(sums, 16)), 16), 16)",
)
TWO_STEPS_MORE = ("step < kStepsOfFour;", "step < kStepsOfFour + 2 && query < end;")
ADD_OF_512 = "sums = Sums::add(sums, _mm512_and_si512(_mm512_srli"
ADD_OF_256 = "sums[h] = Sums::add(sums[h], upper, q1);"
LAST_HALF_OF_512 = (ADD_OF_512, f"if (query + 8 < end) {ADD_OF_512}")
LAST_HALF_OF_256 = (ADD_OF_256, f"if (query + 8 < end) {ADD_OF_256}")
OTHER_RADIUS = ("widen(fine->radius", "widen(header->radius")
OTHER_REACH = ("fine->reach", "segment.reach[first + b]")
FIFTEEN = ("refine<Sums, 3>", "refine<Sums, 15>")
FOUR_FOR_THREE = ("_of<Sums, 3>", "_of<Sums, 4>")
SEVEN_FOR_EIGHT = ("_of<Sums, 8>", "_of<Sums, 7>")
NEVER_LEFT = ("leaves = !tile.closes", "leaves = !tile.opens")
HITS_OF_COPIES = ("t < count;", "t < kTall;")
UNTOUCHED_COUNT = ("counts[u] = found[u]", "if (found[u]) counts[u] = found[u]")
CODES_OF_OTHER_256 = ("codes + b * aifw", "codes + (b ? b - 1 : 0) * aifw")
CODES_OF_OTHER_512 = ("codes + blocks[t] * aifw", "codes + (blocks[t] ? blocks[t] - 1 : 0) * aifw")
TWO_GROUPS_LESS = ("g < segment.code_dimensions / 8;", "g + 2 < segment.code_dimensions / 8;")
FIRST_BLOCKS = (
    "behind_low_planes(segment, first + blocks[t]) + sizeof",
    "behind_low_planes(segment, blocks[t]) + sizeof",
)
FUSED = (
    "__m512 bound = "
    "_mm512_fmadd_ps(centred, _mm512_mul_ps(scale, _mm512_set1_ps(tile.scale[u])), spread); (void)middle;"
)
OTHER_ORDER = (
    "_mm256_add_ps(_mm256_add_ps(middle, _mm256_mul_ps(reach, _mm256_set1_ps(tile.error[u]))), "
    "_mm256_mul_ps(radius, _mm256_set1_ps(tile.norm[u])))"
)

MISTAKES = [
    *(
        Mistake(level, functions, "avx512.h", before, after)
        for level, functions, before, after in [
            ("avx512", ("filter",), *LAST_HALF_OF_512),
            ("avx512vnni", ("filter",), *LAST_HALF_OF_512),
            ("avx512", ("filter",), *TWO_STEPS_MORE),
            ("avx512", ("filter_six",), *SIX_STEPS),
            ("avx512", ("refine",), "m + 32 * kStepsOfFour", "m + 32 * (kStepsOfFour + 1)"),
            ("avx512", ("unpack", "filter_six"), "_mm256_set1_epi16(6)", "_mm256_set1_epi16(4)"),
            ("avx512vnni", ("unpack", "filter_six"), "_mm512_set1_epi16(2)", "_mm512_set1_epi16(1)"),
            ("avx512", ("unpack", "filter_six"), *TWO_GROUPS_LESS),
            ("avx512vnni", ("unpack", "filter_six"), *FIRST_BLOCKS),
            ("avx512", ("filter_six",), *OTHER_RADIUS),
            ("avx512vnni", ("filter_six",), *OTHER_REACH),
            ("avx512vnni", ("filter_six",), *FOUR_FOR_THREE),
            ("avx512", ("filter_six",), *UNTOUCHED_COUNT),
            ("avx512vnni", ("unpack", "filter_six"), *CODES_OF_OTHER_512),
            ("avx512vnni", ("filter_six",), *SEVEN_FOR_EIGHT),
            ("avx512vnni", ("unpack",), *NEVER_LEFT),
            ("avx512vnni", ("filter_six",), *HITS_OF_COPIES),
            (
                "avx512vnni",
                BOTH,
                "__m512 bound = _mm512_add_ps(middle, spread);",
                FUSED,
            ),
            ("avx512", BOTH, "_CMP_NLT_UQ", "_CMP_GE_OQ"),
            ("avx512vnni", BOTH, "mask & _mm512_cmp", "0xffff & _mm512_cmp"),
            ("avx512vnni", BOTH, "tile.biased", "tile.queries > 4"),
            ("avx512", ("refine", "refine_six"), "_mm512_srlv_epi16(twice, shifts)", "((void)shifts, twice)"),
            ("avx512vnni", ("refine", "refine_six"), "query + 2 * m", "query + 2 * (m & 63)"),
            ("avx512vnni", ("refine_six",), *FIFTEEN),
            ("avx512", ("inner_product", "squared_distance"), "i < floats", "i + 16 < floats"),
            ("avx512vnni", ("squared_distance",), "_mm512_sub_pd(a, b)", "_mm512_add_pd(a, b)"),
        ]
    ),
    Mistake(
        "avx512vnni",
        ("filter", "filter_six", "refine", "refine_six"),
        "avx512vnni.cpp",
        "(sums, codes, query)",
        "(sums, query, codes)",
    ),
    Mistake("avx2", ("filter", "filter_six", "refine"), "avx2.cpp", *NARROW),
    Mistake("avx2", ("filter_six",), "avx2.cpp", "_mm256_set1_epi32(*centre)", "_mm256_set1_epi16(*centre)"),
    *(
        Mistake(level, functions, "avx256.h", before, after)
        for level, functions, before, after in [
            ("avx2", ("filter",), *LAST_HALF_OF_256),
            ("avxvnni", ("filter",), *LAST_HALF_OF_256),
            ("avx2", ("filter",), *TWO_STEPS_MORE),
            ("avx2", ("filter_six",), *OTHER_LIFT),
            ("avx2", ("refine",), "m + 16 * kStepsOfFour", "m + 16 * (kStepsOfFour + 2)"),
            ("avx2", ("unpack", "filter_six"), "_mm256_srli_epi16(packed.bits, 2)", "packed.bits"),
            ("avxvnni", ("unpack", "filter_six"), "_mm256_srli_epi16(packed.bits, 4)", "packed.bits"),
            ("avx2", ("unpack",), "store(rows + 64, last)", "store(rows, last)"),
            ("avxvnni", ("unpack", "filter_six"), "bits += 32", "bits += 16"),
            ("avxvnni", ("filter_six",), *OTHER_RADIUS),
            ("avx2", ("filter_six",), *OTHER_REACH),
            ("avx2", ("filter_six",), *FOUR_FOR_THREE),
            ("avxvnni", ("filter_six",), *UNTOUCHED_COUNT),
            ("avx2", ("unpack", "filter_six"), *CODES_OF_OTHER_256),
            (
                "avxvnni",
                BOTH,
                "_mm256_add_ps(middle, spread)",
                OTHER_ORDER,
            ),
            ("avx2", BOTH, "_CMP_NLT_UQ", "_CMP_GE_OQ"),
            ("avxvnni", BOTH, "& mask & 0xff", "& 0xff"),
            ("avx2", BOTH, "mask >> 8 * h", "mask"),
            ("avx2", BOTH, "tile.biased", "tile.queries > 4"),
            ("avxvnni", ("refine", "refine_six"), "load(query + 2 * m + 32)", "load(query + 2 * m)"),
            ("avx2", ("refine_six",), *FIFTEEN),
            ("avx2", ("inner_product", "squared_distance"), "i < floats", "i + 16 < floats"),
            ("avxvnni", ("squared_distance",), "_mm256_sub_pd(a, b)", "_mm256_add_pd(a, b)"),
        ]
    ),
]
