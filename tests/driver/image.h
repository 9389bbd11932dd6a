// What libnvrtc.so makes and libcuda.so.1 loads: this header, then a library for the host executor.
#pragma once
#include <cstdint>

constexpr char IMAGE_MAGIC[8] = {'S', 'O', 'F', 'T', 'G', 'P', 'U', '1'};

struct ImageHeader {
  char magic[8];
  char architecture[16];
  char kernel[64];
  uint32_t release;       // major version of the NVRTC
  uint32_t static_bytes;  // shared memory that the kernel declares
  uint64_t bytes;         // of the library
};
