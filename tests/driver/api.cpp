// The functions of the driver that the program calls, as in cuda.h. Others are not here: cudarc ends
// with their name if one is called.
#include "gpu.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <set>

// Never destroyed: a program may still call while it exits.
std::vector<Context*>& contexts = *new std::vector<Context*>;

namespace {

std::recursive_mutex& everything = *new std::recursive_mutex;
typedef std::lock_guard<std::recursive_mutex> Lock;
bool initialized;
thread_local Context* current;
Context* primary[64];

// Handles that exist; a destroyed one is an error.
std::set<const void*>& handles = *new std::set<const void*>;
template <class T> T* made(T* handle) {
  handles.insert(handle);
  return handle;
}
bool exists(const void* handle) { return handles.count(handle) > 0; }

Status begin_call(const char* name) {
  if (const Status requested = requested_failure(name)) return requested;
  if (lost) return lost;
  if (!initialized) return NOT_INITIALIZED;
  let_streams_run();
  return SUCCESS;
}

// A call of this name: counted, under the lock.
#define CALL(name) \
  Lock lock(everything); \
  if (const Status status = begin_call(name)) return status;
// ... which needs the context that is current on this thread.
#define CALL_IN_CONTEXT(name) \
  CALL(name) \
  if (!current) return INVALID_CONTEXT;

// The stream of a handle, null for the legacy default stream.
Stream* stream_of(void* handle) {
  if (!handle) return current ? current->legacy : nullptr;
  return exists(handle) ? (Stream*)handle : nullptr;
}

constexpr int RELAXED = 2;
// Calls that may synchronize are refused while a stream captures, except in the relaxed mode.
bool capturing_strictly() {
  bool found = false;
  for (Stream* s : current->streams) {
    if (s->capturing && s->capture_mode != RELAXED) s->invalidated = found = true;
  }
  return found;
}
// What a capture cannot hold in any mode.
Status not_in_capture(Stream* stream) {
  if (!stream->capturing) return SUCCESS;
  stream->invalidated = true;
  return CAPTURE_UNSUPPORTED;
}

Pinned* pinned_at(const void* p) {
  for (Context* context : contexts) {
    for (Pinned* block : context->pinned) {
      if ((const u8*)p >= block->address && (const u8*)p < block->address + block->bytes) return block;
    }
  }
  return nullptr;
}

bool on_device(u64 address, u64 bytes) {
  const Allocation* a = allocation_of(address);
  return a && address + bytes <= a->address + a->bytes;
}

void not_freed(u64 address, const char* what) {
  if (allocation_of(address)->free_queued) violated("%s: its memory was freed", what);
}

Stream* new_stream(Context* context) {
  Stream* stream = new Stream{};
  stream->context = context;
  return stream;
}

WorkRef work(Work::Kind kind) {
  WorkRef made = std::make_shared<Work>();
  made->kind = kind;
  return made;
}

Graph* made_graph(Context* context, std::vector<Launch> launches) {
  context->graphs++;
  return made(new Graph{context, std::move(launches)});
}

Status run_context(Context* context) {
  for (Stream* stream : context->streams) {
    if (const Status status = run_stream(stream)) return status;
  }
  return SUCCESS;
}

// A context ends with its last user: what it still holds was leaked.
void close_context(Context* context) {
  if (!lost) run_context(context);
  if (!lost) {
    const auto lives = [&](const Stream* stream) { return stream != context->legacy && !stream->destroyed; };
    const size_t memory = live_allocations(context).size();
    const size_t streams = std::count_if(context->streams.begin(), context->streams.end(), lives);
    if (memory + streams + context->pinned.size() + context->events + context->modules + context->graphs) {
      violated(
          "a context ends with %zu allocations, %zu streams, %zu page-locked blocks, %u events, %u modules, %u graphs",
          memory, streams, context->pinned.size(), context->events, context->modules, context->graphs);
    }
  }
  contexts.erase(std::find(contexts.begin(), contexts.end(), context));
  handles.erase(context);
}

struct Named {
  Status status;
  const char *name, *text;
};
const Named NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

Status describe(int status, const char** text, const char* Named::*field) {
  for (const Named& n : NAMES) {
    if (n.status == status) return *text = n.*field, SUCCESS;
  }
  return *text = nullptr, INVALID_VALUE;
}

}  // namespace

extern "C" {

// ---- errors, devices ---------------------------------------------------------------------------------------------

Status cuGetErrorName(int status, const char** text) { return describe(status, text, &Named::name); }
Status cuGetErrorString(int status, const char** text) { return describe(status, text, &Named::text); }

Status cuDriverGetVersion(int* version) {
  *version = settings.driver;
  return SUCCESS;
}

Status cuInit(u32 flags) {
  Lock lock(everything);
  if (const Status requested = requested_failure("cuInit")) return requested;
  if (flags) return INVALID_VALUE;
  if (settings.init) return (Status)settings.init;
  if (!settings.devices) return NO_DEVICE;
  if (!initialized) {
    // Images call the executor's functions, which are in this library.
    Dl_info self;
    if (!dladdr((void*)cuInit, &self) || !dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD)) return UNKNOWN;
    initialized = true;
  }
  return SUCCESS;
}

Status cuDeviceGetCount(int* count) {
  CALL("cuDeviceGetCount");
  return *count = settings.devices, SUCCESS;
}

Status cuDeviceGet(int* device, int ordinal) {
  CALL("cuDeviceGet");
  if (ordinal < 0 || ordinal >= settings.devices) return INVALID_DEVICE;
  return *device = ordinal, SUCCESS;
}

Status cuDeviceGetName(char* name, int len, int device) {
  CALL("cuDeviceGetName");
  if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
  snprintf(name, (size_t)len, "Software GPU %d", device);
  return SUCCESS;
}

Status cuDeviceTotalMem_v2(size_t* bytes, int device) {
  CALL("cuDeviceTotalMem_v2");
  if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
  return *bytes = settings.memory, SUCCESS;
}

Status cuDeviceGetAttribute(int* value, int attribute, int device) {
  CALL("cuDeviceGetAttribute");
  if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
  switch (attribute) {
    case 75:  // COMPUTE_CAPABILITY_MAJOR
      return *value = settings.capability / 10, SUCCESS;
    case 76:  // COMPUTE_CAPABILITY_MINOR
      return *value = settings.capability % 10, SUCCESS;
    case 115:  // MEMORY_POOLS_SUPPORTED
      return *value = 1, SUCCESS;
    default:
      violated("device attribute %d is not modelled", attribute);
  }
}

// ---- contexts ----------------------------------------------------------------------------------------------------

Status cuDevicePrimaryCtxRetain(Context** context, int device) {
  CALL("cuDevicePrimaryCtxRetain");
  if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
  const std::string name = "context-" + std::to_string(device);
  if (const Status requested = requested_failure(name.c_str())) return requested;
  Context*& held = primary[device];
  if (!held) {
    held = made(new Context{});
    held->device = device;
    contexts.push_back(held);
    held->legacy = new_stream(held);
  }
  held->users++;
  return *context = held, SUCCESS;
}

Status cuDevicePrimaryCtxRelease_v2(int device) {
  Lock lock(everything);
  Context*& held = primary[device];
  if (!held) return INVALID_CONTEXT;
  if (--held->users == 0) {
    // The legacy stream is last in the list, so that the first is the program's first.
    held->streams.push_back(held->legacy);
    close_context(held);
    held = nullptr;
  }
  return lost;
}

Status cuCtxGetCurrent(Context** context) {
  CALL("cuCtxGetCurrent");
  return *context = current && exists(current) ? current : nullptr, SUCCESS;
}

Status cuCtxSetCurrent(Context* context) {
  CALL("cuCtxSetCurrent");
  if (context && !exists(context)) return INVALID_CONTEXT;
  return current = context, SUCCESS;
}

Status cuCtxSynchronize() {
  CALL_IN_CONTEXT("cuCtxSynchronize");
  for (Stream* s : current->streams) {
    if (const Status status = not_in_capture(s)) return status;
  }
  if (const Status status = run_context(current)) return status;
  return run_stream(current->legacy);
}

// ---- streams and events ------------------------------------------------------------------------------------------

Status cuStreamCreate(Stream** stream, u32 flags) {
  CALL_IN_CONTEXT("cuStreamCreate");
  if (flags != 1) violated("a stream that waits for the legacy default stream");
  *stream = made(new_stream(current));
  current->streams.push_back(*stream);
  return SUCCESS;
}

Status cuStreamDestroy_v2(Stream* stream) {
  CALL("cuStreamDestroy_v2");
  if (!exists(stream)) return INVALID_HANDLE;
  // What is queued is still done, whenever the order says.
  handles.erase(stream);
  stream->destroyed = true;
  return SUCCESS;
}

Status cuStreamSynchronize(void* handle) {
  CALL("cuStreamSynchronize");
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (const Status status = not_in_capture(stream)) return status;
  return run_stream(stream);
}

Status cuEventCreate(Event** event, u32) {
  CALL_IN_CONTEXT("cuEventCreate");
  *event = made(new Event{});
  (*event)->context = current;
  current->events++;
  return SUCCESS;
}

Status cuEventDestroy_v2(Event* event) {
  CALL("cuEventDestroy_v2");
  if (!exists(event)) return INVALID_HANDLE;
  handles.erase(event);
  event->context->events--;
  delete event;
  return SUCCESS;
}

Status cuEventRecord(Event* event, void* handle) {
  CALL("cuEventRecord");
  Stream* stream = stream_of(handle);
  if (!exists(event) || !stream) return INVALID_HANDLE;
  if (event->context != stream->context) return INVALID_HANDLE;
  event->captured = stream->capturing;
  if (stream->capturing) return SUCCESS;
  event->recorded = work(Work::RECORD);
  append(stream, event->recorded);
  return SUCCESS;
}

Status cuEventSynchronize(Event* event) {
  CALL("cuEventSynchronize");
  if (!exists(event)) return INVALID_HANDLE;
  if (event->captured) return CAPTURED_EVENT;
  if (!event->recorded || event->recorded->done) return SUCCESS;
  if (const Status requested = requested_failure("wait-for-event")) return requested;
  return run_work(event->recorded);
}

Status cuEventQuery(Event* event) {
  CALL("cuEventQuery");
  if (!exists(event)) return INVALID_HANDLE;
  if (event->captured) return CAPTURED_EVENT;
  return event->recorded && !event->recorded->done ? NOT_READY : SUCCESS;
}

Status cuStreamWaitEvent(void* handle, Event* event, u32) {
  CALL("cuStreamWaitEvent");
  Stream* stream = stream_of(handle);
  if (!exists(event) || !stream) return INVALID_HANDLE;
  // Forks within a capture are not modelled, and the program has none.
  if (stream->capturing != event->captured) return stream->invalidated = true, CAPTURE_ISOLATION;
  if (stream->capturing || !event->recorded) return SUCCESS;
  WorkRef wait = work(Work::WAIT);
  wait->awaited = event->recorded;
  append(stream, wait);
  return SUCCESS;
}

// ---- memory ------------------------------------------------------------------------------------------------------

Status cuMemGetInfo_v2(size_t* free, size_t* total) {
  CALL_IN_CONTEXT("cuMemGetInfo_v2");
  *total = settings.memory;
  const u64 used = bytes_in_use(current);
  *free = used > *total ? 0 : *total - used;
  return SUCCESS;
}

Status cuMemAllocAsync(u64* address, size_t bytes, void* handle) {
  CALL_IN_CONTEXT("cuMemAllocAsync");
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (!bytes) return INVALID_VALUE;
  if (const Status status = not_in_capture(stream)) return status;
  if (bytes > settings.memory || bytes_in_use(current) > settings.memory - bytes) return OUT_OF_MEMORY;
  WorkRef allocation = work(Work::ALLOCATE);
  allocation->allocation = allocate(stream->context, bytes);
  *address = allocation->allocation->address;
  append(stream, allocation);
  return SUCCESS;
}

Status cuMemFreeAsync(u64 address, void* handle) {
  CALL("cuMemFreeAsync");
  Stream* stream = stream_of(handle);
  Allocation* a = allocation_of(address);
  if (!stream) return INVALID_HANDLE;
  if (!a || a->address != address) return INVALID_VALUE;
  if (a->free_queued) violated("memory is freed twice");
  if (const Status status = not_in_capture(stream)) return status;
  a->free_queued = true;
  WorkRef freed = work(Work::FREE);
  freed->allocation = a;
  append(stream, freed);
  return SUCCESS;
}

Status cuMemHostAlloc(void** p, size_t bytes, u32) {
  CALL_IN_CONTEXT("cuMemHostAlloc");
  if (capturing_strictly()) return CAPTURE_UNSUPPORTED;
  Pinned* block = new Pinned{new u8[bytes], bytes, current, 0};
  memset(block->address, POISON, bytes);
  current->pinned.push_back(block);
  return *p = block->address, SUCCESS;
}

Status cuMemFreeHost(void* p) {
  CALL_IN_CONTEXT("cuMemFreeHost");
  Pinned* block = pinned_at(p);
  if (!block || block->address != p) return INVALID_VALUE;
  if (block->copies) violated("page-locked memory is freed under %u queued copies", block->copies);
  auto& all = block->context->pinned;
  all.erase(std::find(all.begin(), all.end(), block));
  memset(block->address, POISON, block->bytes);
  delete[] block->address;
  delete block;
  return SUCCESS;
}

Status cuMemsetD8Async(u64 address, u8 value, size_t bytes, void* handle) {
  CALL_IN_CONTEXT("cuMemsetD8Async");
  Stream* stream = stream_of(handle);
  if (!stream || stream->context != current) return INVALID_HANDLE;
  if (!on_device(address, bytes)) return INVALID_VALUE;
  if (const Status status = not_in_capture(stream)) return status;
  not_freed(address, "a fill");
  WorkRef fill = work(Work::ZERO);
  fill->device = address, fill->bytes = bytes, fill->value = value;
  append(stream, fill);
  return SUCCESS;
}

// From pageable memory the driver takes the bytes before it returns; page-locked memory is read when the
// copy runs.
Status cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* handle) {
  CALL_IN_CONTEXT("cuMemcpyHtoDAsync_v2");
  Stream* stream = stream_of(handle);
  if (!stream || stream->context != current) return INVALID_HANDLE;
  if (!on_device(to, bytes)) return INVALID_VALUE;
  if (const Status status = not_in_capture(stream)) return status;
  not_freed(to, "a copy to the device");
  if (stream != current->streams.front()) requested_failure("copy-on-side-stream");
  WorkRef copy = work(Work::TO_DEVICE);
  copy->device = to, copy->bytes = bytes, copy->host = (u8*)from;
  copy->pinned = pinned_at(from);
  if (!copy->pinned) copy->staged.assign((const u8*)from, (const u8*)from + bytes);
  else if ((const u8*)from + bytes > copy->pinned->address + copy->pinned->bytes) return INVALID_VALUE;
  append(stream, copy);
  return SUCCESS;
}

Status cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* handle) {
  CALL_IN_CONTEXT("cuMemcpyDtoHAsync_v2");
  Stream* stream = stream_of(handle);
  if (!stream || stream->context != current) return INVALID_HANDLE;
  if (!on_device(from, bytes)) return INVALID_VALUE;
  if (const Status status = not_in_capture(stream)) return status;
  not_freed(from, "a copy from the device");
  WorkRef copy = work(Work::FROM_DEVICE);
  copy->device = from, copy->bytes = bytes, copy->host = (u8*)to;
  copy->pinned = pinned_at(to);
  memset(to, POISON, bytes);
  append(stream, copy);
  return SUCCESS;
}

// ---- modules and launches ----------------------------------------------------------------------------------------

Status cuModuleLoadData(Module** module, const void* image) {
  CALL_IN_CONTEXT("cuModuleLoadData");
  if (capturing_strictly()) return CAPTURE_UNSUPPORTED;
  const Status status = load_image(current, (const u8*)image, module);
  if (!status) current->modules++, made(*module);
  return status;
}

Status cuModuleUnload(Module* module) {
  CALL("cuModuleUnload");
  if (!exists(module)) return INVALID_HANDLE;
  const Function* f = module->function;
  if (f->queued) violated("the module of %s is unloaded while a launch of it is queued", f->name.c_str());
  handles.erase(module);
  handles.erase(module->function);
  module->context->modules--;
  return SUCCESS;
}

Status cuModuleGetFunction(Function** function, Module* module, const char* name) {
  CALL("cuModuleGetFunction");
  if (!exists(module)) return INVALID_HANDLE;
  if (module->function->name != name) return NOT_FOUND;
  return *function = made(module->function), SUCCESS;
}

Status cuFuncGetAttribute(int* value, int attribute, Function* function) {
  CALL("cuFuncGetAttribute");
  if (!exists(function)) return INVALID_HANDLE;
  switch (attribute) {
    case 0:  // MAX_THREADS_PER_BLOCK
      return *value = (int)function->most_threads, SUCCESS;
    case 1:  // SHARED_SIZE_BYTES
      return *value = (int)function->static_bytes, SUCCESS;
    default:
      violated("function attribute %d is not modelled", attribute);
  }
}

Status cuFuncSetAttribute(Function* function, int attribute, int value) {
  CALL("cuFuncSetAttribute");
  if (!exists(function)) return INVALID_HANDLE;
  switch (attribute) {
    case 8:  // MAX_DYNAMIC_SHARED_SIZE_BYTES
      if (value < 0 || (u64)value + function->static_bytes > most_shared_bytes()) return INVALID_VALUE;
      return function->dynamic_bytes = (u32)value, SUCCESS;
    case 9:  // PREFERRED_SHARED_MEMORY_CARVEOUT
      return value < -1 || value > 100 ? INVALID_VALUE : SUCCESS;
    default:
      violated("function attribute %d is not modelled", attribute);
  }
}

Status cuLaunchKernel(Function* function, u32 x, u32 y, u32 z, u32 threads_x, u32 threads_y, u32 threads_z,
                      u32 shared_bytes, void* handle, void** values, void** extra) {
  CALL_IN_CONTEXT("cuLaunchKernel");
  Stream* stream = stream_of(handle);
  if (!exists(function) || !stream || stream->context != current) return INVALID_HANDLE;
  if (extra) return INVALID_VALUE;
  Launch launch;
  const u32 grid[3] = {x, y, z}, block[3] = {threads_x, threads_y, threads_z};
  if (const Status status = check_launch(stream, function, grid, block, shared_bytes, values, &launch)) return status;
  if (stream->capturing) return stream->captured.push_back(std::move(launch)), SUCCESS;
  WorkRef queued = work(Work::LAUNCH);
  queued->launches.push_back(std::move(launch));
  append(stream, queued);
  return SUCCESS;
}

// ---- graphs ------------------------------------------------------------------------------------------------------

Status cuStreamBeginCapture_v2(void* handle, int mode) {
  CALL("cuStreamBeginCapture_v2");
  if (!handle) return CAPTURE_UNSUPPORTED;
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->capturing) return ILLEGAL_STATE;
  stream->capturing = true, stream->invalidated = false, stream->capture_mode = mode;
  stream->captured.clear();
  return SUCCESS;
}

Status cuStreamEndCapture(void* handle, Graph** graph) {
  Lock lock(everything);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (!stream->capturing) return ILLEGAL_STATE;
  // Also if it fails.
  stream->capturing = false;
  *graph = nullptr;
  if (const Status status = begin_call("cuStreamEndCapture")) return status;
  if (stream->invalidated) return CAPTURE_INVALIDATED;
  *graph = made_graph(stream->context, std::move(stream->captured));
  stream->captured.clear();
  return SUCCESS;
}

Status cuStreamIsCapturing(void* handle, int* status) {
  CALL("cuStreamIsCapturing");
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  return *status = !stream->capturing ? 0 : stream->invalidated ? 2 : 1, SUCCESS;
}

// An executable graph is a copy.
Status cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  CALL_IN_CONTEXT("cuGraphInstantiateWithFlags");
  if (!exists(graph)) return INVALID_HANDLE;
  return *executable = made_graph(current, graph->launches), SUCCESS;
}

Status cuGraphLaunch(Graph* executable, void* handle) {
  CALL("cuGraphLaunch");
  Stream* stream = stream_of(handle);
  if (!exists(executable) || !stream) return INVALID_HANDLE;
  if (const Status status = not_in_capture(stream)) return status;
  for (const Launch& launch : executable->launches) {
    if (!exists(launch.function)) violated("a graph uses a function of an unloaded module");
    check_operands(launch, Moment::IS_QUEUED);
  }
  WorkRef queued = work(Work::GRAPH);
  queued->launches = executable->launches;
  append(stream, queued);
  return SUCCESS;
}

static Status destroy_graph(Graph* graph) {
  if (!exists(graph)) return INVALID_HANDLE;
  handles.erase(graph);
  graph->context->graphs--;
  delete graph;
  return SUCCESS;
}
Status cuGraphExecDestroy(Graph* graph) {
  CALL("cuGraphExecDestroy");
  return destroy_graph(graph);
}
Status cuGraphDestroy(Graph* graph) {
  CALL("cuGraphDestroy");
  return destroy_graph(graph);
}

}  // extern "C"
