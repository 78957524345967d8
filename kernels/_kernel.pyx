# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The compiled kernel as `aifw.search` sees it; `aifw/search/_kernel.pyi` says what each function does."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

import numpy as np

cdef extern from "layout.h" namespace "aifw" nogil:
    enum Metric "aifw::Metric":
        kInnerProduct "aifw::kInnerProduct"
        kCosine "aifw::kCosine"
        kSquaredDistance "aifw::kSquaredDistance"
    const int64_t kBlockRows
    const int64_t kMaximumDimensions
    cppclass Segment:
        int64_t dimensions
        int64_t row_floats
        int64_t code_dimensions
        int64_t block_bytes
        int64_t low_bytes
        int64_t count
        const float* rows
        const uint8_t* blocks
        const uint8_t* low
        const float* reach
        const float* fine
        const double* norms
        const int64_t* ids
        const uint16_t* mask
        double largest

cdef extern from "encode.h" namespace "aifw" nogil:
    cppclass SegmentArrays:
        int64_t dimensions
        int64_t row_floats
        int64_t code_dimensions
        int64_t block_bytes
        int64_t low_bytes
        const float* rows
        uint8_t* blocks
        uint8_t* low
        float* reach
        float* fine
        double* norms
    int64_t c_row_floats "aifw::row_floats"(int64_t)
    int64_t c_code_dimensions "aifw::code_dimensions"(int64_t)
    int64_t c_block_bytes "aifw::block_bytes"(int64_t)
    int64_t c_low_bytes "aifw::low_bytes"(int64_t)
    int64_t c_find_not_finite "aifw::find_not_finite"(const float*, int64_t, int64_t, int64_t)
    double c_encode "aifw::encode"(const SegmentArrays&, Metric, int64_t, int64_t, int) except +

cdef extern from "search.h" namespace "aifw" nogil:
    cppclass Statistics:
        int64_t rows
        int64_t refined
        int64_t scored
        int64_t exact
        int64_t summed
    int64_t c_eligible "aifw::eligible"(const vector[Segment]&)
    Statistics c_search "aifw::search"(
        const vector[Segment]&, const float*, int64_t, int64_t, Metric, int64_t, int, const vector[int]&, int64_t*, double*
    ) except +

cdef extern from "dispatch.h" namespace "aifw" nogil:
    cppclass Registers:
        uint32_t leaf1_ecx
        uint32_t leaf7_ebx
        uint32_t leaf7_ecx
        uint32_t leaf7_1_eax
        uint64_t xcr0
    const int kLevels
    const char* level_name(int)
    cbool level_built(int)
    cbool level_usable(int)
    cbool supports(const Registers&, int)
    cppclass Kernels:
        const char* name
    const Kernels& active()
    cbool c_select "aifw::select"(const char*)
    const char* c_compiler "aifw::compiler"()

include "ids.pxi"

INNER_PRODUCT = <int>kInnerProduct
COSINE = <int>kCosine
SQUARED_DISTANCE = <int>kSquaredDistance
BLOCK_ROWS = kBlockRows
MAXIMUM_DIMENSIONS = kMaximumDimensions


def built():
    return tuple(level_name(i).decode() for i in range(kLevels) if level_built(i))


def usable():
    return tuple(level_name(i).decode() for i in range(kLevels) if level_usable(i))


def usable_for(int64_t leaf1_ecx, int64_t leaf7_ebx, int64_t leaf7_ecx, int64_t leaf7_1_eax, int64_t xcr0):
    cdef Registers registers
    registers.leaf1_ecx = <uint32_t>leaf1_ecx
    registers.leaf7_ebx = <uint32_t>leaf7_ebx
    registers.leaf7_ecx = <uint32_t>leaf7_ecx
    registers.leaf7_1_eax = <uint32_t>leaf7_1_eax
    registers.xcr0 = <uint64_t>xcr0
    return tuple(level_name(i).decode() for i in range(kLevels) if supports(registers, i))


def level():
    return active().name.decode()


def select(str level not None):
    if not c_select(level.encode()):
        raise ValueError(f"{level} is not usable here; these are: {', '.join(usable())}")


def compiler():
    return c_compiler().decode()


def row_floats(int64_t dimensions):
    return c_row_floats(dimensions)


def block_bytes(int64_t dimensions):
    return c_block_bytes(dimensions)


def low_bytes(int64_t dimensions):
    return c_low_bytes(dimensions)


def find_not_finite(const float[:, :] rows not None):
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        return -1
    if rows.strides[1] != sizeof(float) or rows.strides[0] % sizeof(float):
        raise ValueError("rows must be contiguous")
    cdef int64_t stride = rows.strides[0] // <int64_t>sizeof(float)
    cdef int64_t found
    with nogil:
        found = c_find_not_finite(&rows[0, 0], rows.shape[0], rows.shape[1], stride)
    return found


cdef int64_t check(name, array, int64_t first, int64_t second=-1) except -1:
    """The kernel reads as far as shapes say, so no array may be smaller."""
    shape = array.shape
    if shape[0] < first or (second >= 0 and (len(shape) != 2 or shape[1] != second)):
        wanted = f"{first}" if second < 0 else f"{first} x {second}"
        raise ValueError(f"{name} has shape {shape}, and must have at least {wanted} elements")
    return 0


cdef int check_task(int64_t dimensions, int metric, int threads) except -1:
    if metric not in (INNER_PRODUCT, COSINE, SQUARED_DISTANCE):
        raise ValueError(f"there is no metric {metric}")
    if not 1 <= dimensions <= MAXIMUM_DIMENSIONS:
        raise ValueError(f"vectors have 1 to {MAXIMUM_DIMENSIONS} dimensions, not {dimensions}")
    if threads < 1:
        raise ValueError("at least one thread is needed")
    return 0


def encode(segment not None, int64_t dimensions, int metric, int64_t first, int64_t last, int threads):
    cdef float[:, ::1] rows = segment.rows
    cdef uint8_t[:, ::1] blocks = segment.blocks
    cdef uint8_t[:, ::1] low = segment.low
    cdef float[::1] reach = segment.reach
    cdef float[::1] fine = segment.fine
    cdef double[::1] norms = segment.norms
    cdef SegmentArrays arrays
    cdef double largest
    cdef int64_t whole = last // kBlockRows
    check_task(dimensions, metric, threads)
    if first < 0 or last < first:
        raise ValueError(f"there are no rows {first} to {last}")
    check("rows", segment.rows, last, c_row_floats(dimensions))
    check("blocks", segment.blocks, whole, c_block_bytes(dimensions))
    check("low", segment.low, whole * kBlockRows, c_low_bytes(dimensions))
    check("reach", segment.reach, whole)
    check("fine", segment.fine, whole * kBlockRows)
    check("norms", segment.norms, last)
    if first == last:
        return 0.0
    arrays.dimensions = dimensions
    arrays.row_floats = c_row_floats(dimensions)
    arrays.code_dimensions = c_code_dimensions(dimensions)
    arrays.block_bytes = c_block_bytes(dimensions)
    arrays.low_bytes = c_low_bytes(dimensions)
    arrays.rows = &rows[0, 0]
    arrays.blocks = &blocks[0, 0] if whole else NULL
    arrays.low = &low[0, 0] if whole else NULL
    arrays.reach = &reach[0] if whole else NULL
    arrays.fine = &fine[0] if whole else NULL
    arrays.norms = &norms[0]
    with nogil:
        largest = c_encode(arrays, <Metric>metric, first, last, threads)
    return largest


def search(segments not None, const float[:, ::1] queries not None, int64_t dimensions, int metric, int64_t k, int threads, cpus):
    cdef vector[Segment] views
    cdef Segment view
    cdef vector[int] processors
    cdef Statistics statistics
    cdef const float[:, ::1] rows
    cdef const uint8_t[:, ::1] blocks
    cdef const uint8_t[:, ::1] low
    cdef const float[::1] reach
    cdef const float[::1] fine
    cdef const double[::1] norms
    cdef const int64_t[::1] ids
    cdef const uint16_t[::1] mask
    cdef int64_t count, whole, width
    cdef int64_t[:, ::1] found_ids
    cdef double[:, ::1] scores
    check_task(dimensions, metric, threads)
    if k < 1:
        raise ValueError("k must be positive")
    if queries.shape[1] != dimensions:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, and must have {dimensions}")
    kept = []  # the arrays must outlive the search, also where nobody else holds them
    for segment, count, allowed, largest in segments:
        if count <= 0:
            continue
        whole = count // kBlockRows
        rows, blocks, low, reach, fine = segment.rows, segment.blocks, segment.low, segment.reach, segment.fine
        norms, ids = segment.norms, segment.ids
        check("rows", segment.rows, count, c_row_floats(dimensions))
        check("blocks", segment.blocks, whole, c_block_bytes(dimensions))
        check("low", segment.low, whole * kBlockRows, c_low_bytes(dimensions))
        check("reach", segment.reach, whole)
        check("fine", segment.fine, whole * kBlockRows)
        check("norms", segment.norms, count)
        check("ids", segment.ids, count)
        view.dimensions = dimensions
        view.row_floats = c_row_floats(dimensions)
        view.code_dimensions = c_code_dimensions(dimensions)
        view.block_bytes = c_block_bytes(dimensions)
        view.low_bytes = c_low_bytes(dimensions)
        view.count = count
        view.rows = &rows[0, 0]
        view.blocks = &blocks[0, 0] if whole else NULL
        view.low = &low[0, 0] if whole else NULL
        view.reach = &reach[0] if whole else NULL
        view.fine = &fine[0] if whole else NULL
        view.norms = &norms[0]
        view.ids = &ids[0]
        view.mask = NULL
        if allowed is not None:
            # A copy, so that a row removed meanwhile is either there for the whole search or not at all.
            copied = np.array(allowed, dtype=np.uint16, copy=True, order="C")
            check("mask", copied, (count + kBlockRows - 1) // kBlockRows)
            mask = copied
            view.mask = &mask[0]
            kept.append(copied)
        view.largest = largest
        views.push_back(view)
        kept.append((rows, blocks, low, reach, fine, norms, ids))
    if cpus is not None:
        for processor in cpus:
            processors.push_back(processor)
    width = min(k, c_eligible(views))
    result_ids = np.zeros((queries.shape[0], width), dtype=np.int64)
    # What a damaged file leaves without a score shows as such.
    result_scores = np.full((queries.shape[0], width), np.nan)
    if width and queries.shape[0]:
        found_ids = result_ids
        scores = result_scores
        with nogil:
            statistics = c_search(
                views, &queries[0, 0], queries.shape[0], dimensions, <Metric>metric, width, threads, processors,
                &found_ids[0, 0], &scores[0, 0],
            )
    counters = {
        "rows": statistics.rows,
        "refined": statistics.refined,
        "scored": statistics.scored,
        "exact": statistics.exact,
        "summed": statistics.summed,
    }
    return result_ids, result_scores, counters
