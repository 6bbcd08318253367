// A libcuda.so.1 without a GPU (test only): the driver API that the library calls, over the
// emulator. The unchanged host code runs on it, and the kernels are those of kernels/*.cu.
//
// FAKE_CUDA_DEVICES=n       how many cards (1)
// FAKE_CUDA_MEMORY=bytes    of each card (8 GiB); what does not fit fails as on a card
// FAKE_CUDA_CONTEXT=bytes   that a context takes of it (0)
// FAKE_CUDA_VERSION=n       of the driver, 12040 is 12.4 (13000)
// FAKE_CUDA_CC=n            compute capability, 75 is 7.5 (80)
// FAKE_CUDA_ORDER=0..3      in which order threads and blocks run: up, down, shuffled, warp by warp
// FAKE_CUDA_FAIL_AT=n       the n-th call fails; with FAKE_CUDA_LOST=1 and all after it,
// FAKE_CUDA_FAIL_NAME=text  of the calls whose names begin with this,
// FAKE_CUDA_FAIL_CODE=n     with this error (allocations 2, others 719)
// FAKE_CUDA_REPORT=file     counts of calls and memory, written at exit
#include "fake_driver.h"

using namespace fake;

static Report report;

// Takes the lock and counts the call; returns when it is to fail.
#define ENTER \
    std::lock_guard<std::recursive_mutex> guard(lock()); \
    if (Result failed = note(__func__)) return failed
#define NEED_CONTEXT \
    if (!current) return INVALID_CONTEXT
#define REFUSE_CAPTURE(s) \
    if ((s)->capture) return CAPTURE_UNSUPPORTED

#pragma GCC visibility push(default)
extern "C" {

// ---- driver and devices ----

Result cuInit(unsigned) {
    ENTER;
    emu::schedule = (int)env("FAKE_CUDA_ORDER", 0);
    return devices().empty() ? NO_DEVICE : SUCCESS;
}

Result cuDriverGetVersion(int *version) {
    ENTER;
    *version = (int)env("FAKE_CUDA_VERSION", 13000);
    return SUCCESS;
}

Result cuDeviceGetCount(int *n) {
    ENTER;
    *n = (int)devices().size();
    return SUCCESS;
}

Result cuDeviceGet(int *device, int ordinal) {
    ENTER;
    if (ordinal < 0 || ordinal >= (int)devices().size()) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

Result cuDeviceGetName(char *name, int n, int device) {
    ENTER;
    snprintf(name, (size_t)n, "Fake CUDA device %d", device);
    return SUCCESS;
}

Result cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    ENTER;
    memset(uuid, 0, 16);
    uuid[15] = (unsigned char)device;
    return SUCCESS;
}

Result cuDeviceGetUuid(unsigned char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

Result cuDeviceGetPCIBusId(char *id, int n, int device) {
    ENTER;
    snprintf(id, (size_t)n, "0000:%02x:00.0", device + 1);
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ENTER;
    if (device < 0 || device >= (int)devices().size()) return INVALID_DEVICE;
    *bytes = devices()[device].total;
    return SUCCESS;
}

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER;
    const int cc = (int)env("FAKE_CUDA_CC", 80);
    switch (attribute) {
    case 1: *value = 1024; break;            // threads per block
    case 2: case 3: *value = 1024; break;    // block x, y
    case 4: *value = 64; break;              // block z
    case 5: *value = 0x7fffffff; break;      // grid x
    case 6: case 7: *value = 65535; break;   // grid y, z
    case 8: *value = 48 << 10; break;        // shared memory per block
    case 10: *value = 32; break;             // warp
    case 12: *value = 65536; break;          // registers per block
    case 13: *value = 1500000; break;        // clock, kHz
    case 16: *value = 4; break;              // multiprocessors
    case 19: *value = 1; break;              // maps host memory
    case 31: *value = 1; break;              // concurrent kernels
    case 33: *value = device + 1; break;     // PCI bus
    case 34: case 50: *value = 0; break;     // PCI device, domain
    case 36: *value = 8000000; break;        // memory clock, kHz
    case 37: *value = 256; break;            // memory bus, bits
    case 38: *value = 4 << 20; break;        // L2, bytes
    case 39: *value = 1536; break;           // threads per multiprocessor
    case 40: *value = 2; break;              // copy engines
    case 41: *value = 1; break;              // one address space
    case 75: *value = cc / 10; break;        // compute capability
    case 76: *value = cc % 10; break;
    case 81: *value = 100 << 10; break;      // shared memory per multiprocessor
    case 97: *value = 99 << 10; break;       // shared memory per block, opted in
    case 115: *value = 1; break;             // memory pools
    default: *value = 0;
    }
    return SUCCESS;
}

// ---- contexts ----

Result cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER;
    if (device < 0 || device >= (int)devices().size()) return INVALID_DEVICE;
    Device &d = devices()[device];
    if (!d.retained && d.free() < d.context) return OUT_OF_MEMORY;
    d.retained++;
    *context = &d;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER;
    if (device < 0 || device >= (int)devices().size()) return INVALID_DEVICE;
    if (devices()[device].retained > 0) devices()[device].retained--;
    return SUCCESS;
}

Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    ENTER;
    *flags = 0;
    *active = devices()[device].retained > 0;
    return SUCCESS;
}

Result cuDevicePrimaryCtxSetFlags_v2(int, unsigned) {
    ENTER;
    return SUCCESS;
}

Result cuCtxSetCurrent(void *context) {
    ENTER;
    current = (Device *)context;
    return SUCCESS;
}

Result cuCtxGetCurrent(void **context) {
    ENTER;
    *context = current;
    return SUCCESS;
}

Result cuCtxGetDevice(int *device) {
    ENTER;
    NEED_CONTEXT;
    *device = current->index;
    return SUCCESS;
}

Result cuCtxSynchronize() {
    ENTER;
    NEED_CONTEXT;
    for (Stream *s : streams()) REFUSE_CAPTURE(s);
    drain_all();
    return SUCCESS;
}

Result cuCtxSetFlags(unsigned) {
    ENTER;
    return SUCCESS;
}

Result cuCtxSetLimit(int, size_t) {
    ENTER;
    return SUCCESS;
}

Result cuCtxGetLimit(size_t *value, int) {
    ENTER;
    *value = 0;
    return SUCCESS;
}

Result cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    ENTER;
    *least = 0;
    *greatest = -5;
    return SUCCESS;
}

// ---- modules ----

// A module is its image's text. Of PTX the names are looked up, so that a kernel that is not in
// the committed PTX is not found here either.
Result cuModuleLoadData(void **module, const void *image) {
    ENTER;
    NEED_CONTEXT;
    if (!image) return INVALID_VALUE;
    *module = new std::string((const char *)image, strnlen((const char *)image, 64 << 20));
    return SUCCESS;
}

Result cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) {
    return cuModuleLoadData(module, image);
}

Result cuModuleUnload(void *module) {
    ENTER;
    delete (std::string *)module;
    return SUCCESS;
}

Result cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER;
    const std::string &image = *(std::string *)module;
    const bool is_ptx = image.find(".version") != std::string::npos;
    if (is_ptx && image.find(".entry " + std::string(name) + "(") == std::string::npos)
        return NOT_FOUND;
    for (Kernel *k = Kernel::first; k; k = k->next)
        if (strcmp(k->name, name) == 0) {
            *function = k;
            return SUCCESS;
        }
    return NOT_FOUND;
}

Result cuModuleGetLoadingMode(int *mode) {
    ENTER;
    *mode = 2; // lazy
    return SUCCESS;
}

Result cuFuncSetAttribute(void *, int, int) {
    ENTER;
    return SUCCESS;
}

Result cuFuncGetAttribute(int *value, int attribute, void *function) {
    ENTER;
    *value = attribute == 0 ? ((Kernel *)function)->max_threads : 0;
    return SUCCESS;
}

Result cuFuncSetCacheConfig(void *, int) {
    ENTER;
    return SUCCESS;
}

Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, void *, int threads, size_t,
                                                            unsigned) {
    ENTER;
    *n = threads > 0 ? 1536 / threads : 0;
    return SUCCESS;
}

Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments,
                      void **) {
    ENTER;
    NEED_CONTEXT;
    const Kernel &k = *(Kernel *)function;
    if (!gx || !gy || !gz || !bx || !by || !bz || gx > 0x7fffffffu || gy > 65535 || gz > 65535)
        return INVALID_VALUE;
    const unsigned long long threads = (unsigned long long)bx * by * bz;
    if (threads > 1024 || bz > 64 || shared > 99 << 10) return INVALID_VALUE;
    if (threads > (unsigned long long)k.max_threads) return LAUNCH_OUT_OF_RESOURCES;
    calls().launches++;
    add(*stream_of(stream), k.name,
        k.bind(arguments, dim3(gx, gy, gz), dim3(bx, by, bz), shared, k.memory));
    return SUCCESS;
}

// ---- memory ----

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    ENTER;
    NEED_CONTEXT;
    *free = current->free();
    *total = current->total;
    return SUCCESS;
}

static Result allocate_on_device(DevicePtr *p, size_t n) {
    if (!current) return INVALID_CONTEXT;
    if (n == 0) return INVALID_VALUE;
    if (n > current->free()) return OUT_OF_MEMORY;
    *p = allocate(n, current);
    return *p ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemAlloc_v2(DevicePtr *p, size_t n) {
    ENTER;
    return allocate_on_device(p, n);
}

Result cuMemAllocAsync(DevicePtr *p, size_t n, void *stream) {
    ENTER;
    REFUSE_CAPTURE(stream_of(stream));
    return allocate_on_device(p, n);
}

Result cuMemAllocFromPoolAsync(DevicePtr *p, size_t n, void *, void *stream) {
    ENTER;
    REFUSE_CAPTURE(stream_of(stream));
    return allocate_on_device(p, n);
}

// Waits for the device, as the driver's does.
Result cuMemFree_v2(DevicePtr p) {
    ENTER;
    if (!p) return SUCCESS;
    drain_all();
    return release(p);
}

Result cuMemFreeAsync(DevicePtr p, void *stream) {
    ENTER;
    if (!known(p, 0)) return INVALID_VALUE;
    REFUSE_CAPTURE(stream_of(stream));
    add(*stream_of(stream), "free", [=] { release(p); });
    return SUCCESS;
}

Result cuMemHostAlloc(void **p, size_t n, unsigned) {
    ENTER;
    NEED_CONTEXT;
    if (n == 0) return INVALID_VALUE;
    *p = (void *)allocate(n, nullptr);
    return *p ? SUCCESS : OUT_OF_MEMORY;
}

// Waits for nothing: work that still uses the memory ends the process.
Result cuMemFreeHost(void *p) {
    ENTER;
    return release((uintptr_t)p);
}

Result cuMemHostGetDevicePointer_v2(DevicePtr *device, void *p, unsigned) {
    ENTER;
    if (!known((uintptr_t)p, 0, true)) return INVALID_VALUE;
    *device = (DevicePtr)p;
    return SUCCESS;
}

Result cuDeviceGetDefaultMemPool(void **pool, int device) {
    ENTER;
    if (device < 0 || device >= (int)devices().size()) return INVALID_DEVICE;
    *pool = &devices()[device];
    return SUCCESS;
}

Result cuDeviceGetMemPool(void **pool, int device) {
    return cuDeviceGetDefaultMemPool(pool, device);
}

Result cuMemPoolSetAttribute(void *, int, void *) {
    ENTER;
    return SUCCESS;
}

Result cuMemPoolTrimTo(void *, size_t) {
    ENTER;
    return SUCCESS;
}

// ---- copies ----

Result cuMemcpyHtoDAsync_v2(DevicePtr to, const void *from, size_t n, void *stream) {
    ENTER;
    if (!known(to, n)) return INVALID_VALUE;
    Stream &s = *stream_of(stream);
    if (known((uintptr_t)from, n, true) || s.capture) {
        add(s, "copy", [=] { memcpy((void *)to, from, n); });
    } else { // pageable memory is read before the call returns
        std::vector<char> staged((const char *)from, (const char *)from + n);
        add(s, "copy", [=, staged = std::move(staged)] { memcpy((void *)to, staged.data(), n); });
    }
    return SUCCESS;
}

Result cuMemcpyDtoHAsync_v2(void *to, DevicePtr from, size_t n, void *stream) {
    ENTER;
    if (!known(from, n)) return INVALID_VALUE;
    Stream &s = *stream_of(stream);
    add(s, "copy", [=] { memcpy(to, (void *)from, n); });
    // Pageable memory is written before the call returns.
    if (!known((uintptr_t)to, n, true) && !s.capture) drain(s);
    return SUCCESS;
}

Result cuMemcpyDtoDAsync_v2(DevicePtr to, DevicePtr from, size_t n, void *stream) {
    ENTER;
    if (!known(to, n) || !known(from, n)) return INVALID_VALUE;
    add(*stream_of(stream), "copy", [=] { memmove((void *)to, (void *)from, n); });
    return SUCCESS;
}

Result cuMemcpyAsync(DevicePtr to, DevicePtr from, size_t n, void *stream) {
    return cuMemcpyDtoDAsync_v2(to, from, n, stream);
}

Result cuMemsetD8Async(DevicePtr to, unsigned char value, size_t n, void *stream) {
    ENTER;
    if (!known(to, n)) return INVALID_VALUE;
    add(*stream_of(stream), "fill", [=] { memset((void *)to, value, n); });
    return SUCCESS;
}

Result cuMemcpyHtoD_v2(DevicePtr to, const void *from, size_t n) {
    ENTER;
    NEED_CONTEXT;
    if (!known(to, n)) return INVALID_VALUE;
    drain_legacy();
    memcpy((void *)to, from, n);
    return SUCCESS;
}

Result cuMemcpyDtoH_v2(void *to, DevicePtr from, size_t n) {
    ENTER;
    NEED_CONTEXT;
    if (!known(from, n)) return INVALID_VALUE;
    drain_legacy();
    memcpy(to, (void *)from, n);
    return SUCCESS;
}

Result cuMemcpyDtoD_v2(DevicePtr to, DevicePtr from, size_t n) {
    ENTER;
    NEED_CONTEXT;
    if (!known(to, n) || !known(from, n)) return INVALID_VALUE;
    add(*null_stream(), "copy", [=] { memmove((void *)to, (void *)from, n); });
    return SUCCESS;
}

Result cuMemsetD8_v2(DevicePtr to, unsigned char value, size_t n) {
    ENTER;
    NEED_CONTEXT;
    if (!known(to, n)) return INVALID_VALUE;
    add(*null_stream(), "fill", [=] { memset((void *)to, value, n); });
    return SUCCESS;
}

// ---- streams ----

Result cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
    ENTER;
    NEED_CONTEXT;
    auto *s = new Stream;
    s->device = current;
    s->blocking = !(flags & 1); // CU_STREAM_NON_BLOCKING
    streams().insert(s);
    *stream = s;
    return SUCCESS;
}

Result cuStreamCreate(void **stream, unsigned flags) {
    return cuStreamCreateWithPriority(stream, flags, 0);
}

Result cuStreamDestroy_v2(void *stream) {
    ENTER;
    Stream *s = stream_of(stream);
    if (!streams().count(s) || s == null_stream()) return INVALID_HANDLE;
    drain(*s);
    streams().erase(s); // the memory stays: events point here
    return SUCCESS;
}

Result cuStreamSynchronize(void *stream) {
    ENTER;
    REFUSE_CAPTURE(stream_of(stream));
    drain(*stream_of(stream));
    return SUCCESS;
}

// Asking makes a little progress, so that a loop of asking ends.
Result cuStreamQuery(void *stream) {
    ENTER;
    Stream &s = *stream_of(stream);
    REFUSE_CAPTURE(&s);
    if (s.queue.empty()) return SUCCESS;
    step(s);
    return NOT_READY;
}

Result cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    ENTER;
    add(*stream_of(stream), "host", [=] { function(data); });
    return SUCCESS;
}

// ---- flags ----

Result cuStreamWriteValue32_v2(void *stream, DevicePtr at, unsigned value, unsigned) {
    ENTER;
    if (!known(at, 4) || at % 4) return INVALID_VALUE;
    add(*stream_of(stream), "write", [=] { __atomic_store_n((unsigned *)at, value, __ATOMIC_RELEASE); });
    return SUCCESS;
}

// At least the value, as numbers that go round; other ways to compare are not there. A flag that
// nobody sets would hang a card: here it ends the process.
Result cuStreamWaitValue32_v2(void *stream, DevicePtr at, unsigned value, unsigned flags) {
    ENTER;
    if (!known(at, 4) || at % 4) return INVALID_VALUE;
    if (flags) return NOT_SUPPORTED;
    add(*stream_of(stream), "wait value", [=] {
        const auto start = std::chrono::steady_clock::now();
        while ((int)(__atomic_load_n((unsigned *)at, __ATOMIC_ACQUIRE) - value) < 0)
            if (std::chrono::steady_clock::now() - start > std::chrono::seconds(2)) {
                fprintf(stderr, "fake driver: a flag that nobody sets is waited for\n");
                abort();
            }
    });
    return SUCCESS;
}

// ---- events ----

Result cuEventCreate(void **event, unsigned flags) {
    ENTER;
    NEED_CONTEXT;
    auto *e = new EventHandle(std::make_shared<Event>());
    (*e)->timed = !(flags & 2); // CU_EVENT_DISABLE_TIMING
    *event = e;
    return SUCCESS;
}

Result cuEventDestroy_v2(void *event) {
    ENTER;
    delete (EventHandle *)event;
    return SUCCESS;
}

Result cuEventRecord(void *event, void *stream) {
    ENTER;
    EventHandle e = *(EventHandle *)event;
    Stream &s = *stream_of(stream);
    e->capture = s.capture;
    if (s.capture) {
        e->nodes = s.frontier;
        return SUCCESS;
    }
    e->stream = &s;
    const long mine = ++e->wanted;
    add(s, "event", [=] {
        e->done = mine;
        e->when = std::chrono::steady_clock::now();
    });
    return SUCCESS;
}

Result cuEventSynchronize(void *event) {
    ENTER;
    Event &e = **(EventHandle *)event;
    if (e.capture) return CAPTURED_EVENT;
    reach(e, e.wanted);
    return SUCCESS;
}

// Asking makes a little progress, so that a loop of asking ends.
Result cuEventQuery(void *event) {
    ENTER;
    Event &e = **(EventHandle *)event;
    if (e.capture) return CAPTURED_EVENT;
    if (e.done >= e.wanted) return SUCCESS;
    step(*e.stream);
    return NOT_READY;
}

static Result elapsed(float *ms, void *from, void *to) {
    Event &a = **(EventHandle *)from, &b = **(EventHandle *)to;
    if (!a.timed || !b.timed || !a.wanted || !b.wanted) return INVALID_HANDLE;
    if (a.done < a.wanted || b.done < b.wanted) return NOT_READY;
    *ms = std::chrono::duration<float, std::milli>(b.when - a.when).count();
    return SUCCESS;
}

Result cuEventElapsedTime(float *ms, void *from, void *to) {
    ENTER;
    return elapsed(ms, from, to);
}

Result cuEventElapsedTime_v2(float *ms, void *from, void *to) {
    ENTER;
    return elapsed(ms, from, to);
}

Result cuStreamWaitEvent(void *stream, void *event, unsigned) {
    ENTER;
    Stream &s = *stream_of(stream);
    EventHandle e = *(EventHandle *)event;
    if (e->capture && e->capture->open) {
        if (!s.capture) { // forked: this stream is captured too, until it is joined
            s.capture = e->capture;
            s.capture->members.insert(&s);
            s.frontier = e->nodes;
        } else if (s.capture == e->capture) {
            s.frontier.insert(s.frontier.end(), e->nodes.begin(), e->nodes.end());
        } else {
            return CAPTURE_ISOLATION;
        }
        return SUCCESS;
    }
    if (e->capture) return CAPTURED_EVENT;
    if (s.capture) return CAPTURE_ISOLATION;
    const long wanted = e->wanted;
    add(s, "wait", [=] { reach(*e, wanted); });
    return SUCCESS;
}

// ---- graphs ----

Result cuStreamBeginCapture_v2(void *stream, int) {
    ENTER;
    Stream &s = *stream_of(stream);
    if (&s == null_stream() || s.capture) return CAPTURE_UNSUPPORTED;
    s.capture = std::make_shared<Capture>();
    s.capture->origin = &s;
    s.capture->members.insert(&s);
    s.frontier.clear();
    return SUCCESS;
}

Result cuStreamEndCapture(void *stream, void **graph) {
    ENTER;
    Stream &s = *stream_of(stream);
    *graph = nullptr;
    if (!s.capture || s.capture->origin != &s) return INVALID_VALUE;
    std::shared_ptr<Capture> capture = s.capture;
    if (Result r = end_capture(s, capture)) return r;
    *graph = new Graph(capture->graph);
    return SUCCESS;
}

Result cuStreamIsCapturing(void *stream, int *status) {
    ENTER;
    *status = stream_of(stream)->capture ? 1 : 0;
    return SUCCESS;
}

Result cuGraphGetNodes(void *graph, void **, size_t *n) {
    ENTER;
    *n = ((Graph *)graph)->nodes.size();
    return SUCCESS;
}

Result cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) {
    ENTER;
    NEED_CONTEXT;
    *exec = new std::shared_ptr<Graph>(new Graph(*(Graph *)graph));
    return SUCCESS;
}

Result cuGraphUpload(void *, void *) {
    ENTER;
    return SUCCESS;
}

Result cuGraphLaunch(void *exec, void *stream) {
    ENTER;
    NEED_CONTEXT;
    std::shared_ptr<Graph> graph = *(std::shared_ptr<Graph> *)exec;
    for (const Node &node : graph->nodes) calls().launches += node.kind != "copy";
    add(*stream_of(stream), "graph", [=] { run_graph(graph->nodes); });
    return SUCCESS;
}

// The same nodes with other arguments; another shape is refused, as by the driver. `result`, when
// given, begins with 0 (done) or 2 (topology changed).
Result cuGraphExecUpdate_v2(void *exec, void *graph, int *result) {
    ENTER;
    auto &old = *(std::shared_ptr<Graph> *)exec;
    const Graph &now = *(Graph *)graph;
    bool same = old->nodes.size() == now.nodes.size();
    for (size_t i = 0; same && i < now.nodes.size(); i++)
        same = old->nodes[i].kind == now.nodes[i].kind && old->nodes[i].after == now.nodes[i].after;
    if (result) *result = same ? 0 : 2; // CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED
    if (!same) return GRAPH_EXEC_UPDATE_FAILURE;
    old = std::make_shared<Graph>(now);
    return SUCCESS;
}

Result cuGraphDestroy(void *graph) {
    ENTER;
    delete (Graph *)graph;
    return SUCCESS;
}

Result cuGraphExecDestroy(void *exec) {
    ENTER;
    delete (std::shared_ptr<Graph> *)exec;
    return SUCCESS;
}

// ---- errors ----

Result cuGetErrorName(Result r, const char **text) {
    *text = name_of(r);
    return SUCCESS;
}

Result cuGetErrorString(Result r, const char **text) {
    *text = r == OUT_OF_MEMORY ? "out of memory" : r == SUCCESS ? "no error" : "a fake error";
    return SUCCESS;
}
}
#pragma GCC visibility pop
