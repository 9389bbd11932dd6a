// Threads as fibers: a thread runs until it waits for others (`wait`); then the order selects the
// next one.
//
//   FORWARD  first come, first served, from thread 0: warps run in lockstep
//   REVERSE  last come, first served, from the last thread: a warp runs ahead until a barrier
//   RANDOM   any ready thread
//
// A failure leaves the fibers where they are and returns to the launch; destructors on their stacks
// do not run, and kernels have none.
#include "machine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <csignal>
#include <ctime>
#include <mutex>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

__thread Machine* machine;
extern "C" {
__thread SimtSelf simt_self;

// Saves the registers that a call preserves, stores the stack pointer in *from and resumes at `to`.
void simt_switch(void** from, void* to);
}

asm(R"(
.text
.globl simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");

static void enter(Thread* t) {
  machine->current = t;
  simt_self.thread = {t->number, 0, 0};
  simt_self.lane = t->lane;
}

void report(const char* format, ...) {
  Machine& m = *machine;
  char text[768], thread[32] = "";
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (m.current) snprintf(thread, sizeof thread, ", thread %u", m.current->number);
  const SimtIndex b = simt_self.block;
  snprintf(m.failure->message, sizeof m.failure->message, "%s [block (%u, %u, %u)%s]", text, b.x, b.y, b.z, thread);
  const bool in_library = m.pc >= m.library_start && m.pc < m.library_end;
  m.failure->pc = in_library ? m.pc - m.library_start : 0;
  m.failed = true;
}

void give_up() {
  void* abandoned;
  machine->current = nullptr;
  simt_switch(&abandoned, machine->main_stack);
  abort();
}

// xorshift64
u64 random_below(u64 n) {
  u64& x = machine->random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return (x >> 16) % n;
}

void make_ready(Thread* t) {
  t->state = State::READY;
  machine->ready.push_back(t);
}

// Null if no thread is ready.
static Thread* next_thread() {
  Machine& m = *machine;
  if (m.ready_head == m.ready.size()) return nullptr;
  Thread* next;
  if (m.config.order == FORWARD) {
    next = m.ready[m.ready_head++];
  } else {
    if (m.config.order == RANDOM) {
      const size_t chosen = m.ready_head + random_below(m.ready.size() - m.ready_head);
      std::swap(m.ready[chosen], m.ready.back());
    }
    next = m.ready.back();
    m.ready.pop_back();
  }
  if (m.ready_head == m.ready.size()) m.ready.clear(), m.ready_head = 0;
  return next;
}

static void give_way(Thread* self) {
  Thread* next = next_thread();
  if (next == self) return;
  if (!next) {
    machine->current = nullptr;
    simt_switch(&self->stack, machine->main_stack);
    return;
  }
  enter(next);
  simt_switch(&self->stack, next->stack);
}

void wait(const char* what, u32 line) {
  Thread* self = machine->current;
  self->waits_for = what;
  self->line = line;
  if (machine->overdue) overran();
  give_way(self);
}

static void thread_main() {
  Machine& m = *machine;
  m.call(m.arguments);
  m.pc = 0;
  check_copies_waited_for();
  if (m.barrier_waiting) {
    fail("ends while %u threads wait at __syncthreads in line %u", m.barrier_waiting, m.barrier_line);
  }
  m.current->state = State::DONE;
  m.done++;
  give_way(m.current);
  abort();
}

// A stack on which `simt_switch` starts thread_main. Successive stacks begin at different cache
// sets.
static void* new_stack(u32 number) {
  u8* top = machine->stacks + (number + 1) * STACK_BYTES - 64 - number % 61 * 320;
  void** p = (void**)top;
  *--p = nullptr;  // thread_main's return address, which it never uses
  *--p = (void*)thread_main;
  for (int saved = 0; saved < 6; saved++) *--p = nullptr;
  return p;
}

Machine::~Machine() {
  timer_delete((timer_t)timer);
  if (stacks) munmap(stacks, stack_count * STACK_BYTES);
}

static void reserve_stacks(size_t count) {
  Machine& m = *machine;
  if (m.stack_count >= count) return;
  if (m.stacks) munmap(m.stacks, m.stack_count * STACK_BYTES);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  m.stacks = (u8*)mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (m.stacks == MAP_FAILED) abort();
  m.stack_count = count;
  for (size_t i = 0; i < count; i++) mprotect(m.stacks + i * STACK_BYTES, 4096, PROT_NONE);
}

// AddressSanitizer's, if it is loaded.
extern "C" __attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, size_t bytes);

void forget_stacks() {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(machine->stacks, machine->stack_count * STACK_BYTES);
}

void prepare_threads() {
  Machine& m = *machine;
  const u32 n = m.config.block;
  reserve_stacks(n);
  m.threads.resize(n);
  m.ready.clear();
  m.ready_head = m.done = 0;
  for (u32 i = 0; i < n; i++) {
    Thread& t = m.threads[i];
    t.number = i, t.lane = i % WARP, t.warp = i / WARP;
    t.copies.clear(), t.group_ends.clear();
    t.waits_for = nullptr;
    t.stack = new_stack(i);
    make_ready(&t);
  }
}

// Describes where the threads are, each place once.
static std::string whereabouts() {
  const Machine& m = *machine;
  std::vector<std::pair<std::string, std::string>> places;  // place, and thread numbers
  for (size_t i = 0; i < m.threads.size();) {
    const auto what = [&](const Thread& t) -> std::string {
      if (&t == m.current) return "runs";
      if (t.state == State::DONE) return "ended";
      if (!t.waits_for) return "has not begun";
      const std::string name = std::string(t.state == State::READY ? "may leave " : "waits at ") + t.waits_for;
      return t.line ? name + " in line " + std::to_string(t.line) : name;
    };
    const std::string here = what(m.threads[i]);
    const size_t first = i;
    while (i < m.threads.size() && what(m.threads[i]) == here) i++;
    std::string range = std::to_string(first);
    if (first + 1 < i) range += "-" + std::to_string(i - 1);
    size_t known = 0;
    while (known < places.size() && places[known].first != here) known++;
    if (known == places.size()) places.push_back({here, ""});
    places[known].second += (places[known].second.empty() ? "" : ", ") + range;
  }
  std::string text;
  for (const auto& [here, whose] : places) text += (text.empty() ? "thread " : "; thread ") + whose + " " + here;
  return text;
}

// Runs the block until all threads have ended or none can continue.
void run_threads() {
  Machine& m = *machine;
  Thread* first = next_thread();
  enter(first);
  simt_switch(&m.main_stack, first->stack);
  m.current = nullptr;
  if (m.failed || m.done == m.config.block) return;

  m.pc = 0;
  report("deadlock: %s", whereabouts().c_str());
}

// ---- a block that does not end -----------------------------------------------------------------------------------

static const int TICK = SIGRTMAX - 3;
static const u32 TICKS = 10;  // in the limit of a block

void overran() {
  const u32 limit = machine->config.limit_ms;
  fail("the block has not ended after %u ms of processor time: %s", limit, whereabouts().c_str());
}

// Continues in `function` at the top of the current fiber's stack: the fiber itself is given up.
// Like a return address, `pc` is after the instruction; in a model, the kernel's call of it counts.
static void give_up_fiber(ucontext_t* context, void (*function)()) {
  Machine& m = *machine;
  auto* registers = context->uc_mcontext.gregs;
  const uintptr_t pc = registers[REG_RIP];
  if (pc >= m.library_start && pc < m.library_end) m.pc = pc + 1;
  u8* top = m.stacks + (m.current->number + 1) * STACK_BYTES - 64;
  registers[REG_RSP] = (greg_t)(top - 8);
  registers[REG_RIP] = (greg_t)function;
}

// Kernel code may be interrupted anywhere, a model only at fixed points (`wait`, and each access of
// the hooked build).
static void on_tick(int, siginfo_t*, void* context) {
  if (!machine || !machine->current) return;
  Machine& m = *machine;
  if (m.watched != m.blocks_begun) m.watched = m.blocks_begun, m.ticks = 0;
  if (++m.ticks <= TICKS) return;
  m.overdue = true;
  const uintptr_t pc = ((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
  if (pc >= m.library_start && pc < m.library_end) give_up_fiber((ucontext_t*)context, overran);
}

static void set_timer(u32 interval_ms) {
  const timespec interval = {interval_ms / 1000, interval_ms % 1000 * 1000000L};
  const itimerspec both = {interval, interval};
  timer_settime((timer_t)machine->timer, 0, &both, nullptr);
}

// The timer counts the processor time of this OS thread, so that a busy machine causes no timeout.
// All other members are zero, because every OS thread's machine is static.
Machine::Machine() {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = TICK;
  event._sigev_un._tid = (int)syscall(SYS_gettid);
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, (timer_t*)&timer)) abort();
}

void start_watching() {
  machine->overdue = false;
  machine->watched = machine->blocks_begun = 0;
  machine->ticks = 0;
  set_timer(std::max(machine->config.limit_ms / TICKS, 1u));
}

void stop_watching() { set_timer(0); }

// ---- memory faults of a kernel become failures -------------------------------------------------------------------

static struct sigaction previous[3];
static const int FAULTS[3] = {SIGSEGV, SIGBUS, SIGFPE};
static __thread void* fault_address;

static void faulted_in_memory() {
  fail("memory fault at %p: outside every operand's allocation, not aligned, or a stack overflow", fault_address);
}

static void faulted_in_arithmetic() { fail("an integer divided by zero"); }

static void on_fault(int signal, siginfo_t* info, void* context) {
  if (!machine || !machine->current) {
    for (int i = 0; i < 3; i++) {
      if (FAULTS[i] == signal) sigaction(signal, &previous[i], nullptr);  // the fault recurs, for the previous handler
    }
    return;
  }
  fault_address = info->si_addr;
  give_up_fiber((ucontext_t*)context, signal == SIGFPE ? faulted_in_arithmetic : faulted_in_memory);
}

void catch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; i++) sigaction(FAULTS[i], &action, &previous[i]);
    action.sa_sigaction = on_tick;
    action.sa_flags |= SA_RESTART;
    sigaction(TICK, &action, nullptr);
  });
}
