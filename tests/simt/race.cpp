// The hooked build of a kernel: g++ -fsanitize=thread turns every load and store into a call of a
// __tsan function, and those are defined here instead of in ThreadSanitizer's runtime. Each access
// is checked
//   in shared memory: it is within the block's memory, not read before it is written, and not the
//     target of a copy in flight
//   in global memory: it is within a row of an operand of the launch (not in the gaps between rows)
//   in both: it is ordered with every other access if one of the two is a write (happens-before by
//     vector clocks; threads of one block by __syncthreads and __syncwarp, two blocks never)
//   on the stack: it is the thread's own
// so a missing barrier is found whatever the order in which the threads ran. Checks are per 2
// bytes, the smallest element of any kernel.
//
// -fsanitize=undefined is part of the hooked build: an index outside its array, a misaligned
// address (a fault on the device), a shift too far. Its handlers are here as well.
#include "machine.h"

#include <algorithm>
#include <unordered_map>

constexpr uintptr_t PAGE = 4096;

// Cells of global memory by page, kept from launch to launch: old ones are recognized by their
// stamps.
struct Page {
  Cell cells[PAGE / 2];
};
static thread_local std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
static thread_local Page* last_page;
static thread_local uintptr_t last_page_number;

// ---- clocks ------------------------------------------------------------------------------------------------------

void forget_block() {
  Machine& m = *machine;
  m.block_stamp++;
  m.shared_cells.resize(m.window_bytes / 2 + 1);
  const Clock nothing = std::make_shared<const std::vector<u32>>(m.config.block, 0);
  for (Thread& t : m.threads) t.tick = 1, t.clock = nothing;
}

void order_all() {
  Machine& m = *machine;
  for (u32 warp = 0; warp < m.warps.size(); warp++) close_accesses(warp);
  std::vector<u32> ticks(m.config.block);
  for (Thread& t : m.threads) ticks[t.number] = t.tick++;
  const Clock clock = std::make_shared<const std::vector<u32>>(std::move(ticks));
  for (Thread& t : m.threads) t.clock = clock;
}

void order_lanes(u32 warp, u32 mask) {
  Machine& m = *machine;
  close_accesses(warp);
  std::vector<u32> ticks(m.config.block, 0);
  const void* joined = nullptr;
  for (u32 lane = 0; lane < WARP; lane++) {
    if (!(mask >> lane & 1)) continue;
    const Thread& t = m.threads[warp * WARP + lane];
    if (t.clock.get() == joined) continue;
    joined = t.clock.get();
    for (u32 u = 0; u < m.config.block; u++) ticks[u] = std::max(ticks[u], (*t.clock)[u]);
  }
  for (u32 lane = 0; lane < WARP; lane++) {
    if (mask >> lane & 1) ticks[warp * WARP + lane] = m.threads[warp * WARP + lane].tick++;
  }
  const Clock clock = std::make_shared<const std::vector<u32>>(std::move(ticks));
  for (u32 lane = 0; lane < WARP; lane++) {
    if (mask >> lane & 1) m.threads[warp * WARP + lane].clock = clock;
  }
}

static bool ordered(u32 thread, u32 tick) {
  const Thread* self = machine->current;
  return thread == self->number || tick <= (*self->clock)[thread];
}

// ---- one cell ----------------------------------------------------------------------------------------------------

// What failed, in words; null if nothing did.
static const char* race_of(const Cell& cell, bool write, u32* other) {
  *other = cell.writer;
  if (cell.written && !ordered(cell.writer, cell.write_tick)) return write ? "write after write" : "read after write";
  if (!write) return nullptr;
  for (u32 i = 0; i < cell.readers; i++) {
    *other = cell.reader[i];
    if (!ordered(cell.reader[i], cell.read_tick[i])) return "write after read";
  }
  return nullptr;
}

static void record(Cell& cell, bool write) {
  const Thread* self = machine->current;
  if (write) {
    cell.written = true;
    cell.writer = self->number, cell.write_tick = self->tick;
    cell.readers = 0;
    return;
  }
  // Replaces an earlier read of its own, or one that is ordered before this one: an access ordered
  // after this read is ordered after that one too.
  u32 slot = 0;
  while (slot < cell.readers && !ordered(cell.reader[slot], cell.read_tick[slot])) slot++;
  if (slot == READERS) slot = self->number % READERS;
  if (slot == cell.readers) cell.readers++;
  cell.reader[slot] = self->number, cell.read_tick[slot] = self->tick;
}

// ---- shared memory -----------------------------------------------------------------------------------------------

static Cell& shared_cell(size_t offset) {
  Cell& cell = machine->shared_cells[offset / 2];
  if (cell.stamp != machine->block_stamp) cell = Cell{}, cell.stamp = machine->block_stamp;
  return cell;
}

void mark_in_flight(u32 address, u32 bytes, bool in_flight) {
  for (u32 i = 0; i < bytes; i += 2) shared_cell(address - SHARED_BASE + i).in_flight = in_flight;
}

static void check_window(size_t offset, u32 bytes, bool write) {
  const char* what = write ? "write" : "read";
  for (size_t i = offset & ~size_t(1); i < offset + bytes; i += 2) {
    Cell& cell = shared_cell(i);
    if (cell.in_flight) fail("race: %s of shared 0x%zx, into which a cp.async copy is in flight", what, i);
    if (!write && !cell.written) fail("read of shared 0x%zx, which no thread has written", i);
    u32 other;
    const char* race = race_of(cell, write, &other);
    if (race) fail("race: %s in shared 0x%zx, with thread %u", race, i, other);
    record(cell, write);
  }
}

void check_shared(u32 address, u32 bytes, bool write) { check_window(address - SHARED_BASE, bytes, write); }

// ---- global memory -----------------------------------------------------------------------------------------------

static bool is_inside(const Region& r, u64 address, u32 bytes) {
  if (address < r.address || r.rows == 0) return false;
  const u64 offset = address - r.address;
  const u64 row = r.rows == 1 ? 0 : offset / r.stride_bytes;
  return row < r.rows && offset - row * r.stride_bytes + bytes <= r.row_bytes;
}

bool in_operand(const void* p, u32 bytes) {
  const u64 address = (u64)p;
  Machine& m = *machine;
  if (m.last_region && is_inside(*m.last_region, address, bytes)) return true;
  const Config& c = m.config;
  for (u64 i = 0; i < c.region_count; i++) {
    if (is_inside(c.regions[i], address, bytes)) {
      m.last_region = &c.regions[i];
      return true;
    }
  }
  return false;
}

static Cell& global_cell(uintptr_t address) {
  const uintptr_t number = address / PAGE;
  if (!last_page || last_page_number != number) {
    std::unique_ptr<Page>& page = pages[number];
    if (!page) page = std::make_unique<Page>();
    last_page = page.get(), last_page_number = number;
  }
  Cell& cell = last_page->cells[address % PAGE / 2];
  if (cell.stamp != machine->launch_stamp) cell = Cell{}, cell.stamp = machine->launch_stamp;
  return cell;
}

constexpr u32 SEVERAL = ~0u;  // blocks

void check_global(const void* p, u32 bytes, bool write, const char* what) {
  Machine& m = *machine;
  if (!in_operand(p, bytes)) fail("%s of %u bytes at %p, outside every row of every operand", what, bytes, p);
  const u32 self = m.block_number + 1;
  for (uintptr_t a = (uintptr_t)p & ~uintptr_t(1); a < (uintptr_t)p + bytes; a += 2) {
    Cell& cell = global_cell(a);
    if (cell.write_block && cell.write_block != self) {
      fail("race between blocks: %s at %p, which block number %u writes", what, (void*)a, cell.write_block - 1);
    }
    const bool read_elsewhere = cell.read_block && cell.read_block != self;
    if (write && read_elsewhere) fail("race between blocks: %s at %p, which another block reads", what, (void*)a);
    if (read_elsewhere) {
      cell.read_block = SEVERAL;
      continue;
    }
    (write ? cell.write_block : cell.read_block) = self;
    u32 other;
    if (const char* race = race_of(cell, write, &other)) fail("race: %s at %p, with thread %u", race, (void*)a, other);
    record(cell, write);
  }
}

// ---- hooks -------------------------------------------------------------------------------------------------------

static void check(const void* p, u32 bytes, bool write, uintptr_t pc) {
  Machine& m = *machine;
  if (!m.current) return;
  m.pc = pc;
  if (m.overdue) overran();
  const u8* at = (const u8*)p;
  const size_t in_window = at - m.window;
  if (in_window < m.window_bytes) {
    shared_memory((u32)in_window + SHARED_BASE, bytes, write ? "write" : "read");
    count_banks((u32)in_window + SHARED_BASE, bytes);
    return check_window(in_window, bytes, write);
  }
  const size_t in_stacks = at - m.stacks;
  if (in_stacks < m.stack_count * STACK_BYTES) {
    if (in_stacks / STACK_BYTES != m.current->number) fail("access to the local memory of another thread");
    return;
  }
  const bool built_in = (size_t)(at - (const u8*)&simt_self) < sizeof simt_self;
  const bool constant = (uintptr_t)p >= m.library_start && (uintptr_t)p < m.library_end;
  if (!built_in && !constant) check_global(p, bytes, write, write ? "write" : "read");
}

#define PC ((uintptr_t)__builtin_return_address(0))
#define HOOKS(n)                                                                    \
  extern "C" void __tsan_read##n(void* p) { check(p, n, false, PC); }               \
  extern "C" void __tsan_write##n(void* p) { check(p, n, true, PC); }               \
  extern "C" void __tsan_unaligned_read##n(void* p) { check(p, n, false, PC); }     \
  extern "C" void __tsan_unaligned_write##n(void* p) { check(p, n, true, PC); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
extern "C" void __tsan_read_range(void* p, unsigned long n) { check(p, (u32)n, false, PC); }
extern "C" void __tsan_write_range(void* p, unsigned long n) { check(p, (u32)n, true, PC); }
extern "C" void __tsan_vptr_update(void*, void*) {}
extern "C" void __tsan_vptr_read(void*) {}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

// Undefined behaviour: the first field of g++'s argument is the place in the source.
struct SourcePlace {
  const char* file;
  u32 line, column;
};
#define UNDEFINED(name, text)                                                           \
  extern "C" void __ubsan_handle_##name##_abort(const SourcePlace* place) {                   \
    ENTER();                                                                            \
    fail("undefined behaviour: %s, %s:%u", text, place->file, place->line);             \
  }
UNDEFINED(add_overflow, "a signed sum overflows")
UNDEFINED(sub_overflow, "a signed difference overflows")
UNDEFINED(mul_overflow, "a signed product overflows")
UNDEFINED(negate_overflow, "a negation overflows")
UNDEFINED(divrem_overflow, "a division by zero or that overflows")
UNDEFINED(shift_out_of_bounds, "a shift by more than the width or of a negative number")
UNDEFINED(out_of_bounds, "an index outside its array")
UNDEFINED(type_mismatch_v1, "an address that is null or not on its type's boundary")
UNDEFINED(pointer_overflow, "address arithmetic that overflows")
UNDEFINED(vla_bound_not_positive, "an array of no elements")
UNDEFINED(load_invalid_value, "a value that its type does not have")
UNDEFINED(nonnull_arg, "a null argument")
UNDEFINED(invalid_builtin, "a count of leading or trailing zeros of 0")

#define UNDEFINED_ALWAYS(name, text)                                                    \
  extern "C" void __ubsan_handle_##name(const SourcePlace* place) {                           \
    ENTER();                                                                            \
    fail("undefined behaviour: %s, %s:%u", text, place->file, place->line);             \
  }
UNDEFINED_ALWAYS(builtin_unreachable, "an unreachable place is reached")
UNDEFINED_ALWAYS(missing_return, "a function ends without its result")
