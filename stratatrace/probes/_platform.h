/* What differs between compilers and operating systems, and nothing else. */
#ifndef STRATATRACE_PLATFORM_H
#define STRATATRACE_PLATFORM_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#  include <windows.h>
#else
#  include <pthread.h>
#  include <sched.h>
#  include <sys/mman.h>
#  include <sys/resource.h>
#  include <time.h>
#  include <unistd.h>
#endif

/* --- Compiler ---------------------------------------------------------------------------------- */

/* Thread-local storage. The initial-exec model costs one instruction where the default for a shared
   library costs a call. It takes room that the C library reserves for libraries loaded late, and of
   those only glibc is known to keep such room; ours is less than 200 bytes. */
#if defined(_MSC_VER)
#  define THREAD_LOCAL static __declspec(thread)
#elif defined(__linux__) && defined(__GLIBC__)
#  define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
#else
#  define THREAD_LOCAL static __thread
#endif

/* Atomics. Loads and stores are relaxed: what orders them is told where they are used. */
#if defined(_MSC_VER)
#  define CACHE_ALIGNED __declspec(align(64))
#  define LIKELY(condition) (condition)
#  define UNLIKELY(condition) (condition)
#  define ALWAYS_INLINE static __forceinline
#  define NEVER_INLINE static __declspec(noinline)
#  define LOAD_RELAXED(place) (*(place))
#  define STORE_RELAXED(place, value) (*(place) = (value))
#  define STORE_RELEASE(place, value) (MemoryBarrier(), *(place) = (value))
#  define SWAP_IF_NULL(place, value) \
      (InterlockedCompareExchangePointer((void *volatile *)(place), (value), NULL) == NULL)
#  define FENCE() MemoryBarrier()
#  define EXCHANGE(place, value) InterlockedExchange((place), (value))
#  define YIELD() (void)SwitchToThread()
#else
#  define CACHE_ALIGNED __attribute__((aligned(64)))
#  define LIKELY(condition) __builtin_expect(!!(condition), 1)
#  define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#  define ALWAYS_INLINE static inline __attribute__((always_inline))
#  define NEVER_INLINE static __attribute__((noinline))
#  define LOAD_RELAXED(place) __atomic_load_n((place), __ATOMIC_RELAXED)
#  define STORE_RELAXED(place, value) __atomic_store_n((place), (value), __ATOMIC_RELAXED)
#  define STORE_RELEASE(place, value) __atomic_store_n((place), (value), __ATOMIC_RELEASE)
#  define SWAP_IF_NULL(place, value) \
      __sync_bool_compare_and_swap((place), NULL, (value))
#  define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#  define EXCHANGE(place, value) __atomic_exchange_n((place), (value), __ATOMIC_ACQUIRE)
#  define YIELD() (void)sched_yield()
#endif

/* --- Lock -------------------------------------------------------------------------------------- */

/* For threads with the GIL and without. Whoever has it allocates nothing from Python and waits for
   nobody, so that nobody waits for long. */
typedef long Lock;

ALWAYS_INLINE void
lock_take(Lock *lock)
{
    while (UNLIKELY(EXCHANGE(lock, 1L) != 0)) {
        YIELD();
    }
}

ALWAYS_INLINE void
lock_give(Lock *lock)
{
    STORE_RELEASE(lock, 0L);
}

/* --- Pages ------------------------------------------------------------------------------------- */

/* Return zeroed pages that take memory only where they are written to, or NULL. They must not come
   from Python's allocators, which are being hooked, nor from malloc, whose blocks are not zero. */
static void *
pages_new(size_t size)
{
#if defined(_WIN32)
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
#else
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (pages == MAP_FAILED) {
        return NULL;
    }
#  if defined(MADV_NOHUGEPAGE)
    /* A huge page behind the first byte that is written would be 2 MiB for nothing. */
    (void)madvise(pages, size, MADV_NOHUGEPAGE);
#  endif
    return pages;
#endif
}

static void
pages_free(void *pages, size_t size)
{
#if defined(_WIN32)
    (void)size;
    VirtualFree(pages, 0, MEM_RELEASE);
#else
    (void)munmap(pages, size);
#endif
}

/* Make the pages zero again, and give their memory back where the system can. Another thread may
   read or write one byte, or eight aligned bytes, meanwhile: it never sees a part of eight. */
static void
pages_clear(void *pages, size_t size)
{
#if defined(__linux__)
    if (madvise(pages, size, MADV_DONTNEED) == 0) {
        return;
    }
#endif
    uint64_t *words = pages;
    for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
        if (LOAD_RELAXED(&words[i]) != 0) {
            STORE_RELAXED(&words[i], (uint64_t)0);
        }
    }
}

/* Return how many bytes of the pages take memory; where it cannot be known, all of them. */
static size_t
pages_resident(void *pages, size_t size)
{
#if defined(__linux__)
    size_t page = (size_t)sysconf(_SC_PAGESIZE), resident = 0;
    unsigned char in_memory[64];
    for (size_t done = 0; done < size; done += page * sizeof(in_memory)) {
        size_t part = size - done < page * sizeof(in_memory) ? size - done
                                                              : page * sizeof(in_memory);
        if (mincore((char *)pages + done, part, in_memory) != 0) {
            return size;
        }
        for (size_t i = 0; i < (part + page - 1) / page; i++) {
            resident += (in_memory[i] & 1) ? page : 0;
        }
    }
    return resident;
#else
    (void)pages;
    return size;
#endif
}

/* Return whether the program may write to that place. It is asked before something that belongs to
   another library is changed, which a later version of it might keep in read-only memory. */
static int
is_writable(void *place)
{
#if defined(_WIN32)
    MEMORY_BASIC_INFORMATION info;
    return VirtualQuery(place, &info, sizeof(info)) != 0
           && (info.Protect & (PAGE_READWRITE | PAGE_WRITECOPY)) != 0;
#else
    /* A read() into memory that cannot be written fails, where a store would end the process. */
    int ends[2], writable = 0;
    if (pipe(ends) == 0) {
        writable = write(ends[1], place, 1) == 1 && read(ends[0], place, 1) == 1;
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    return writable;
#endif
}

/* --- Clock and resident memory ----------------------------------------------------------------- */

/* Return a time that never steps back, in ns. */
static int64_t
monotonic_ns(void)
{
#if defined(_WIN32)
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return ticks.QuadPart / per_second.QuadPart * 1000000000
           + ticks.QuadPart % per_second.QuadPart * 1000000000 / per_second.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

/* Return the high-water mark of the process's resident memory, in bytes; 0 where it cannot be reset,
   and nobody asks. */
static int64_t
resident_high_water(void)
{
#if defined(__linux__)
    struct rusage usage;
    /* The mark is the process's all the same, and nobody has to go through all its threads. */
    (void)getrusage(RUSAGE_THREAD, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
#else
    return 0;
#endif
}

/* Set the high-water mark back to the present level; return whether that worked. */
static int
resident_reset(int descriptor)
{
#if defined(__linux__)
    return write(descriptor, "5", 1) == 1;
#else
    (void)descriptor;
    errno = ENOSYS;
    return 0;
#endif
}

#endif /* STRATATRACE_PLATFORM_H */
