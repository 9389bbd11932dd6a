// SOFTWARE_GPU: settings of the software GPU, `key=value` separated by commas or spaces.
//   order=late | forward | reverse | random    when and how streams run (queue.cpp)
//   seed=N            of order=random
//   devices=N         GPUs that the driver lists
//   driver=13020      the driver's CUDA release, 1000 major + 10 minor
//   capability=90     of every GPU, 10 major + minor
//   memory=BYTES      of every GPU
//   init=CODE         what cuInit returns
//   fail=NAME@N:CODE  the N-th call of the function NAME returns CODE (from 1); `kernel` counts
//                     executed launches instead. Codes that mean a lost GPU last until the process
//                     ends. May occur several times.
// SOFTWARE_GPU_COUNTS names a file to which the number of calls of each function is written at exit.
#include "gpu.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

Settings settings;
Status lost = SUCCESS;

namespace {

struct Failure {
  std::string function;
  u64 call;
  Status status;
};

// On the heap and never freed: they are used before and after the library's own initializers.
std::vector<Failure>& failures() {
  static auto* const all = new std::vector<Failure>;
  return *all;
}
std::map<std::string, u64>& calls() {
  static auto* const counts = new std::map<std::string, u64>;
  return *counts;
}
u64 random_state;

[[noreturn]] void misread(const std::string& what) {
  fprintf(stderr, "software GPU: SOFTWARE_GPU: %s\n", what.c_str());
  _exit(VIOLATION);
}

Order order_of(const std::string& name) {
  if (name == "late") return Order::LATE;
  if (name == "forward") return Order::FORWARD;
  if (name == "reverse") return Order::REVERSE;
  if (name == "random") return Order::RANDOM;
  misread("no order is named " + name);
}

Failure failure_of(const std::string& text) {
  const size_t at = text.find('@'), colon = text.find(':');
  if (at == std::string::npos || colon == std::string::npos || colon < at) misread("fail=NAME@N:CODE, not " + text);
  return {text.substr(0, at), strtoull(&text[at + 1], nullptr, 10), (Status)atoi(&text[colon + 1])};
}

void set(const std::string& key, const std::string& value) {
  const u64 number = strtoull(value.c_str(), nullptr, 10);
  if (key == "order") settings.order = order_of(value);
  else if (key == "seed") settings.seed = number;
  else if (key == "devices") settings.devices = (int)number;
  else if (key == "driver") settings.driver = (int)number;
  else if (key == "capability") settings.capability = (int)number;
  else if (key == "memory") settings.memory = number;
  else if (key == "init") settings.init = (int)number;
  else if (key == "fail") failures().push_back(failure_of(value));
  else misread("no setting is named " + key);
}

__attribute__((constructor)) void read_settings() {
  const char* variable = getenv("SOFTWARE_GPU");
  const std::string text = variable ? variable : "";
  for (size_t start = 0; start < text.size();) {
    size_t end = text.find_first_of(", ", start);
    if (end == std::string::npos) end = text.size();
    const std::string entry = text.substr(start, end - start);
    const size_t equals = entry.find('=');
    if (!entry.empty()) {
      if (equals == std::string::npos) misread("key=value, not " + entry);
      set(entry.substr(0, equals), entry.substr(equals + 1));
    }
    start = end + 1;
  }
  random_state = settings.seed * 0x9e3779b97f4a7c15ull | 1;
}

__attribute__((destructor)) void write_counts() {
  const char* path = getenv("SOFTWARE_GPU_COUNTS");
  FILE* file = path && !calls().empty() ? fopen(path, "w") : nullptr;
  if (!file) return;
  for (const auto& [name, count] : calls()) fprintf(file, "%s %llu\n", name.c_str(), (unsigned long long)count);
  fclose(file);
}

}  // namespace

void violated(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "software GPU: violation: %s\n", text);
  _exit(VIOLATION);
}

// Those of which the driver's documentation says that the process must end.
bool is_lasting(Status status) {
  switch (status) {
    case DEVICE_UNAVAILABLE:
    case ECC_UNCORRECTABLE:
    case ILLEGAL_ADDRESS:
    case MISALIGNED_ADDRESS:
    case LAUNCH_FAILED:
    case UNKNOWN:
      return true;
    default:
      return false;
  }
}

Status requested_failure(const char* function) {
  const u64 call = ++calls()[function];
  for (const Failure& f : failures()) {
    if (f.function != function || f.call != call) continue;
    if (is_lasting(f.status)) lost = f.status;
    return f.status;
  }
  return SUCCESS;
}

// xorshift64
u64 random_number(u64 below) {
  u64& x = random_state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return (x >> 16) % below;
}
