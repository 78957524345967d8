# The table of ids, for Python. Included by _kernel.pyx.
from libc.stdint cimport int64_t as _id_type

import numpy as _numpy

cdef extern from "ids.h" namespace "aifw" nogil:
    cdef cppclass _IdTable "aifw::IdTable":
        _id_type size() const
        _id_type bytes() const
        _id_type insert(const _id_type* ids, _id_type count, _id_type first_slot) except +
        void find(const _id_type* ids, _id_type count, _id_type* slots) const
        void erase(const _id_type* ids, _id_type count, _id_type* slots)


cdef class IdTable:
    """Which slot an id is in: a hash table of 64-bit integers. Not for use by two threads at once."""

    cdef _IdTable table

    def __len__(self):
        return self.table.size()

    def insert(self, const _id_type[::1] ids, _id_type first_slot):
        """Enter ids for consecutive slots. Returns -1, or the position of the first id that is there already; then none is entered."""
        cdef _id_type position = -1
        if first_slot < 0:
            raise ValueError("slots are not negative")
        if ids.shape[0]:
            with nogil:
                position = self.table.insert(&ids[0], ids.shape[0], first_slot)
        return position

    def find(self, const _id_type[::1] ids):
        """Slot of each id, -1 where it is not there."""
        found = _numpy.empty(ids.shape[0], _numpy.int64)
        cdef _id_type[::1] slots = found
        if ids.shape[0]:
            with nogil:
                self.table.find(&ids[0], ids.shape[0], &slots[0])
        return found

    def erase(self, const _id_type[::1] ids):
        """The same, and the ids are gone."""
        found = _numpy.empty(ids.shape[0], _numpy.int64)
        cdef _id_type[::1] slots = found
        if ids.shape[0]:
            with nogil:
                self.table.erase(&ids[0], ids.shape[0], &slots[0])
        return found

    def bytes(self):
        """Memory it takes."""
        return self.table.bytes()
