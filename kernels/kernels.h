// The instruction sets there are. Each file defines one table and includes nothing with inline code of its own.
#pragma once
#include "layout.h"

namespace aifw {

extern const Kernels kScalar;
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;

}  // namespace aifw
