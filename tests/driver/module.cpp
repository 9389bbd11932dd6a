// Images, functions and launches. An image is what libnvrtc.so makes (nvrtc.cpp): a header and a library
// for the host executor.
#include "gpu.h"

#include "executor.h"
#include "image.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

// Dynamic shared memory that a block may have without an attribute, with its static memory.
constexpr u32 SHARED_BYTES = 48 << 10;
constexpr u32 LIMIT_MS = 60'000;

// A pointer's letter is the size of its target.
bool is_pointer(char letter) { return letter >= '1' && letter <= '8'; }

template <class T> T symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) violated("an image has no %s", name);
  return (T)found;
}

// A CUBIN runs on devices of its own major version and the same or a newer minor one; one of an `a`
// architecture only on exactly its own.
bool runs_here(const char* architecture) {
  int number = 0;
  char letter = 0;
  if (sscanf(architecture, "sm_%d%c", &number, &letter) < 1) return false;
  if (letter == 'a') return number == settings.capability;
  return number / 10 == settings.capability / 10 && number <= settings.capability;
}

std::string place_of(const Function* f, u64 pc) {
  if (!pc) return "";
  char command[256], line[512] = "";
  snprintf(command, sizeof command, "addr2line -i -s -e /proc/%d/fd/%d 0x%llx 2>/dev/null", getpid(), f->module->file,
           (unsigned long long)pc - 1);
  FILE* pipe = popen(command, "r");
  if (!pipe) return "";
  if (!fgets(line, sizeof line, pipe)) line[0] = 0;
  pclose(pipe);
  line[strcspn(line, "\n")] = 0;
  return std::string(" at ") + line;
}

}  // namespace

// A block's shared memory on the architecture, less what the system reserves.
u32 most_shared_bytes() {
  switch (settings.capability) {
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

Status load_image(Context* context, const u8* image, Module** made) {
  ImageHeader header;
  memcpy(&header, image, sizeof header);
  if (memcmp(header.magic, IMAGE_MAGIC, sizeof header.magic)) return INVALID_IMAGE;
  if ((int)header.release > settings.driver / 1000) return INVALID_IMAGE;
  if (!runs_here(header.architecture)) return NO_BINARY_FOR_GPU;
  const int file = memfd_create("module", MFD_CLOEXEC);
  if (file < 0 || write(file, image + sizeof header, header.bytes) != (ssize_t)header.bytes) return INVALID_IMAGE;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "software GPU: %s\n", dlerror());
    return INVALID_IMAGE;
  }
  Module* module = new Module{context, library, file, nullptr};
  Function* f = module->function = new Function{};
  f->module = module;
  f->name = header.kernel;
  f->parameters = symbol<const char* (*)()>(library, "simt_parameters")();
  f->call = symbol<void (*)(void**)>(library, "simt_call");
  f->dynamic = symbol<u8* (*)()>(library, "simt_dynamic_start");
  f->most_threads = symbol<u32 (*)()>(library, "launch_bounds")();
  f->static_bytes = header.static_bytes;
  f->dynamic_bytes = SHARED_BYTES - f->static_bytes;
  *made = module;
  return SUCCESS;
}

void check_operands(const Launch& launch, Moment moment) {
  const Function& f = *launch.function;
  const char* name = f.name.c_str();
  const bool runs = moment == Moment::RUNS;
  for (size_t i = 0; i < f.parameters.size(); i++) {
    if (!is_pointer(f.parameters[i])) continue;
    const u64 value = launch.values[i];
    const Allocation* a = allocation_of(value);
    if (!a) violated("parameter %zu of %s is 0x%lx, outside every allocation", i, name, value);
    if (a->ended || (a->free_queued && !runs)) violated("parameter %zu of %s is in memory that was freed", i, name);
    if (!a->begun && runs) {
      violated("%s runs before the allocation of parameter %zu, which no event orders before it", name, i);
    }
    if (a->context->device != f.module->context->device) violated("parameter %zu of %s is on another device", i, name);
    if (value % (u64)(f.parameters[i] - '0')) violated("parameter %zu of %s is not aligned", i, name);
  }
}

// The driver reads as many pointers as the kernel has parameters, and from each as many bytes as the
// parameter has, whatever the program passed. This program keeps its arguments in consecutive slots of
// eight bytes in a block of the heap, with the unused half of a slot 0; so too few arguments show, and
// arguments of another size. (Too many show in tests/nvrtc, against the CUBIN's table of parameters.)
Status check_launch(Stream* stream, Function* f, const u32* grid, const u32* block, u32 shared_bytes, void** values,
                    Launch* launch) {
  const u32 most[3] = {0x7fffffff, 65535, 65535};
  for (int i = 0; i < 3; i++) {
    if (grid[i] == 0 || grid[i] > most[i] || block[i] == 0) return INVALID_VALUE;
  }
  const u64 threads = (u64)block[0] * block[1] * block[2];
  if (threads > f->most_threads) return INVALID_VALUE;
  if (block[1] != 1 || block[2] != 1) violated("%s: the host executor has blocks of one dimension", f->name.c_str());
  if (shared_bytes > f->dynamic_bytes) return INVALID_VALUE;
  if (stream->context != f->module->context) return INVALID_HANDLE;
  const size_t count = f->parameters.size();
  const char* name = f->name.c_str();
  if (count && !values) return INVALID_VALUE;
  const auto holds = [&](void* heap) { return malloc_usable_size(heap) / 8 >= count; };
  if (count && (!holds(values) || !holds(values[0]))) {
    violated("%s has %zu parameters, more than arguments", name, count);
  }
  launch->function = f;
  memcpy(launch->grid, grid, sizeof launch->grid);
  launch->block = block[0], launch->shared_bytes = shared_bytes;
  for (size_t i = 0; i < count; i++) {
    if ((u8*)values[i] != (u8*)values[0] + 8 * i) violated("argument %zu of %s is not in its slot", i, name);
    u64 value;
    memcpy(&value, values[i], 8);
    const char letter = f->parameters[i];
    if ((letter == 'u' || letter == 'f') && value >> 32) {
      violated("argument %zu of %s is of eight bytes, the parameter of four", i, name);
    }
    launch->values.push_back(value);
  }
  check_operands(*launch, Moment::IS_QUEUED);
  return SUCCESS;
}

// Threads and blocks of a launch run in the order of the streams.
static Threads threads_of(Order order) {
  switch (order) {
    case Order::REVERSE:
      return Threads::REVERSE;
    case Order::RANDOM:
      return Threads::RANDOM;
    default:
      return Threads::FORWARD;
  }
}

static Status status_of(const std::string& message) {
  return message.find("memory fault") == std::string::npos ? LAUNCH_FAILED : ILLEGAL_ADDRESS;
}

Status run_launch(const Launch& launch) {
  const Function& f = *launch.function;
  std::vector<u64> values = launch.values;
  Blocks blocks = {};
  blocks.call = f.call, blocks.dynamic = f.dynamic();
  memcpy(blocks.grid, launch.grid, sizeof blocks.grid);
  blocks.threads = launch.block, blocks.dynamic_bytes = launch.shared_bytes, blocks.limit_ms = LIMIT_MS;
  blocks.order = threads_of(settings.order), blocks.seed = settings.seed;
  blocks.late_copies = settings.order != Order::FORWARD;
  for (u64& value : values) blocks.arguments.push_back(&value);
  std::vector<const Allocation*> operands;
  for (size_t i = 0; i < values.size(); i++) {
    if (!is_pointer(f.parameters[i])) continue;
    const Allocation* a = allocation_of(values[i]);
    operands.push_back(a);
    blocks.operands.push_back({a->address, a->bytes});
  }
  std::string message;
  u64 pc = 0;
  if (!run_blocks(blocks, &message, &pc)) {
    fprintf(stderr, "software GPU: kernel %s: %s%s\n", f.name.c_str(), message.c_str(), place_of(&f, pc).c_str());
    return status_of(message);
  }
  for (const Allocation* a : operands) check_surroundings(a, f.name.c_str());
  return SUCCESS;
}
