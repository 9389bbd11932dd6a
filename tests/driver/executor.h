// The host executor of kernels, for the software GPU. tests/simt/machine.h has names of its own for much
// of what gpu.h names, so only executor.cpp sees both.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

enum class Threads { FORWARD, REVERSE, RANDOM };

struct Extent {
  uint64_t address, bytes;
};

// One launch: the kernel's entry, its dynamic shared memory, and the memory that it may reach.
struct Blocks {
  void (*call)(void**);
  uint8_t* dynamic;
  uint32_t grid[3];
  uint32_t threads, dynamic_bytes, limit_ms;
  Threads order;
  uint64_t seed;
  bool late_copies;
  std::vector<void*> arguments;
  std::vector<Extent> operands;
};

// False after a fault: its message, and where in the kernel's library it happened.
bool run_blocks(const Blocks& blocks, std::string* message, uint64_t* pc);
