#include "executor.h"

#include "../simt/machine.h"

extern "C" int simt_launch(void (*call)(void**), u8* dynamic, const Config* config, void** arguments, Failure* failure);

bool run_blocks(const Blocks& blocks, std::string* message, uint64_t* pc) {
  std::vector<Region> regions;
  for (const Extent& e : blocks.operands) regions.push_back({e.address, 1, e.bytes, e.bytes});
  Config config = {};
  for (int i = 0; i < 3; i++) config.grid[i] = blocks.grid[i];
  config.block = blocks.threads;
  config.dynamic_bytes = blocks.dynamic_bytes;
  config.order = blocks.order == Threads::FORWARD ? FORWARD : blocks.order == Threads::REVERSE ? REVERSE : RANDOM;
  config.seed = blocks.seed;
  config.late = blocks.late_copies;
  config.limit_ms = blocks.limit_ms;
  config.regions = regions.data();
  config.region_count = regions.size();
  Failure failure = {};
  std::vector<void*> arguments = blocks.arguments;
  if (!simt_launch(blocks.call, blocks.dynamic, &config, arguments.data(), &failure)) return true;
  *message = failure.message;
  *pc = failure.pc;
  return false;
}
