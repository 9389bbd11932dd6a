// The state of one running launch, shared by the files of libsimt.so: fiber.cpp (threads and their
// order), block.cpp (barriers, warp operations), async.cpp (cp.async), tensor.cpp (ldmatrix, mma),
// race.cpp (the hooked build) and launch.cpp. One Machine for each OS thread; nothing is shared
// between two.
//
// Hopper would be added here: an mbarrier is one more object that a thread waits for (`wait`) and
// one more clock; TMA loads form a queue that `next_thread` drains when nothing is ready, as wgmma
// groups form one that their wait executes; writes of that engine have a proxy in `Cell`, which a
// read through the other proxy checks.
#pragma once
#include "simt.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned char u8;

// Shared addresses begin here, so that address 0 is never valid.
constexpr u32 SHARED_BASE = 1024;
constexpr u32 WARP = 32;
constexpr size_t STACK_BYTES = 256 << 10;
// Fills shared memory before a block and the target of a copy in flight: NaN as f32 and as bf16.
constexpr u8 POISON = 0xff;
// Bytes after the dynamic shared memory that must stay poison.
constexpr size_t DYNAMIC_GUARD = 256;

enum Order : u32 { FORWARD, REVERSE, RANDOM };

// An operand: `rows` rows of `row_bytes`, each `stride_bytes` after the previous one. As in
// tests/simt/library.rs.
struct Region {
  u64 address, rows, row_bytes, stride_bytes;
};

// As in tests/simt/library.rs.
struct Config {
  u32 grid[3];
  u32 block;
  u32 dynamic_bytes;
  u32 order;
  u64 seed;
  u32 late;    // asynchronous copies arrive when they are waited for, not when they are issued
  u32 hooked;  // the kernel's loads and stores are checked
  u32 first_blocks, last_blocks;  // only so many at the grid's start and end run; all if both are 0
  u32 limit_ms;  // of processor time for one block
  const Region* regions;
  u64 region_count;
};

// What went wrong and what was counted, for the caller. As in tests/simt/library.rs.
struct Failure {
  char message[1024];
  u64 pc;  // where in the kernel's library, 0 if nowhere in particular
  u64 bank_pc;      // hooked: where the worst bank conflict was
  u32 bank_degree;  // its degree, see banks.cpp
};

// A thread's vector clock: entry u is the last tick of thread u that is ordered before it. All
// threads that leave a barrier share one.
typedef std::shared_ptr<const std::vector<u32>> Clock;

struct Copy {
  u32 to, size, bytes;
  const u8* from;
};

enum class State : u8 { READY, WAITING, DONE };

struct Thread {
  u32 number, lane, warp;
  State state;
  void* stack;              // its stack pointer while another thread runs
  const char* waits_for;    // while WAITING
  u32 line;                 // in the source, while WAITING
  std::vector<Copy> copies;        // issued and not waited for, oldest first
  std::vector<size_t> group_ends;  // one for each committed group: its end in `copies`
  u32 tick;                 // counts this thread's synchronisations
  Clock clock;
};

// The meeting of the lanes of one mask. Values are double-buffered by generation: a lane can be one
// meeting ahead of lanes that have not yet read, never two.
struct Meeting {
  u32 mask, arrived, line, generation;
  uintptr_t place;  // the kernel's call site: one line may have several, when inlined
  SimtWarpOp op;
  u64 values[2][WARP];
};

// Operands and results of the warp's mma, double-buffered likewise.
struct Fragments {
  u32 a[2][WARP][4], b[2][WARP][2];
  float d[2][WARP][4];
};

// One access of a warp to shared memory, and the accesses at one place in the code since the
// warp's last synchronisation.
struct LaneAccess {
  u32 address[WARP], mask, bytes;
};
struct Place {
  u32 turns[WARP];
  std::vector<LaneAccess> accesses;
};
typedef std::map<uintptr_t, Place> Places;

struct Warp {
  std::vector<Meeting> meetings;  // one for each mask seen
  Fragments fragments;
  Places places;  // hooked
};

// The last accesses to 2 bytes. By their stamp, those of shared memory expire with the block, those
// of global memory with the launch. Up to READERS concurrent readers are remembered; beyond that an
// older one is replaced, so a race with exactly that one can be missed.
constexpr u32 READERS = 4;
struct Cell {
  u32 stamp;
  u32 write_tick, read_tick[READERS];
  u16 writer, reader[READERS];
  u8 readers;
  bool written, in_flight;
  u32 write_block, read_block;  // global memory: block + 1, 0 for none
};

struct Machine {
  Machine();
  ~Machine();

  Config config;
  void (*call)(void**);
  void** arguments;
  Failure* failure;
  bool failed;

  // The block's threads and those ready to run.
  std::vector<Thread> threads;
  std::vector<Thread*> ready;
  size_t ready_head;
  Thread* current;  // null while no kernel code runs
  u32 done;
  void* main_stack;
  u8* stacks;
  size_t stack_count;
  u64 random;
  uintptr_t pc;  // where the kernel last called the runtime

  // Barrier 0: the threads that wait in it.
  u32 barrier_waiting, barrier_line;
  std::vector<Warp> warps;

  // The library's thread-local storage is the block's shared memory.
  u8* window;
  size_t window_bytes;
  u8* dynamic;
  uintptr_t library_start, library_end;

  // The watchdog: processor time of the block `watched` in ticks, and whether it exceeds the limit.
  void* timer;
  u64 watched, blocks_begun;
  u32 ticks;
  bool overdue;

  // The operand accessed last, which is searched first for the next access.
  const Region* last_region;

  // Hooked.
  u32 block_stamp, launch_stamp, block_number;
  std::vector<Cell> shared_cells;
};

extern __thread Machine* machine;

// fiber.cpp
// Reports a failure; the first report counts.
void report(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Reports and gives up the launch; for use while a thread runs.
[[noreturn]] void give_up();
#define fail(...) (report(__VA_ARGS__), give_up())
u64 random_below(u64 n);
void make_ready(Thread* t);
// Yields to another thread until the current one is made ready.
void wait(const char* what, u32 line);
void run_threads();
void prepare_threads();
void catch_faults();
// From here to `stop_watching`, a block that takes longer than its limit is given up.
void start_watching();
void stop_watching();
[[noreturn]] void overran();
// After a failure: discards the stacks of the given-up fibers.
void forget_stacks();

// block.cpp
u32 warp_lanes(const Thread* t);
// Joins the meeting of the lanes of `mask` with a value and waits for the rest; the last to arrive
// runs `all_here` first. Returns every lane's value.
const u64* meet(u32 mask, SimtWarpOp op, u32 line, u64 value, void (*all_here)(Meeting&) = nullptr);
// The side of the buffers that the current thread's next meeting over its whole warp uses.
u32 next_side();

// async.cpp
void check_copies_waited_for();

// launch.cpp
// The memory at a shared address, which must be within the block's memory.
u8* shared_memory(u32 address, u32 bytes, const char* what);

// banks.cpp
void count_banks(u32 address, u32 bytes);
void count_banks_of_rows(const u64* rows, u32 matrices);
void close_accesses(u32 warp);

// race.cpp
void forget_block();
void order_all();
void order_lanes(u32 warp, u32 mask);
void check_shared(u32 address, u32 bytes, bool write);
void mark_in_flight(u32 address, u32 bytes, bool in_flight);
void check_global(const void* p, u32 bytes, bool write, const char* what);
bool in_operand(const void* p, u32 bytes);

// Every entry from a kernel begins with this, so that a failure can name the line.
#define ENTER() (machine->pc = (uintptr_t)__builtin_return_address(0))
