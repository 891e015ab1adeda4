/* A thread's counters, and the map of block sizes that tells what a block takes off them. _counters.c
   has a drawing of the map, and says why no lock is needed. */
#ifndef STRATATRACE_MAP_H
#define STRATATRACE_MAP_H

#include "_platform.h"

/* --- Counters of a thread ------------------------------------------------------------------------ */

typedef struct {
    int64_t live;        /* Bytes allocated less bytes freed; freed bytes are the difference. */
    int64_t peak;        /* The highest that `live` stood since the last mark. */
    int64_t allocated;   /* Bytes. */
    int64_t allocations; /* Blocks. */
    int64_t frees;       /* Blocks. */
    int64_t sample_at;   /* Where `allocated` is to stand before _samples.h looks at a block again. */
    /* Nonzero while an allocator below one of our hooks runs, or an object of our own is made: what
       is allocated then is not counted. pymalloc takes its large blocks and its bookkeeping from
       the raw domain, where they would be counted a second time. */
    uint8_t inside;
    /* Which hooks a request of ours has come through, while `inside` is PROBING. */
    uint8_t reached;
} Counters;

enum { OUTSIDE, INSIDE, PROBING };

/* Zero in a new thread, gone with it: nothing is allocated for a thread and nothing can leak. */
THREAD_LOCAL CACHE_ALIGNED Counters counters;

/* From _samples.h: a block has been counted that may be one of the sample; return it. */
static void *sample_due(Counters *mine, void *block, int64_t size);

/* Count a block; return it. (So it can be called last, and the fast way needs no room on the stack.) */
ALWAYS_INLINE void *
count_allocation(Counters *mine, void *block, int64_t size)
{
    int64_t live = mine->live + size, allocated = mine->allocated + size;
    mine->allocated = allocated;
    mine->allocations++;
    mine->live = live;
    if (UNLIKELY(live > mine->peak)) {
        mine->peak = live;
    }
    if (UNLIKELY(allocated >= mine->sample_at)) {
        return sample_due(mine, block, size);
    }
    return block;
}

ALWAYS_INLINE void
count_free(Counters *mine, int64_t size)
{
    mine->live -= size;
    mine->frees++;
}

/* --- The shadow map ------------------------------------------------------------------------------ */

#define LEVEL_ENTRIES ((size_t)1 << 14)
#define LEAF_GRANULES ((size_t)1 << 16)
#define LEAF_BYTES (LEAF_GRANULES + sizeof(uint64_t))
#define LARGE_MARK 255
#define SAMPLED_MARK 254 /* Those from here on say nothing of the size. */
#define SMALLEST_LARGE 253

typedef uint8_t Leaf;
typedef struct {
    Leaf *leaves[LEVEL_ENTRIES];
} Branch;
typedef struct {
    Branch *branches[LEVEL_ENTRIES];
} Root;

/* The one map of the process, and the one that has no parts and gets none, which is looked into
   while nothing is counted: a hook that finds no leaf there has found out that it has nothing to
   do, which costs a hook that has something to do nothing at all. Neither takes memory before it is
   written to. */
static Root map, no_map;
static Root *root = &no_map;

ALWAYS_INLINE Leaf *
leaf_of(void *block)
{
    /* User space ends at 2^47, or at 2^48 on some processors. Higher addresses are given only to
       those who ask the kernel for them; they would share the entries of lower ones. */
    uintptr_t address = (uintptr_t)block;
    Branch *branch = LOAD_RELAXED(&LOAD_RELAXED(&root)->branches[address >> 34 & (LEVEL_ENTRIES - 1)]);
    if (UNLIKELY(branch == NULL)) {
        return NULL;
    }
    return LOAD_RELAXED(&branch->leaves[address >> 20 & (LEVEL_ENTRIES - 1)]);
}

ALWAYS_INLINE uint16_t
granule_of(void *block)
{
    return (uint16_t)((uintptr_t)block >> 4);
}

/* Where a large block's size stands in full: the next eight aligned bytes after its mark. */
ALWAYS_INLINE uint64_t *
full_size_of(Leaf *leaf, uint16_t granule)
{
    return (uint64_t *)(leaf + (((size_t)granule + 8) & ~(size_t)7));
}

/* From _samples.h: a block is about to be freed that was one of the sample. Take its mark off, and return
   its size; or -1 where it is in the sample no more, and has the mark of any other block, or none. */
static int64_t sample_freed(Leaf *leaf, void *block);

/* Take off the mark of a large block, or of one of the sample; return its size, or -1 where there is none. */
NEVER_INLINE int64_t
unmark_slowly(Leaf *leaf, void *block)
{
    uint16_t granule = granule_of(block);
    if (LOAD_RELAXED(&leaf[granule]) == SAMPLED_MARK) {
        int64_t sampled = sample_freed(leaf, block);
        uint8_t mark = LOAD_RELAXED(&leaf[granule]);
        if (sampled >= 0 || mark != LARGE_MARK) {
            STORE_RELAXED(&leaf[granule], (uint8_t)0);
            return sampled >= 0 ? sampled : (int64_t)mark - 1;
        }
    }
    uint64_t *full = full_size_of(leaf, granule);
    uint64_t size = LOAD_RELAXED(full);
    STORE_RELAXED(&leaf[granule], (uint8_t)0);
    /* `start` has cleared the size since the mark was read: the block is from before it. */
    if (size < SMALLEST_LARGE) {
        return -1;
    }
    STORE_RELAXED(full, (uint64_t)0);
    return (int64_t)size;
}

/* Take off the mark of a block; return its size, or -1 where it has none. */
ALWAYS_INLINE int64_t
unmark(void *block)
{
    Leaf *leaf = leaf_of(block);
    if (UNLIKELY(leaf == NULL)) {
        return -1;
    }
    uint16_t granule = granule_of(block);
    uint8_t mark = LOAD_RELAXED(&leaf[granule]);
    if (UNLIKELY(mark >= SAMPLED_MARK)) {
        return unmark_slowly(leaf, block);
    }
    if (LIKELY(mark != 0)) { /* Else a page of the map would be taken for nothing. */
        STORE_RELAXED(&leaf[granule], (uint8_t)0);
    }
    return (int64_t)mark - 1;
}

static void
set_mark(Leaf *leaf, uint16_t granule, size_t size)
{
    if (size < SMALLEST_LARGE) {
        STORE_RELAXED(&leaf[granule], (uint8_t)(size + 1));
    }
    else {
        STORE_RELAXED(full_size_of(leaf, granule), (uint64_t)size);
        STORE_RELAXED(&leaf[granule], (uint8_t)LARGE_MARK);
    }
}

/* Return what an entry of the tree points to; make it first where there is nothing. */
static void *
grown(void **entry, size_t size)
{
    void *part = LOAD_RELAXED(entry);
    if (part == NULL) {
        part = pages_new(size);
        if (part != NULL && !SWAP_IF_NULL(entry, part)) {
            pages_free(part, size); /* Another thread was faster. */
            part = LOAD_RELAXED(entry);
        }
    }
    return part;
}

/* Return the leaf of a block, or NULL: nothing is counted, or there is no memory for the map. */
NEVER_INLINE Leaf *
grown_leaf_of(void *block)
{
    uintptr_t address = (uintptr_t)block;
    if (LOAD_RELAXED(&root) == &no_map) {
        return NULL;
    }
    void **entry = (void **)&map.branches[address >> 34 & (LEVEL_ENTRIES - 1)];
    Branch *branch = grown(entry, sizeof(Branch));
    if (branch == NULL) {
        return NULL;
    }
    return grown((void **)&branch->leaves[address >> 20 & (LEVEL_ENTRIES - 1)], LEAF_BYTES);
}

/* Mark and count a block, whatever stands in its way; return it. */
NEVER_INLINE void *
add_slowly(Counters *mine, void *block, size_t size)
{
    Leaf *leaf = leaf_of(block);
    if (leaf == NULL) {
        leaf = grown_leaf_of(block);
        if (leaf == NULL) {
            return block; /* Untracked: what is never taken off must not be added. */
        }
    }
    /* A block that is marked already was freed behind our back, by somebody who knows the allocator
       below us. */
    int64_t freed = unmark(block);
    if (freed >= 0) {
        count_free(mine, freed);
    }
    set_mark(leaf, granule_of(block), size);
    return count_allocation(mine, block, (int64_t)size);
}

/* Mark and count a block that has just been allocated; return it. */
ALWAYS_INLINE void *
add(Counters *mine, void *block, size_t size)
{
    Leaf *leaf = leaf_of(block);
    uint16_t granule = granule_of(block);
    if (LIKELY(leaf != NULL && size < SMALLEST_LARGE && LOAD_RELAXED(&leaf[granule]) == 0)) {
        STORE_RELAXED(&leaf[granule], (uint8_t)(size + 1));
        return count_allocation(mine, block, (int64_t)size);
    }
    return add_slowly(mine, block, size);
}

/* Take off and count a block that is about to be freed; NULL reads as untracked. */
ALWAYS_INLINE void
take_off(void *block)
{
    int64_t size = unmark(block);
    if (LIKELY(size >= 0)) {
        count_free(&counters, size);
    }
}

/* Put the mark of a block back that could not be reallocated. Was it one of the sample, it is no more:
   the sample has one less than it should, at a moment when there is no memory. */
NEVER_INLINE void
put_back(void *block, int64_t size)
{
    Leaf *leaf = leaf_of(block);
    if (size >= 0 && leaf != NULL) {
        set_mark(leaf, granule_of(block), (size_t)size);
    }
}

/* Call *visit* with every part of the map. */
static void
for_each_part(void (*visit)(void *part, size_t size, void *argument), void *argument)
{
    for (size_t i = 0; i < LEVEL_ENTRIES; i++) {
        Branch *branch = LOAD_RELAXED(&map.branches[i]);
        if (branch == NULL) {
            continue;
        }
        for (size_t j = 0; j < LEVEL_ENTRIES; j++) {
            Leaf *leaf = LOAD_RELAXED(&branch->leaves[j]);
            if (leaf != NULL) {
                visit(leaf, LEAF_BYTES, argument);
            }
        }
        visit(branch, sizeof(Branch), argument);
    }
}

static void
clear_leaf(void *part, size_t size, void *Py_UNUSED(argument))
{
    if (size == LEAF_BYTES) {
        pages_clear(part, size);
    }
}

static void
add_resident(void *part, size_t size, void *sum)
{
    *(size_t *)sum += pages_resident(part, size);
}

#endif /* STRATATRACE_MAP_H */
