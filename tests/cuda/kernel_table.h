// The kernels of the fake driver, by name. The argument types come from the C++ signature.
#pragma once
#include "emu_block.h"

#include <tuple>
#include <utility>

namespace fake {

typedef std::function<void()> Work;

// A kernel with its arguments copied, as cuLaunchKernel does, ready to run later.
typedef Work (*Bind)(void **arguments, dim3 grid, dim3 block, unsigned shared,
                     emu::SharedMemory memory);

struct Kernel {
    const char *name;
    Bind bind;
    int max_threads; // of __launch_bounds__
    emu::SharedMemory memory;
    Kernel *next;
    inline static Kernel *first = nullptr;
    Kernel(const char *name_, Bind bind_, int max_threads_, emu::SharedMemory memory_)
        : name(name_), bind(bind_), max_threads(max_threads_), memory(memory_), next(first) {
        first = this;
    }
};

constexpr int bounds(int max_threads, int /*min_blocks*/ = 1) { return max_threads; }

template <auto F, class... A, size_t... I>
Work bind_to(void (*)(A...), std::index_sequence<I...>, void **p, dim3 grid, dim3 block,
             unsigned shared, emu::SharedMemory memory) {
    std::tuple<A...> arguments{*(A *)p[I]...};
    return [=] { emu::launch(grid, block, shared, memory, [=] { F(std::get<I>(arguments)...); }); };
}

template <class... A> constexpr auto indices(void (*)(A...)) {
    return std::index_sequence_for<A...>{};
}

template <auto F>
Work bind(void **p, dim3 grid, dim3 block, unsigned shared, emu::SharedMemory memory) {
    return bind_to<F>(F, indices(F), p, grid, block, shared, memory);
}

} // namespace fake
