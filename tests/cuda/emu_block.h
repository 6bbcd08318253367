// Blocks of CUDA threads on one CPU thread: every CUDA thread is a fiber that runs until it waits
// for others, and the order in which the fibers of a block run is chosen by `schedule`.
//
// One kernel runs at a time (the fake driver holds a lock), so the state here is global. Besides
// computing, it is a linter: it ends the process with the block and the thread when a barrier is
// met after some thread has left, when lanes of a warp meet at different operations, and when
// nobody can go on.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emu {

struct Index {
    unsigned x, y, z;
};

constexpr size_t STACK_BYTES = 64 * 1024;
constexpr size_t PAGE_BYTES = 4096;
constexpr unsigned char POISON = 0xCD; // what unwritten memory holds

// ---- fibers ----

#ifdef __x86_64__
struct Context {
    void *sp;
};

// Saves the registers that a call must keep, and goes on where `to` was left.
__attribute__((naked, noinline)) inline void switch_stacks(void ** /*save*/, void * /*to*/) {
    asm("push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, (%rdi); mov %rsi, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
}

inline void switch_to(Context &from, Context &to) { switch_stacks(&from.sp, to.sp); }

inline void prepare(Context &context, char *stack, void (*entry)()) {
    void **sp = (void **)((uintptr_t)(stack + STACK_BYTES) & ~(uintptr_t)15);
    *--sp = nullptr; // where `entry` would return to; it never does
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++) *--sp = nullptr; // the six registers
    context.sp = sp;
}
#else
struct Context {
    ucontext_t context;
};

inline void switch_to(Context &from, Context &to) { swapcontext(&from.context, &to.context); }

inline void prepare(Context &context, char *stack, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = STACK_BYTES;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}
#endif

// A copy into shared memory that has been asked for.
struct Copy {
    void *to;
    const void *from; // null: zeros
    size_t bytes;
};

struct Fiber {
    Context context;
    char *stack;
    Index thread;      // threadIdx
    int linear;        // x fastest; the warp is linear / 32
    unsigned barriers; // how many this thread has come to
    bool done;
    std::vector<Copy> copies; // under way
};

// A stack with a page below it that nobody may touch. Kept for the next launch.
inline char *stack_of(size_t i) {
    static std::vector<char *> stacks;
    while (stacks.size() <= i) {
        char *p = (char *)mmap(nullptr, PAGE_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p, PAGE_BYTES, PROT_NONE) != 0) abort();
        stacks.push_back(p + PAGE_BYTES);
    }
    return stacks[i];
}

// ---- a warp's meetings (emu_warp.h) ----

struct alignas(16) Posted {
    unsigned char bytes[64];
};

// Lanes that named the same mask. What they post is kept in two places by turns: a lane can post
// again only when all have read what was posted the time before.
struct Meeting {
    unsigned mask;
    unsigned count[32]; // how often each lane has been here
    Posted posted[2][32];
    const char *op[2];
};

struct Warp {
    static constexpr int MAX_MASKS = 8;
    Meeting meetings[MAX_MASKS];
    int n_meetings;
    unsigned exited; // lanes that have returned
};

// ---- blocks ----

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Index index; // blockIdx
    dim3 grid, block;
    int n_threads = 0, n_exited = 0;
    int arrived = 0;           // at the barrier that is open
    unsigned barriers = 0;     // barriers that all have passed
    int votes = 0, tally = 0;  // of __syncthreads_count: being counted, and the last result
    int current = 0;           // the fiber that runs
    long progress = 0;         // grows whenever a thread gets anywhere
    Context scheduler;
    const std::function<void()> *body = nullptr;
    std::vector<unsigned char> dynamic; // dynamic shared memory
};

inline Block *block = nullptr;
// 0: threads and blocks ascending; 1: descending; others: shuffled, with this as seed. With 3 each
// warp goes ahead as far as it gets alone: what is written too early is seen by the warps behind.
inline int schedule = 0;
constexpr int WARPS_AHEAD = 3;

inline Fiber &self() { return block->fibers[block->current]; }

inline void yield() { switch_to(self().context, block->scheduler); }

[[noreturn]] inline void die(const char *what) {
    const Index &b = block->index, &t = self().thread;
    fprintf(stderr, "emulator: %s, block (%u, %u, %u) thread (%u, %u, %u)\n", what, b.x, b.y, b.z,
            t.x, t.y, t.z);
    abort();
}

inline void fiber_main() {
    (*block->body)();
    Fiber &fiber = self();
    if (!fiber.copies.empty()) die("a thread returns without having waited for its copies");
    fiber.done = true;
    block->warps[fiber.linear / 32].exited |= 1u << (fiber.linear % 32);
    block->n_exited++;
    block->progress++;
    yield();
    abort(); // nobody resumes a fiber that is done
}

// Returns for how many threads `vote` was true.
inline int barrier(bool vote) {
    Fiber &fiber = self();
    if (block->n_exited) die("__syncthreads after a thread of the block has returned");
    const unsigned mine = ++fiber.barriers;
    block->progress++;
    block->votes += vote;
    if (++block->arrived == block->n_threads) {
        block->arrived = 0;
        block->tally = block->votes;
        block->votes = 0;
        block->barriers = mine;
    }
    while ((int)(block->barriers - mine) < 0) yield();
    return block->tally;
}

inline void *dyn_smem() {
    return (void *)(((uintptr_t)block->dynamic.data() + 15) & ~(uintptr_t)15);
}

// In which order `n` things are taken; `salt` makes shuffled orders differ between blocks.
inline void order_of(std::vector<long> &order, long n, unsigned salt) {
    order.resize(n);
    for (long i = 0; i < n; i++) order[i] = schedule == 1 ? n - 1 - i : i;
    if (schedule < 2) return;
    unsigned state = (unsigned)schedule * 2654435761u ^ salt;
    for (long i = n - 1; i > 0; i--) {
        state = state * 1664525u + 1013904223u;
        std::swap(order[i], order[(state >> 8) % (i + 1)]);
    }
}

inline void run_block(long linear) {
    Block &b = *block;
    b.n_exited = b.arrived = b.votes = b.tally = 0;
    b.barriers = 0;
    for (Warp &warp : b.warps) warp.n_meetings = 0, warp.exited = 0;
    for (Fiber &fiber : b.fibers) {
        prepare(fiber.context, fiber.stack, fiber_main);
        fiber.done = false;
        fiber.barriers = 0;
    }
    static std::vector<long> order;
    order_of(order, b.n_threads, (unsigned)linear);
    const auto resume = [&](long i) {
        if (b.fibers[i].done) return false;
        b.current = (int)i;
        switch_to(b.scheduler, b.fibers[i].context);
        return !b.fibers[i].done;
    };
    for (int left = b.n_threads; left > 0;) {
        const long before = b.progress;
        left = 0;
        if (schedule == WARPS_AHEAD) {
            for (int warp = 0; warp < b.n_threads; warp += 32) {
                const int end = std::min(warp + 32, b.n_threads);
                int waiting = 0;
                long seen = -1; // with an end for those that sleep until another warp is ready
                for (int round = 0; seen != b.progress && round < 1000; round++) {
                    seen = b.progress;
                    waiting = 0;
                    for (int i = warp; i < end; i++) waiting += resume(i);
                }
                left += waiting;
            }
        } else {
            for (long i : order) left += resume(i);
        }
        if (left > 0 && before == b.progress) die("deadlock: every thread waits");
    }
}

// Static shared memory of the module that runs, so that it can be poisoned before each block.
struct SharedMemory {
    unsigned char *begin, *end;
};

inline void launch(dim3 grid, dim3 threads, size_t dynamic_bytes, SharedMemory shared,
                   const std::function<void()> &body) {
    Block b;
    b.grid = grid;
    b.block = threads;
    b.n_threads = (int)(threads.x * threads.y * threads.z);
    b.body = &body;
    b.dynamic.resize(dynamic_bytes + 16);
    b.fibers.resize(b.n_threads);
    b.warps.resize((b.n_threads + 31) / 32);
    for (int i = 0; i < b.n_threads; i++) {
        const unsigned u = (unsigned)i;
        b.fibers[i].stack = stack_of(i);
        b.fibers[i].linear = i;
        b.fibers[i].thread = {u % threads.x, u / threads.x % threads.y, u / (threads.x * threads.y)};
    }
    block = &b;
    std::vector<long> order;
    order_of(order, (long)grid.x * grid.y * grid.z, 0x5bd1e995u);
    for (long i : order) {
        b.index = {(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                   (unsigned)(i / grid.x / grid.y)};
        memset(b.dynamic.data(), POISON, b.dynamic.size());
        if (shared.begin != shared.end) memset(shared.begin, POISON, shared.end - shared.begin);
        run_block(i);
    }
    block = nullptr;
}

} // namespace emu
