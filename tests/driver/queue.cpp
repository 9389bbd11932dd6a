// Streams and events. Work of a stream runs in the order in which it was queued; between streams only
// events order it. When it runs is the order's choice:
//   LATE     when the host waits for it, and nothing that the host does not wait for
//   FORWARD  the first stream of a context at once, the others late
//   REVERSE  the others as soon as their events allow, the first late
//   RANDOM   any stream that can go on, at any call of the driver
// A program that orders its work right computes the same in all of them.
#include "gpu.h"

#include <algorithm>
#include <cstring>

namespace {

// Memory that work uses must be allocated, in the order of its stream, and not yet freed.
void check_device_memory(u64 address, u64 bytes, const char* what) {
  const Allocation* a = allocation_of(address);
  if (!a || address + bytes > a->address + a->bytes) violated("%s at 0x%lx, outside every allocation", what, address);
  if (!a->begun) violated("%s runs before the allocation of its memory, which no event orders before it", what);
  if (a->ended) violated("%s uses memory that was freed", what);
}

Status run_launches(const std::vector<Launch>& launches) {
  for (const Launch& launch : launches) {
    const Status requested = requested_failure("kernel");
    if (requested) return requested;
    check_operands(launch, Moment::RUNS);
    if (const Status status = run_launch(launch)) return status;
  }
  return SUCCESS;
}

void copied(Work& work) {
  if (work.pinned) work.pinned->copies--;
}

Status execute(Work& work) {
  switch (work.kind) {
    case Work::ALLOCATE:
      begin(work.allocation);
      break;
    case Work::FREE:
      end(work.allocation);
      break;
    case Work::ZERO:
      check_device_memory(work.device, work.bytes, "a fill");
      memset((void*)work.device, work.value, work.bytes);
      break;
    case Work::TO_DEVICE:
      check_device_memory(work.device, work.bytes, "a copy to the device");
      memcpy((void*)work.device, work.staged.empty() ? work.host : work.staged.data(), work.bytes);
      copied(work);
      break;
    case Work::FROM_DEVICE:
      check_device_memory(work.device, work.bytes, "a copy from the device");
      memcpy(work.host, (void*)work.device, work.bytes);
      copied(work);
      break;
    case Work::LAUNCH:
    case Work::GRAPH: {
      for (const Launch& launch : work.launches) launch.function->queued--;
      return run_launches(work.launches);
    }
    case Work::RECORD:
    case Work::WAIT:
      break;
  }
  return SUCCESS;
}

// Runs the first work of a stream, after what it waits for.
Status run_next(Stream* stream) {
  const WorkRef work = stream->queue.front();
  if (work->awaited) {
    if (const Status status = run_work(work->awaited)) return status;
  }
  stream->queue.pop_front();
  const Status status = execute(*work);
  work->done = true;
  if (is_lasting(status)) lost = status;
  return status;
}

bool can_go_on(const Stream* stream) {
  if (stream->queue.empty()) return false;
  const WorkRef& awaited = stream->queue.front()->awaited;
  return !awaited || awaited->done;
}

}  // namespace

void append(Stream* stream, WorkRef work) {
  work->stream = stream;
  if (work->pinned) work->pinned->copies++;
  for (const Launch& launch : work->launches) launch.function->queued++;
  stream->queue.push_back(std::move(work));
}

Status run_stream(Stream* stream) {
  while (!stream->queue.empty()) {
    if (const Status status = run_next(stream)) return status;
  }
  return SUCCESS;
}

Status run_work(const WorkRef& work) {
  while (!work->done) {
    if (const Status status = run_next(work->stream)) return status;
  }
  return SUCCESS;
}

void let_streams_run() {
  for (Context* context : contexts) {
    auto& streams = context->streams;
    if (lost || streams.empty()) return;
    switch (settings.order) {
      case Order::LATE:
        break;
      case Order::FORWARD:
        run_stream(streams.front());
        break;
      case Order::REVERSE:
        for (size_t i = streams.size(); i-- > 1;) {
          while (!lost && can_go_on(streams[i])) run_next(streams[i]);
        }
        break;
      case Order::RANDOM:
        for (u64 turns = random_number(6); turns > 0 && !lost; turns--) {
          Stream* stream = streams[random_number(streams.size())];
          if (can_go_on(stream)) run_next(stream);
        }
        break;
    }
  }
}
