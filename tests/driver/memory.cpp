// Device memory is address space of this process, reserved once and never used twice: an address of
// freed memory stays inaccessible and is recognized. An allocation begins on a 256-byte boundary and ends
// within 256 bytes of an inaccessible page; the bytes between are canaries. New memory is poison.
#include "gpu.h"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>

namespace {

constexpr u64 PAGE = 4096, GUARD = 1 << 20, ALIGNMENT = 256, RESERVED = 8ull << 40;
constexpr u8 CANARY = 0xcb;

u64 next_address;
auto& allocations = *new std::map<u64, std::unique_ptr<Allocation>>;  // by address, freed ones too

u64 reserve(u64 bytes) {
  static const u64 start = [] {
    void* p = mmap(nullptr, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) violated("no address space for device memory");
    return (u64)p;
  }();
  if (!next_address) next_address = start;
  const u64 pages = next_address + GUARD;
  next_address = pages + bytes;
  if (next_address + GUARD > start + RESERVED) violated("the address space of device memory is used up");
  return pages;
}

void protect(const Allocation* a, int protection) {
  if (mprotect((void*)a->pages, a->pages_bytes, protection)) violated("mprotect of device memory fails");
}

}  // namespace

Allocation* allocate(Context* context, u64 bytes) {
  auto a = std::make_unique<Allocation>();
  a->bytes = bytes, a->context = context;
  a->pages_bytes = (bytes + PAGE - 1) / PAGE * PAGE;
  a->pages = reserve(a->pages_bytes);
  a->address = (a->pages + a->pages_bytes - bytes) / ALIGNMENT * ALIGNMENT;
  Allocation* made = a.get();
  allocations[a->address] = std::move(a);
  return made;
}

Allocation* allocation_of(u64 address) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  Allocation* a = std::prev(next)->second.get();
  return address < a->address + a->bytes ? a : nullptr;
}

void begin(Allocation* a) {
  protect(a, PROT_READ | PROT_WRITE);
  memset((void*)a->pages, CANARY, a->pages_bytes);
  memset((void*)a->address, POISON, a->bytes);
  a->begun = true;
}

void end(Allocation* a) {
  check_surroundings(a, "before it was freed");
  madvise((void*)a->pages, a->pages_bytes, MADV_DONTNEED);
  protect(a, PROT_NONE);
  a->ended = true;
}

void check_surroundings(const Allocation* a, const char* by) {
  const auto is_canary = [](u8 byte) { return byte == CANARY; };
  const u8 *start = (const u8*)a->pages, *end = start + a->pages_bytes;
  const u8 *first = (const u8*)a->address, *last = first + a->bytes;
  if (!std::all_of(start, first, is_canary)) violated("something was written before an allocation, %s", by);
  if (!std::all_of(last, end, is_canary)) violated("something was written after an allocation, %s", by);
}

u64 bytes_in_use(const Context* context) {
  u64 sum = 0;
  for (const auto& [address, a] : allocations) {
    if (a->context->device == context->device && !a->free_queued && !a->ended) sum += a->bytes;
  }
  return sum;
}

std::vector<Allocation*> live_allocations(const Context* context) {
  std::vector<Allocation*> live;
  for (const auto& [address, a] : allocations) {
    if (a->context == context && !a->free_queued && !a->ended) live.push_back(a.get());
  }
  return live;
}
