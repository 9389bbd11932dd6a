// The software GPU: a libcuda.so.1 that runs launches on the host executor of kernels (tests/simt),
// so that the shipped program computes with `--device cuda` on a machine without a GPU.
//
// Files: settings.cpp (SOFTWARE_GPU, requested failures), memory.cpp (device and page-locked memory),
// queue.cpp (streams, events, the order of work), module.cpp (images, functions, launches), executor.cpp
// (the host executor), api.cpp (the functions of the driver). nvrtc.cpp is a library of its own,
// libnvrtc.so: it compiles kernels with g++ to what libcuda.so.1 loads (image.h).
//
// Work is asynchronous: a call appends to its stream's queue, and when the queue runs is decided by
// the order (see queue.cpp). It runs on the thread that synchronizes, under one lock.
//
// What a driver refuses is refused with the driver's error. What a driver accepts but is undefined
// or wrong (memory used after it was freed, a page-locked block freed under a copy) is a violation:
// it ends the process with status VIOLATION and a message.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

// Those of CUresult that are used here.
enum Status : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  DEVICE_UNAVAILABLE = 46,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  ECC_UNCORRECTABLE = 214,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_ISOLATION = 905,
  CAPTURED_EVENT = 907,
  UNKNOWN = 999,
};

constexpr int VIOLATION = 99;
// Fills new memory, freed memory and the targets of copies in flight: NaN as f32 and as bf16.
constexpr u8 POISON = 0xff;

// ---- settings.cpp ------------------------------------------------------------------------------------------------

enum class Order { LATE, FORWARD, REVERSE, RANDOM };

struct Settings {
  Order order = Order::LATE;
  u64 seed = 1;
  int devices = 1;
  int driver = 13020;      // as cuDriverGetVersion returns it
  int capability = 90;     // of every device
  u64 memory = 4ull << 30;  // bytes of each device
  int init = SUCCESS;      // what cuInit returns
};
extern Settings settings;

// Ends the process: the program did what no driver allows it to rely on.
[[noreturn]] void violated(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Counts a call of `function`; the failure requested for it, else SUCCESS.
Status requested_failure(const char* function);
// An error after which every call fails until the process ends, as on a GPU.
extern Status lost;
bool is_lasting(Status status);
u64 random_number(u64 below);

// ---- memory.cpp --------------------------------------------------------------------------------------------------

struct Context;

// Device memory. Its life is in the order of the queue: from the execution of the allocation to that of
// the free.
struct Allocation {
  u64 address, bytes;
  u64 pages, pages_bytes;
  Context* context;
  bool begun, free_queued, ended;
};

// Page-locked host memory.
struct Pinned {
  u8* address;
  u64 bytes;
  Context* context;
  u32 copies;  // queued
};

Allocation* allocate(Context* context, u64 bytes);
// The allocation that `address` is in, also if it was freed; null outside all of them.
Allocation* allocation_of(u64 address);
void begin(Allocation* a);
void end(Allocation* a);
// A violation if something was written just outside.
void check_surroundings(const Allocation* a, const char* by);
u64 bytes_in_use(const Context* context);
std::vector<Allocation*> live_allocations(const Context* context);

// ---- queue.cpp ---------------------------------------------------------------------------------------------------

struct Stream;
struct Function;

// A kernel's launch as it was queued or captured: argument values by parameter.
struct Launch {
  Function* function;
  u32 grid[3];
  u32 block, shared_bytes;
  std::vector<u64> values;
};

struct Work;
typedef std::shared_ptr<Work> WorkRef;

struct Work {
  enum Kind { ALLOCATE, FREE, ZERO, TO_DEVICE, FROM_DEVICE, LAUNCH, GRAPH, RECORD, WAIT } kind;
  bool done = false;
  Stream* stream = nullptr;
  Allocation* allocation = nullptr;  // ALLOCATE, FREE
  u64 device = 0, bytes = 0;         // ZERO and copies
  u8 value = 0;                      // ZERO
  u8* host = nullptr;                // copies
  std::vector<u8> staged;            // TO_DEVICE from pageable memory
  Pinned* pinned = nullptr;          // copies
  std::vector<Launch> launches;      // LAUNCH, GRAPH
  WorkRef awaited;                   // WAIT
};

struct Stream {
  Context* context;
  std::deque<WorkRef> queue;
  bool destroyed = false;
  bool capturing = false, invalidated = false;
  int capture_mode = 0;
  std::vector<Launch> captured;
};

struct Event {
  Context* context;
  WorkRef recorded;  // the last RECORD
  bool captured = false;
};

void append(Stream* stream, WorkRef work);
// Runs what must have run before the host continues.
Status run_stream(Stream* stream);
Status run_work(const WorkRef& work);
// Lets streams go on as the order says. Called at every call of the driver.
void let_streams_run();

// ---- module.cpp --------------------------------------------------------------------------------------------------

struct Module {
  Context* context;
  void* library;
  int file;
  Function* function;
};

struct Function {
  Module* module;
  std::string name, parameters;  // a letter for each: see SIMT_EXPORT in tests/simt/simt.h
  void (*call)(void**);
  u8* (*dynamic)();
  u32 static_bytes, most_threads;
  u32 dynamic_bytes;  // allowed
  u32 queued = 0;     // launches
};

Status load_image(Context* context, const u8* image, Module** module);
Status check_launch(Stream* stream, Function* f, const u32* grid, const u32* block, u32 shared_bytes, void** values,
                    Launch* launch);
enum class Moment { IS_QUEUED, RUNS };
// A violation if an operand is not in memory that may be used at this moment.
void check_operands(const Launch& launch, Moment moment);
Status run_launch(const Launch& launch);
u32 most_shared_bytes();

// ---- api.cpp -----------------------------------------------------------------------------------------------------

struct Graph {
  Context* context;
  std::vector<Launch> launches;
};

struct Context {
  int device;
  u32 users = 0;  // of the primary context
  Stream* legacy;
  std::vector<Stream*> streams;
  std::vector<Pinned*> pinned;
  u32 events = 0, modules = 0, graphs = 0;
};
extern std::vector<Context*>& contexts;
