// Bank conflicts of the hooked build. Shared memory has 32 banks of 4 bytes; a bank serves one word
// at a time. A warp's access is divided into phases: all lanes for up to 4 bytes each, half of them
// for 8, a quarter for 16 and for the rows of one matrix of ldmatrix. The degree of a phase is the
// most different words that one bank must serve: 1 is free of conflicts.
//
// The lanes of a warp run one after another, so an access of the warp is put together from those
// of its lanes: the n-th access at one place in the code since the warp's last synchronisation.
// Lanes that take different numbers of turns may be put together wrongly. A copy or a load that g++
// splits into smaller ones is counted as these.
#include "machine.h"

#include <algorithm>

// The degree of the phases of `addresses`, those of the lanes in `mask`.
static u32 degree_of(const u32* addresses, u32 mask, u32 bytes) {
  const u32 lanes = bytes <= 4 ? WARP : 4 * WARP / bytes;
  u32 most = 0;
  for (u32 first = 0; first < WARP; first += lanes) {
    std::vector<u32> words[WARP];
    for (u32 lane = first; lane < first + lanes; lane++) {
      if (!(mask >> lane & 1)) continue;
      for (u32 word = addresses[lane] / 4; word <= (addresses[lane] + bytes - 1) / 4; word++) {
        std::vector<u32>& bank = words[word % WARP];
        if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
      }
    }
    for (const std::vector<u32>& bank : words) most = std::max(most, (u32)bank.size());
  }
  return most;
}

static void note(u32 degree, uintptr_t pc) {
  Machine& m = *machine;
  if (degree <= m.failure->bank_degree) return;
  m.failure->bank_degree = degree;
  m.failure->bank_pc = pc - m.library_start;
}

void count_banks_of_rows(const u64* rows, u32 matrices) {
  u32 addresses[WARP];
  for (u32 lane = 0; lane < WARP; lane++) addresses[lane] = (u32)rows[lane];
  const u32 mask = matrices == 4 ? ~0u : (1u << 8 * matrices) - 1;
  note(degree_of(addresses, mask, 16), machine->pc);
}

void count_banks(u32 address, u32 bytes) {
  const Thread* t = machine->current;
  const uintptr_t pc = machine->pc;
  Places& places = machine->warps[t->warp].places;
  Place& place = places[pc];
  const u32 turn = place.turns[t->lane]++;
  if (place.accesses.size() <= turn) place.accesses.resize(turn + 1);
  LaneAccess& access = place.accesses[turn];
  access.address[t->lane] = address, access.mask |= 1u << t->lane, access.bytes = bytes;
}

void close_accesses(u32 warp) {
  for (auto& [pc, place] : machine->warps[warp].places) {
    for (const LaneAccess& access : place.accesses) note(degree_of(access.address, access.mask, access.bytes), pc);
  }
  machine->warps[warp].places.clear();
}
