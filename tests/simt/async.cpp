// cp.async: copies from global to shared memory that arrive some time between their issue and the
// wait for their group.
//
// Late: a copy's target is poisoned at issue and filled in the wait, so a read that is too early
// sees NaN, and a source or target that is reused too early gives wrong values. Early: filled at
// issue. A kernel must give the same bits in both. A thread may not end with copies that it did not
// wait for.
#include "machine.h"

static void arrive(const Copy& copy) {
  u8* to = shared_memory(copy.to, copy.size, "cp.async");
  if (machine->config.hooked) {
    mark_in_flight(copy.to, copy.size, false);
    check_shared(copy.to, copy.size, true);
  }
  memcpy(to, copy.from, copy.bytes);
  memset(to + copy.bytes, 0, copy.size - copy.bytes);
}

extern "C" void simt_cp_async(u32 to, const void* from, u32 size, u32 bytes) {
  ENTER();
  Machine& m = *machine;
  if (bytes > size) fail("cp.async of %u bytes to %u", bytes, size);
  if (to % size || (uintptr_t)from % size) {
    fail("cp.async: shared 0x%x or global %p is not on a boundary of %u bytes", to, from, size);
  }
  u8* target = shared_memory(to, size, "cp.async");
  if (bytes && !in_operand(from, bytes)) fail("cp.async reads %u bytes at %p, outside every operand", bytes, from);
  if (bytes && m.config.hooked) check_global(from, bytes, false, "cp.async");
  if (m.config.hooked) count_banks(to, size);
  const Copy copy = {to, size, bytes, (const u8*)from};
  if (!m.config.late) {
    arrive(copy);
    return;
  }
  if (m.config.hooked) {
    check_shared(to, size, true);
    mark_in_flight(to, size, true);
  }
  memset(target, POISON, size);
  m.current->copies.push_back(copy);
}

extern "C" void simt_cp_async_commit() {
  Thread& t = *machine->current;
  t.group_ends.push_back(t.copies.size());
}

extern "C" void simt_cp_async_wait(u32 pending) {
  ENTER();
  Thread& t = *machine->current;
  if (t.group_ends.size() <= pending) return;
  const size_t groups = t.group_ends.size() - pending, arrived = t.group_ends[groups - 1];
  for (size_t i = 0; i < arrived; i++) arrive(t.copies[i]);
  t.copies.erase(t.copies.begin(), t.copies.begin() + arrived);
  t.group_ends.erase(t.group_ends.begin(), t.group_ends.begin() + groups);
  for (size_t& end : t.group_ends) end -= arrived;
}

void check_copies_waited_for() {
  const size_t copies = machine->current->copies.size();
  if (copies) fail("ends with %zu copies of cp.async that it did not wait for", copies);
}
