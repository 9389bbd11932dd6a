// Synchronization within a block: __syncthreads, and operations that the lanes of a warp perform
// together.
//
// Stricter than the hardware where a kernel that needs the leniency is likely wrong: all threads
// reach one barrier at the same line of the source, and none has ended; the lanes of a warp
// operation are at the same call, even if a function that contains it is called twice; no lane
// reads one that does not participate. Only __syncthreads and __syncwarp order memory, as CUDA
// says: shuffles and votes do not.
#include "machine.h"

extern "C" void simt_barrier(u32 line) {
  ENTER();
  Machine& m = *machine;
  if (m.done) fail("__syncthreads in line %u: %u threads have ended already", line, m.done);
  if (m.barrier_waiting && m.barrier_line != line) {
    fail("__syncthreads in line %u while others wait at the one in line %u", line, m.barrier_line);
  }
  m.barrier_line = line;
  m.current->state = State::WAITING;
  if (++m.barrier_waiting == m.config.block) {
    m.barrier_waiting = 0;
    if (m.config.hooked) order_all();
    for (Thread& t : m.threads) make_ready(&t);
  }
  wait("__syncthreads", line);
}

// The lanes that the current thread's warp has: the last may be incomplete.
static u32 lanes_of_warp(u32 warp) {
  const u32 count = machine->config.block - warp * WARP;
  return count >= WARP ? 0xffffffffu : (1u << count) - 1;
}

static const char* name_of(SimtWarpOp op) {
  static const char* const names[] = {"__syncwarp", "a shuffle", "a vote", "ldmatrix", "mma"};
  return names[op];
}

static std::string at(SimtWarpOp op, u32 line) {
  return line ? name_of(op) + (" in line " + std::to_string(line)) : name_of(op);
}

static Meeting& meeting_of(Warp& warp, u32 mask) {
  for (Meeting& meeting : warp.meetings) {
    if (meeting.mask == mask) return meeting;
  }
  warp.meetings.push_back({});
  warp.meetings.back().mask = mask;
  return warp.meetings.back();
}

u32 next_side() {
  const Thread* t = machine->current;
  return meeting_of(machine->warps[t->warp], lanes_of_warp(t->warp)).generation % 2;
}

const u64* meet(u32 mask, SimtWarpOp op, u32 line, u64 value, void (*all_here)(Meeting&)) {
  Machine& m = *machine;
  Thread* self = m.current;
  const u32 warp = self->warp;
  mask &= lanes_of_warp(warp);
  if (!(mask >> self->lane & 1)) {
    fail("%s in line %u: lane %u is not in the mask %08x", name_of(op), line, self->lane, mask);
  }
  Meeting& meeting = meeting_of(m.warps[warp], mask);
  if (meeting.arrived && (meeting.op != op || meeting.place != m.pc)) {
    const bool twice = meeting.op == op && meeting.line == line;
    fail("a warp diverged: %s, while other lanes are at %s%s", at(op, line).c_str(),
         at(meeting.op, meeting.line).c_str(), twice ? ", called elsewhere" : "");
  }
  meeting.op = op, meeting.line = line, meeting.place = m.pc;
  meeting.arrived |= 1u << self->lane;
  const u32 side = meeting.generation % 2;
  meeting.values[side][self->lane] = value;
  self->state = State::WAITING;
  if (meeting.arrived == mask) {
    if (all_here) all_here(meeting);
    if (op == SIMT_SYNC && m.config.hooked) order_lanes(warp, mask);
    meeting.arrived = 0;
    meeting.generation++;
    for (u32 lane = 0; lane < WARP; lane++) {
      if (mask >> lane & 1) make_ready(&m.threads[warp * WARP + lane]);
    }
  }
  wait(name_of(op), line);
  // Searched again: a lane that ran ahead with another mask may have moved the list.
  return meeting_of(m.warps[warp], mask).values[side];
}

extern "C" void simt_sync_warp(u32 mask, u32 line) {
  ENTER();
  meet(mask, SIMT_SYNC, line, 0);
}

extern "C" u64 simt_shuffle(u32 mask, u64 value, u32 source, u32 line) {
  ENTER();
  const u32 warp = machine->current->warp;
  if (source >= WARP || !((mask & lanes_of_warp(warp)) >> source & 1)) {
    fail("a shuffle in line %u reads lane %u, which is not in the mask %08x", line, source, mask);
  }
  return meet(mask, SIMT_SHUFFLE, line, value)[source];
}

extern "C" u32 simt_ballot(u32 mask, bool predicate, u32 line) {
  ENTER();
  const u32 lanes = mask & lanes_of_warp(machine->current->warp);
  const u64* values = meet(mask, SIMT_BALLOT, line, predicate);
  u32 bits = 0;
  for (u32 lane = 0; lane < WARP; lane++) {
    if (lanes >> lane & 1 && values[lane]) bits |= 1u << lane;
  }
  return bits;
}
