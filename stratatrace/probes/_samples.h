/* A sample of the blocks that are allocated, each with where in the program that was.

   It is a Poisson sample of bytes: each byte that a thread allocates is drawn with the same small chance, on its
   own, and a block is in the sample if one of its bytes was. So a block of *size* bytes is in it with a
   probability of 1 - exp(-size / mean), whatever was allocated before, and nothing has to be done for those
   that are not: how far off the next drawn byte is has an exponential distribution, and a thread's counter of
   allocated bytes is compared with where that will be (`sample_at`).

   Threads look at a block every LOOK_BYTES at least, to see whether sampling has begun or ended meanwhile: nobody
   can tell them. This is all that a sampling costs which is off.

   A block of the sample has a mark of its own in the map, so that its end is noticed. Births and deaths are
   numbered, and the newest are kept in a ring: from it one can tell what was live at any moment of late.

   All of it is guarded by a lock, since the raw domain is called without the GIL. Under it nothing is allocated
   from Python, and no Python is run. */
#ifndef STRATATRACE_SAMPLES_H
#define STRATATRACE_SAMPLES_H

#include <math.h>

#include "_accounts.h"
#include "_map.h"
#include "_stacks.h"

#define LOOK_BYTES ((int64_t)1 << 14)
#define MOST_MEAN ((long long)1 << 40)
#define NEVER ((int64_t)1 << 61)
#define MOST_SAMPLES ((size_t)1 << 18) /* A heap of 128 GiB, where one in 512 KiB is drawn. */
#define FEWEST_PLACES ((size_t)1 << 8)
#define RING_EVENTS ((int64_t)1 << 16)

/* A live block. */
typedef struct {
    void *block; /* NULL where a place of the table is free. */
    int64_t birth; /* The number of that event. */
    int64_t size;
    int64_t stack;
    int64_t line; /* Which allocated it; 0 is one of a thread in which no call was ever measured. */
    int64_t mean; /* Of the bytes between two drawn ones, when it was. */
} Sample;

/* A birth, or a death: then *line* is the one that freed it. */
typedef struct {
    int64_t number;
    Sample sample;
    int64_t level; /* The live bytes of that line afterwards. */
    int64_t died;
} Event;

static struct {
    Lock lock;
    int64_t mean; /* 0 while nothing is sampled. */
    int depth;    /* How many frames of a stack are kept. */
    int64_t draws; /* Changes when a thread is to draw anew how far off its next sample is. */
    uint64_t random;
    Sample *places; /* A table by address: a sample stands at its hash, or in the next free place. */
    size_t place_count;
    size_t live;
    int64_t dropped; /* For which there was no room. */
    Event *ring;
    int64_t events;    /* How many there ever were. */
    int64_t forgotten; /* Up to which they are of an earlier sampling. */
} samples;

/* Of a thread, beside its `sample_at`. */
THREAD_LOCAL struct {
    int64_t beyond; /* How much farther off the next drawn byte is. */
    int64_t draws;  /* `samples.draws` when it was drawn. */
} drawn;

/* --- The table, under the lock ------------------------------------------------------------------- */

ALWAYS_INLINE size_t
place_after(size_t place)
{
    return (place + 1) & (samples.place_count - 1);
}

ALWAYS_INLINE size_t
first_place_of(void *block)
{
    return (size_t)mixed((uint64_t)(uintptr_t)block) & (samples.place_count - 1);
}

/* Return where a block stands, or the free place where it would. */
static Sample *
place_of(void *block)
{
    size_t place = first_place_of(block);
    while (samples.places[place].block != NULL && samples.places[place].block != block) {
        place = place_after(place);
    }
    return &samples.places[place];
}

/* Have room for one more; return whether there is. At most half of the places are taken. */
static bool
samples_have_room(void)
{
    if (samples.live < samples.place_count / 2) {
        return true;
    }
    if (samples.live >= MOST_SAMPLES) {
        return false;
    }
    size_t old_count = samples.place_count, new_count = old_count ? 2 * old_count : FEWEST_PLACES;
    Sample *old = samples.places, *places = pages_new(new_count * sizeof(Sample));
    if (places == NULL) {
        return false;
    }
    samples.places = places;
    samples.place_count = new_count;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].block != NULL) {
            *place_of(old[i].block) = old[i];
        }
    }
    if (old != NULL) {
        pages_free(old, old_count * sizeof(Sample));
    }
    return true;
}

/* Free a place; those behind it that were to stand there, or before, move up. */
static void
place_free(Sample *sample)
{
    size_t hole = (size_t)(sample - samples.places), mask = samples.place_count - 1;
    for (size_t place = place_after(hole); samples.places[place].block != NULL;
         place = place_after(place))
    {
        size_t first = first_place_of(samples.places[place].block);
        if (((place - first) & mask) >= ((place - hole) & mask)) {
            samples.places[hole] = samples.places[place];
            hole = place;
        }
    }
    samples.places[hole].block = NULL;
    samples.live--;
}

static void
event_add(const Sample *sample, int64_t line, int64_t level, int died)
{
    Event *event = &samples.ring[samples.events & (RING_EVENTS - 1)];
    *event = (Event){++samples.events, *sample, level, died};
    event->sample.line = line;
}

/* --- Drawing ------------------------------------------------------------------------------------- */

static void
samples_seed(uint64_t seed)
{
    samples.random = mixed(seed + 0x9e3779b97f4a7c15u);
    samples.random += samples.random == 0; /* It would stay there. */
}

/* Draw how far off the next byte of the sample is: 1 is the very next. */
static int64_t
distance_drawn(void)
{
    lock_take(&samples.lock);
    uint64_t random = samples.random; /* xorshift64*, see Vigna, ACM Trans. Math. Softw. 42 (2016). */
    random ^= random >> 12;
    random ^= random << 25;
    random ^= random >> 27;
    samples.random = random;
    int64_t mean = samples.mean;
    lock_give(&samples.lock);
    double uniform = ((double)((random * 0x2545f4914f6cdd1du) >> 12) + 0.5) / 4503599627370496.0;
    return mean == 0 ? NEVER : 1 + (int64_t)(-log(uniform) * (double)mean);
}

/* --- Births and deaths --------------------------------------------------------------------------- */

static void
sample_born(const Counters *mine, void *block, int64_t size)
{
    int64_t line = heap_account.number;
    int64_t stack = stack_now(samples.depth);
    lock_take(&samples.lock);
    Leaf *leaf = leaf_of(block);
    uint8_t *mark = leaf == NULL ? NULL : &leaf[granule_of(block)];
    /* Sampling may just have ended, or the map been cleared and the block's mark with it. */
    if (samples.mean > 0 && mark != NULL && LOAD_RELAXED(mark) != 0) {
        if (samples_have_room()) {
            Sample *sample = place_of(block);
            *sample = (Sample){block, samples.events + 1, size, stack, line, samples.mean};
            samples.live++;
            event_add(sample, line, mine->live, 0);
            STORE_RELAXED(mark, (uint8_t)SAMPLED_MARK);
        }
        else {
            samples.dropped++;
        }
    }
    lock_give(&samples.lock);
}

/* Our own work is charged to nobody, and in no sample. When it ends, `sample_at` is where it was before. */
NEVER_INLINE void *
sample_due(Counters *mine, void *block, int64_t size)
{
    if (heap_account.own_depth > 0) {
        mine->sample_at = mine->allocated + LOOK_BYTES;
        return block;
    }
    int64_t next = mine->sample_at + drawn.beyond, draws = LOAD_RELAXED(&samples.draws);
    if (drawn.draws != draws) {
        drawn.draws = draws;
        next = mine->allocated - size + distance_drawn();
    }
    if (mine->allocated >= next) {
        sample_born(mine, block, size);
        next = mine->allocated + distance_drawn();
    }
    int64_t ahead = next - mine->allocated;
    mine->sample_at = mine->allocated + (ahead < LOOK_BYTES ? ahead : LOOK_BYTES);
    drawn.beyond = next - mine->sample_at;
    return block;
}

static int64_t
sample_freed(Leaf *leaf, void *block)
{
    const HeapAccount *account = &heap_account;
    int64_t size = -1;
    uint16_t granule = granule_of(block);
    lock_take(&samples.lock);
    if (LOAD_RELAXED(&leaf[granule]) == SAMPLED_MARK) {
        Sample *sample = place_of(block);
        size = sample->size;
        event_add(sample, account->number,
                  account->own_depth > 0 ? account->program.live : counters.live - size, 1);
        place_free(sample);
        STORE_RELAXED(&leaf[granule], (uint8_t)0);
        if (size >= SMALLEST_LARGE) {
            STORE_RELAXED(full_size_of(leaf, granule), (uint64_t)0);
        }
    }
    lock_give(&samples.lock);
    return size;
}

/* --- Beginning and ending, with the GIL ---------------------------------------------------------- */

/* Sample no more, and forget all samples: their blocks have the marks of any others from here on. The map is not
   to be cleared before that. Return the mean that there was. */
static int64_t
samples_forget(void)
{
    lock_take(&samples.lock);
    int64_t mean = samples.mean;
    Sample *places = samples.places;
    size_t place_count = samples.place_count;
    for (size_t i = 0; i < place_count; i++) {
        Leaf *leaf = places[i].block == NULL ? NULL : leaf_of(places[i].block);
        if (leaf != NULL) {
            int64_t size = places[i].size; /* That of a large one still stands in full in the map. */
            STORE_RELAXED(&leaf[granule_of(places[i].block)],
                          (uint8_t)(size < SMALLEST_LARGE ? size + 1 : LARGE_MARK));
        }
    }
    samples.mean = 0;
    samples.draws++;
    samples.places = NULL;
    samples.place_count = samples.live = 0;
    samples.forgotten = samples.events;
    samples.dropped = 0;
    lock_give(&samples.lock);
    if (places != NULL) {
        pages_free(places, place_count * sizeof(Sample));
    }
    return mean;
}

/* Sample with that mean; 0 is not at all. */
static void
samples_go_on(int64_t mean)
{
    HeapAccount *account = &heap_account;
    lock_take(&samples.lock);
    samples.mean = mean;
    samples.draws++;
    lock_give(&samples.lock);
    /* This thread need not wait until it looks. */
    counters.sample_at = counters.allocated;
    account->program.sample_at = account->program.allocated;
}

/* Begin to sample, or change how. Return whether there is memory for it. */
static bool
samples_begin(int64_t mean, int depth, uint64_t seed)
{
    if (samples.ring == NULL) {
        samples.ring = pages_new((size_t)RING_EVENTS * sizeof(Event));
    }
    if (samples.ring == NULL) {
        return false;
    }
    samples.depth = depth;
    if (seed != 0 || samples.random == 0) {
        lock_take(&samples.lock);
        samples_seed(seed != 0 ? seed : (uint64_t)monotonic_ns() ^ (uint64_t)(uintptr_t)&samples);
        lock_give(&samples.lock);
    }
    if (seed != 0 || samples.mean != mean) {
        samples_go_on(mean);
    }
    return true;
}

static void
samples_end(void)
{
    (void)samples_forget();
    Event *ring = samples.ring;
    samples.ring = NULL;
    if (ring != NULL) {
        pages_free(ring, (size_t)RING_EVENTS * sizeof(Event));
    }
    stacks_forget();
}

/* --- Forks --------------------------------------------------------------------------------------- */

#if defined(_WIN32)

static bool
samples_survive_forks(void)
{
    return true;
}

#else

static void
samples_before_fork(void)
{
    lock_take(&samples.lock);
}

static void
samples_after_fork(void)
{
    lock_give(&samples.lock);
}

/* Have the lock held by nobody else at a fork: in the child it would be for ever. So the child has the samples
   of what it has from its parent. Return whether that could be done. */
static bool
samples_survive_forks(void)
{
    static bool done;
    if (!done) {
        errno = pthread_atfork(samples_before_fork, samples_after_fork, samples_after_fork);
        done = errno == 0;
    }
    return done;
}

#endif

/* --- Reading, with the GIL ----------------------------------------------------------------------- */

/* What is made for Python is made of a copy, without the lock: Python allocates. */

static PyObject *
samples_as_list(const Sample *copied, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        const Sample *one = &copied[i];
        PyObject *tuple = Py_BuildValue("(LLLLL)", (long long)one->birth, (long long)one->size,
                                        (long long)one->stack, (long long)one->line,
                                        (long long)one->mean);
        if (tuple == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, tuple);
        }
    }
    return list;
}

static PyObject *
counters_samples_live(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    size_t room = 0, count = 0;
    Sample *copied = NULL;
    for (;;) {
        lock_take(&samples.lock);
        if (samples.live <= room) {
            break;
        }
        size_t wanted = samples.live + samples.live / 8;
        lock_give(&samples.lock);
        if (copied != NULL) {
            pages_free(copied, room * sizeof(Sample));
        }
        room = wanted;
        copied = pages_new(room * sizeof(Sample));
        if (copied == NULL) {
            return PyErr_NoMemory();
        }
    }
    for (size_t i = 0; i < samples.place_count; i++) {
        if (samples.places[i].block != NULL) {
            copied[count++] = samples.places[i];
        }
    }
    lock_give(&samples.lock);
    PyObject *list = samples_as_list(copied, count);
    if (copied != NULL) {
        pages_free(copied, room * sizeof(Sample));
    }
    return list;
}

static PyObject *
event_as_tuple(const Event *event)
{
    const Sample *sample = &event->sample;
    return Py_BuildValue("(LOLLLLLL)", (long long)event->number, event->died ? Py_True : Py_False,
                         (long long)sample->birth, (long long)sample->size,
                         (long long)sample->stack, (long long)sample->line,
                         (long long)sample->mean, (long long)event->level);
}

static PyObject *
events_as_list(const Event *copied, int64_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (int64_t i = 0; list != NULL && i < count; i++) {
        PyObject *tuple = event_as_tuple(&copied[i]);
        if (tuple == NULL) {
            Py_CLEAR(list);
        }
        else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, tuple);
        }
    }
    return list;
}

static PyObject *
counters_samples_events(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long since = PyLong_AsLongLong(argument);
    if (PyErr_Occurred()) {
        return NULL;
    }
    size_t bytes = (size_t)RING_EVENTS * sizeof(Event);
    Event *copied = pages_new(bytes); /* It takes memory for what is copied. */
    if (copied == NULL) {
        return PyErr_NoMemory();
    }
    lock_take(&samples.lock);
    int64_t newest = samples.events, count = newest - since;
    bool known = since >= samples.forgotten && count <= RING_EVENTS;
    for (int64_t i = 0; known && i < count; i++) {
        copied[i] = samples.ring[(since + i) & (RING_EVENTS - 1)];
    }
    lock_give(&samples.lock);
    PyObject *list = known ? events_as_list(copied, count > 0 ? count : 0) : Py_NewRef(Py_None);
    pages_free(copied, bytes);
    return list;
}

static PyObject *
counters_samples_sequence(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return uncounted_int(samples.events);
}

static PyObject *
counters_samples_dropped(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return uncounted_int(samples.dropped);
}

static PyObject *
counters_samples_stack(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long stack = PyLong_AsLongLong(argument);
    return PyErr_Occurred() ? NULL : stack_as_tuple(stack);
}

static PyObject *
counters_samples_line(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    (void)line_of(&heap_account);
    return uncounted_int(heap_account.number);
}

#endif /* STRATATRACE_SAMPLES_H */
