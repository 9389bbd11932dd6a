// One launch: finds the block's shared memory in the kernel's library, runs the blocks one after
// another in the given order, and checks after each that nothing was written past the dynamic
// shared memory.
#include "machine.h"

#include <algorithm>
#include <link.h>

namespace {

struct Search {
  uintptr_t address;
  uintptr_t start, end;
  u8* storage;
  size_t storage_bytes;
};

// For dl_iterate_phdr: finds the library that holds `address`, its extent and its thread-local
// storage.
int find_library(dl_phdr_info* info, size_t, void* data) {
  Search& search = *(Search*)data;
  uintptr_t start = ~uintptr_t(0), end = 0;
  size_t storage_bytes = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const auto& header = info->dlpi_phdr[i];
    const uintptr_t from = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD) start = std::min(start, from), end = std::max(end, from + header.p_memsz);
    if (header.p_type == PT_TLS) storage_bytes = header.p_memsz;
  }
  if (search.address < start || search.address >= end) return 0;
  search.start = start, search.end = end;
  search.storage = (u8*)info->dlpi_tls_data, search.storage_bytes = storage_bytes;
  return 1;
}

// A permutation of the blocks that run.
std::vector<u32> sequence(u64 all) {
  const Config& c = machine->config;
  const bool cut = c.first_blocks + c.last_blocks > 0 && all > (u64)c.first_blocks + c.last_blocks;
  const u32 blocks = cut ? c.first_blocks + c.last_blocks : (u32)all;
  std::vector<u32> numbers(blocks);
  for (u32 i = 0; i < blocks; i++) {
    const u32 place = c.order == REVERSE ? blocks - 1 - i : i;
    numbers[i] = cut && place >= c.first_blocks ? (u32)(all - blocks) + place : place;
  }
  if (c.order == RANDOM) {
    for (u32 i = blocks; i > 1; i--) std::swap(numbers[i - 1], numbers[random_below(i)]);
  }
  return numbers;
}

void poison_shared_memory() {
  Machine& m = *machine;
  // All except dynamic memory that this launch did not request: filling it would cost more than
  // most blocks.
  u8* const unused = m.dynamic + std::min<size_t>(m.config.dynamic_bytes + DYNAMIC_GUARD, SIMT_DYNAMIC_BYTES);
  u8* const after = m.dynamic + SIMT_DYNAMIC_BYTES;
  memset(m.window, POISON, unused - m.window);
  memset(after, POISON, m.window + m.window_bytes - after);
}

// Limits of every device (CUDA C++ Programming Guide, compute capabilities).
void check_limits() {
  const Config& c = machine->config;
  if (c.block == 0 || c.block > 1024) report("a block of %u threads", c.block);
  const u32 most[3] = {0x7fffffff, 65535, 65535};
  for (int i = 0; i < 3; i++) {
    if (c.grid[i] == 0 || c.grid[i] > most[i]) report("a grid of %u x %u x %u blocks", c.grid[0], c.grid[1], c.grid[2]);
  }
  const size_t fixed = machine->window_bytes - SIMT_DYNAMIC_BYTES;
  if (fixed + c.dynamic_bytes > SIMT_DYNAMIC_BYTES) {
    report("%zu bytes of static and %u of dynamic shared memory", fixed, c.dynamic_bytes);
  }
}

void check_dynamic_guard() {
  Machine& m = *machine;
  const size_t end = std::min<size_t>(m.config.dynamic_bytes + DYNAMIC_GUARD, SIMT_DYNAMIC_BYTES);
  for (size_t i = m.config.dynamic_bytes; i < end; i++) {
    if (m.dynamic[i] == POISON) continue;
    m.pc = 0;
    report("a thread wrote byte %zu of %u of dynamic shared memory", i, m.config.dynamic_bytes);
    return;
  }
}

void run_block(u32 number) {
  Machine& m = *machine;
  const u32* grid = m.config.grid;
  m.block_number = number;
  m.blocks_begun++;
  simt_self.block = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
  poison_shared_memory();
  m.barrier_waiting = 0;
  for (Warp& warp : m.warps) warp.meetings.clear();
  prepare_threads();
  if (m.config.hooked) forget_block();
  run_threads();
  for (u32 warp = 0; m.config.hooked && warp < m.warps.size(); warp++) close_accesses(warp);
}

}  // namespace

u8* shared_memory(u32 address, u32 bytes, const char* what) {
  Machine& m = *machine;
  const u64 offset = (u64)address - SHARED_BASE;
  if (address < SHARED_BASE || offset + bytes > m.window_bytes) {
    fail("%s: 0x%x is not in shared memory", what, address);
  }
  u8* p = m.window + offset;
  if (p + bytes > m.dynamic + m.config.dynamic_bytes && p < m.dynamic + SIMT_DYNAMIC_BYTES) {
    const size_t end = m.config.dynamic_bytes;
    fail("%s of %u bytes at byte %zd of %zu of dynamic shared memory", what, bytes, p - m.dynamic, end);
  }
  return p;
}

extern "C" u32 simt_shared_address(const void* p) {
  ENTER();
  const size_t offset = (const u8*)p - machine->window;
  if (offset > machine->window_bytes) fail("the address of something that is not in shared memory");
  return (u32)offset + SHARED_BASE;
}

// Returns 0 when all blocks have run; otherwise `failure` describes the error.
extern "C" int simt_launch(void (*call)(void**), u8* dynamic, const Config* config, void** arguments,
                           Failure* failure) {
  static thread_local Machine of_this_thread;
  Machine& m = *(machine = &of_this_thread);
  if (m.failed) forget_stacks();
  m.config = *config, m.call = call, m.arguments = arguments, m.failure = failure, m.failed = false;
  m.current = nullptr, m.pc = 0, m.random = config->seed * 0x9e3779b97f4a7c15ull | 1;
  m.launch_stamp++;
  m.last_region = nullptr;

  Search search = {(uintptr_t)call, 0, 0, nullptr, 0};
  dl_iterate_phdr(find_library, &search);
  m.library_start = search.start, m.library_end = search.end;
  m.window = search.storage, m.window_bytes = search.storage_bytes, m.dynamic = dynamic;
  if (!m.window || (uintptr_t)dynamic % 1024) report("the library's shared memory is not where it was laid out");
  check_limits();
  if (m.failed) return 1;

  catch_faults();
  start_watching();
  simt_self.block_size = {config->block, 1, 1};
  simt_self.grid = {config->grid[0], config->grid[1], config->grid[2]};
  m.warps.resize((config->block + WARP - 1) / WARP);
  for (u32 number : sequence((u64)config->grid[0] * config->grid[1] * config->grid[2])) {
    run_block(number);
    if (!m.failed) check_dynamic_guard();
    if (m.failed) break;
  }
  stop_watching();
  return m.failed;
}
