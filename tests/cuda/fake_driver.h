// What the fake driver keeps: devices, memory, streams that are lazy, events, graphs.
//
// Lazy: work runs only when something waits for it. So a wait that the host code forgot shows up
// as wrong data, every time.
#pragma once
#include "kernel_table.h"

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace fake {

typedef int Result; // CUresult
typedef unsigned long long DevicePtr;

enum : Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURED_EVENT = 907,
    GRAPH_EXEC_UPDATE_FAILURE = 910,
};

inline const char *name_of(Result r) {
    switch (r) {
    case SUCCESS: return "CUDA_SUCCESS";
    case INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
    case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case NOT_INITIALIZED: return "CUDA_ERROR_NOT_INITIALIZED";
    case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
    case INVALID_DEVICE: return "CUDA_ERROR_INVALID_DEVICE";
    case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case INVALID_HANDLE: return "CUDA_ERROR_INVALID_HANDLE";
    case NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
    case NOT_READY: return "CUDA_ERROR_NOT_READY";
    case LAUNCH_OUT_OF_RESOURCES: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
    case LAUNCH_FAILED: return "CUDA_ERROR_LAUNCH_FAILED";
    case NOT_SUPPORTED: return "CUDA_ERROR_NOT_SUPPORTED";
    case CAPTURE_UNSUPPORTED: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CAPTURE_UNJOINED: return "CUDA_ERROR_STREAM_CAPTURE_UNJOINED";
    case CAPTURE_ISOLATION: return "CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
    case CAPTURED_EVENT: return "CUDA_ERROR_CAPTURED_EVENT";
    case GRAPH_EXEC_UPDATE_FAILURE: return "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE";
    default: return "CUDA_ERROR_UNKNOWN";
    }
}

inline long long env(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoll(text) : otherwise;
}

// One lock for everything, held while kernels run: they are run by whoever waits for them.
inline std::recursive_mutex &lock() {
    static std::recursive_mutex mutex;
    return mutex;
}

// ---- calls: counted, and made to fail on demand ----

struct Calls {
    long long total = 0, matching = 0, launches = 0;
    bool lost = false;
    std::map<std::string, long long> by_name;
};

inline Calls &calls() {
    static Calls *c = new Calls; // outlives the exit handlers
    return *c;
}

// Counts a call; what it must fail with, or SUCCESS.
inline Result note(const char *name) {
    static const long long fail_at = env("FAKE_CUDA_FAIL_AT", 0);
    static const bool stays = env("FAKE_CUDA_LOST", 0) != 0;
    static const char *only = getenv("FAKE_CUDA_FAIL_NAME");
    Calls &c = calls();
    c.total++;
    c.by_name[name]++;
    if (c.lost) return LAUNCH_FAILED;
    if (!only || strncmp(name, only, strlen(only)) == 0) c.matching++;
    else return SUCCESS;
    if (!fail_at || c.matching != fail_at) return SUCCESS;
    c.lost = stays;
    const bool memory = strncmp(name, "cuMemAlloc", 10) == 0 || strcmp(name, "cuMemHostAlloc") == 0;
    return (Result)env("FAKE_CUDA_FAIL_CODE", memory && !stays ? OUT_OF_MEMORY : LAUNCH_FAILED);
}

// ---- devices ----

struct Device {
    int index;
    size_t total, context, used = 0, peak = 0;
    int retained = 0; // how often the primary context is held
    size_t free() const {
        const size_t taken = used + (retained ? context : 0);
        return total > taken ? total - taken : 0;
    }
};

inline std::deque<Device> &devices() {
    static std::deque<Device> *all = [] {
        auto *d = new std::deque<Device>;
        const size_t total = (size_t)env("FAKE_CUDA_MEMORY", 8ll << 30);
        for (int i = 0; i < (int)env("FAKE_CUDA_DEVICES", 1); i++)
            d->push_back({i, total, (size_t)env("FAKE_CUDA_CONTEXT", 0)});
        return d;
    }();
    return *all;
}

inline thread_local Device *current = nullptr; // the thread's context

// ---- memory ----

struct Allocation {
    size_t bytes;
    Device *device; // null: pinned host memory
    void *map;
    size_t map_bytes;
};

struct Memory {
    std::map<uintptr_t, Allocation> live;
    size_t pinned = 0, pinned_peak = 0;
};

inline Memory &memory() {
    static Memory *m = new Memory;
    return *m;
}

inline size_t rounded(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Poisoned memory that ends at a page nobody may touch, aligned as the driver's is.
inline uintptr_t allocate(size_t n, Device *device) {
    const size_t taken = rounded(n, 256), mapped = rounded(taken, emu::PAGE_BYTES);
    char *map = (char *)mmap(nullptr, mapped + emu::PAGE_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return 0;
    mprotect(map + mapped, emu::PAGE_BYTES, PROT_NONE);
    char *p = map + mapped - taken;
    memset(p, emu::POISON, taken);
    memory().live[(uintptr_t)p] = {n, device, map, mapped + emu::PAGE_BYTES};
    size_t &used = device ? device->used : memory().pinned;
    size_t &peak = device ? device->peak : memory().pinned_peak;
    used += n;
    peak = std::max(peak, used);
    return (uintptr_t)p;
}

inline Result release(uintptr_t p) {
    auto at = memory().live.find(p);
    if (at == memory().live.end()) return INVALID_VALUE;
    const Allocation a = at->second;
    for (size_t i = a.bytes; i < rounded(a.bytes, 256); i++)
        if (((unsigned char *)p)[i] != emu::POISON) {
            fprintf(stderr, "fake driver: written behind the end of %zu bytes\n", a.bytes);
            abort();
        }
    (a.device ? a.device->used : memory().pinned) -= a.bytes;
    munmap(a.map, a.map_bytes);
    memory().live.erase(at);
    return SUCCESS;
}

// Whether [p, p + n) lies in one live allocation: `pinned` ones only, or any.
inline bool known(uintptr_t p, size_t n, bool pinned = false) {
    auto at = memory().live.upper_bound(p);
    if (at == memory().live.begin()) return false;
    --at;
    if (pinned && at->second.device) return false;
    return p - at->first <= at->second.bytes && n <= at->second.bytes - (p - at->first);
}

// ---- streams, events, graphs ----

struct Node {
    std::string kind;
    Work run;
    std::vector<int> after; // nodes that must have run
};

struct Graph {
    std::vector<Node> nodes;
};

struct Stream;

struct Capture {
    Graph graph;
    Stream *origin;
    std::set<Stream *> members;
    bool open = true;
};

struct Stream {
    Device *device = nullptr;
    bool blocking = false; // waits for the null stream and is waited for by it
    std::deque<Work> queue;
    std::shared_ptr<Capture> capture;
    std::vector<int> frontier; // the nodes of the capture that the next one comes after
};

struct Event {
    Stream *stream = nullptr;
    long wanted = 0, done = 0;
    bool timed = true;
    std::chrono::steady_clock::time_point when;
    std::shared_ptr<Capture> capture; // recorded in it, after these nodes:
    std::vector<int> nodes;
};
typedef std::shared_ptr<Event> EventHandle; // a CUevent points to one of these

inline std::set<Stream *> &streams() {
    static auto *all = new std::set<Stream *>;
    return *all;
}

inline Stream *null_stream() {
    static Stream *s = [] {
        auto *made = new Stream;
        streams().insert(made);
        return made;
    }();
    return s;
}

// 1 and 2 are CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
inline Stream *stream_of(void *handle) {
    return (uintptr_t)handle > 2 ? (Stream *)handle : null_stream();
}

inline void step(Stream &s) {
    Work work = std::move(s.queue.front());
    s.queue.pop_front();
    work();
}

inline void drain(Stream &s) {
    while (!s.queue.empty()) step(s);
}

inline void drain_all() {
    for (Stream *s : streams()) drain(*s);
}

// What the null stream waits for.
inline void drain_legacy() {
    for (Stream *s : streams())
        if (s->blocking || s == null_stream()) drain(*s);
}

inline void add(Stream &s, const std::string &kind, Work work) {
    if (s.capture) {
        s.capture->graph.nodes.push_back({kind, std::move(work), s.frontier});
        s.frontier = {(int)s.capture->graph.nodes.size() - 1};
        return;
    }
    if (&s == null_stream()) {
        s.queue.push_back([work = std::move(work)] {
            for (Stream *other : streams())
                if (other->blocking) drain(*other);
            work();
        });
        return;
    }
    if (s.blocking && !null_stream()->queue.empty()) drain(*null_stream());
    s.queue.push_back(std::move(work));
}

// Until the event has been reached: runs its stream.
inline void reach(Event &e, long wanted) {
    while (e.done < wanted && e.stream && !e.stream->queue.empty()) step(*e.stream);
}

// Runs a graph in an order that its edges allow and `emu::schedule` chooses: nodes that do not
// depend on each other run in any order.
inline void run_graph(const std::vector<Node> &nodes) {
    std::vector<long> preference;
    emu::order_of(preference, (long)nodes.size(), 0x9e3779b9u);
    std::vector<bool> done(nodes.size());
    for (size_t n = 0; n < nodes.size(); n++)
        for (long i : preference) {
            if (done[i]) continue;
            bool ready = true;
            for (int before : nodes[i].after) ready = ready && done[before];
            if (!ready) continue;
            nodes[i].run();
            done[i] = true;
            break;
        }
}

// The capture's streams leave it; CAPTURE_UNJOINED when one's work is not waited for.
inline Result end_capture(Stream &origin, std::shared_ptr<Capture> capture) {
    std::vector<bool> reached(capture->graph.nodes.size());
    for (int i : origin.frontier) reached[i] = true;
    for (int i = (int)reached.size() - 1; i >= 0; i--)
        if (reached[i])
            for (int before : capture->graph.nodes[i].after) reached[before] = true;
    Result r = SUCCESS;
    for (Stream *s : capture->members) {
        for (int i : s->frontier)
            if (!reached[i]) r = CAPTURE_UNJOINED;
        s->capture = nullptr;
        s->frontier.clear();
    }
    capture->open = false;
    return r;
}

// Written when the process ends by itself: what a test wants to know of the calls.
struct Report {
    ~Report() {
        const char *path = getenv("FAKE_CUDA_REPORT");
        FILE *f = path ? fopen(path, "w") : nullptr;
        if (!f) return;
        size_t peak = 0, live = 0;
        for (Device &d : devices()) peak += d.peak, live += d.used;
        fprintf(f, "calls %lld\nlaunches %lld\npeak_bytes %zu\nlive_bytes %zu\n", calls().total,
                calls().launches, peak, live);
        fprintf(f, "pinned_peak_bytes %zu\npinned_live_bytes %zu\n", memory().pinned_peak,
                memory().pinned);
        for (auto &[name, count] : calls().by_name) fprintf(f, "%s %lld\n", name.c_str(), count);
        fclose(f);
    }
};

} // namespace fake
