/* The native heap probe: what each thread allocates and frees, to the byte, always on.

   Hooks stand before the allocators of Python's three domains, and before those of numpy's arrays.
   A hook forwards the request, remembers the block's size, and adds it to counters of the calling
   thread. No lock is taken, no memory is allocated from a hooked allocator, nothing is formatted:
   a pair of malloc and free costs some tens of instructions.

   The size of every live block is kept in a *shadow map* (_map.h), which has one byte for each granule of
   16 bytes of address space. Blocks do not share granules. The map is a radix tree over the
   address; its parts are made when the first block in their range is marked:

       address   | 47 .. 34 | 33 .. 20 | 19 .. 4 | 3 .. 0 |
                      |          |          |
          root[16384] -> branch[16384] -> leaf[65536]       (a leaf covers 1 MiB)

   The byte of a block's first granule, its *mark*, tells the size that was asked for:

       0          no block that we know of begins here
       1 .. 253   a block of 0 .. 252 bytes
       254        a block of any size that is one of the sample (_samples.h), which knows its size
       255        a block of 253 bytes or more, whose size stands in full in one of its other bytes

       granules of a block of 300 bytes, the first of which has a number that is 5 modulo 8:

            5    6    7  | 8    9    10   11   12   13   14   15 | 16   17 ...  23
         +-----+----+----+---------------------------------------+----+----+--+----+
         | 255 |  0 |  0 |          300, as eight bytes          |  0 |  0 |..|  0 |
         +-----+----+----+---------------------------------------+----+----+--+----+

   A block of 253 bytes has 16 granules, so that the next eight aligned bytes are always its own. They
   are aligned to be read and written in one piece. The last ones of a leaf may reach eight bytes
   beyond its end, where each leaf has room for them. A large block has them while it is in the sample, too.

   All bytes are zero but for those of live blocks, so whatever was allocated while nothing counted
   reads as untracked: its free counts nothing.

   Concurrency. The raw domain is called without the GIL, by threads that Python has never heard of.

   - Counters are thread-local: nobody else reads or writes them.
   - A mark is written by the thread that has just been given the block, or is about to give it
     back. The allocator hands a block over from one thread to another in order, and marks with it,
     as they are written before the block is given away. A mark is therefore always taken off
     *before* the allocator below is called, which may hand the block to somebody else at once.
     The mark of a block of the sample is an exception: it is changed under the sample's lock, by
     whoever ends the sampling as well.
   - Parts of the tree are published by compare-and-swap, and never freed. A reader reaches what it
     points to through the pointer itself, an order that every processor keeps.
   - `start` and `stop` are called with the GIL, and look at nobody else's state: see there. */

#if !defined(PYPY_VERSION) && !defined(Py_BUILD_CORE_MODULE)
#  define Py_BUILD_CORE_MODULE 1 /* For _freelists.h; to be defined before anything is included. */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <string.h>

#if defined(PYPY_VERSION)
#  error "PyPy has no allocator hooks: install with STRATATRACE_NO_EXTENSION=1"
#elif defined(Py_GIL_DISABLED)
#  error "a free-threaded Python allocates in other ways: install with STRATATRACE_NO_EXTENSION=1"
#elif SIZEOF_VOID_P != 8
#  error "the shadow map is made for addresses of 64 bits: install with STRATATRACE_NO_EXTENSION=1"
#endif

#if defined(WITH_FREELISTS) && PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#  define FREE_LISTS_KNOWN 1
#else
#  define FREE_LISTS_KNOWN 0
#endif
#include "_accounts.h"
#include "_freelists.h"
#include "_lines.h"
#include "_map.h"
#include "_measured.h"
#include "_numpy.h"
#include "_samples.h"
#include "_spans.h"
#include "_tallies.h"
#include "_traces.h"

/* --- Hooks --------------------------------------------------------------------------------------- */

enum { RAW, MEM, OBJ, DOMAINS };

#define ALL_DOMAINS ((1u << DOMAINS) - 1)

static const PyMemAllocatorDomain domains[DOMAINS] = {
    PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};

/* The allocators that our hooks forward to; they stay valid for ever, because whoever has seen our
   hooks may call them at any time, long after they were taken out. */
static PyMemAllocatorEx below[DOMAINS];

/* A request that is not to be counted. */
ALWAYS_INLINE void
pass(Counters *mine, int domain)
{
    if (mine->inside == PROBING) {
        mine->reached |= (uint8_t)(1 << domain);
    }
}

ALWAYS_INLINE void *
hooked_malloc(int domain, size_t size)
{
    Counters *mine = &counters;
    const PyMemAllocatorEx *next = &below[domain];
    if (UNLIKELY(mine->inside)) {
        pass(mine, domain);
        return next->malloc(next->ctx, size);
    }
    mine->inside = INSIDE;
    void *block = next->malloc(next->ctx, size);
    mine->inside = OUTSIDE;
    if (UNLIKELY(block == NULL)) {
        return NULL;
    }
    return add(mine, block, size);
}

ALWAYS_INLINE void *
hooked_calloc(int domain, size_t count, size_t size)
{
    Counters *mine = &counters;
    const PyMemAllocatorEx *next = &below[domain];
    if (UNLIKELY(mine->inside)) {
        pass(mine, domain);
        return next->calloc(next->ctx, count, size);
    }
    mine->inside = INSIDE;
    void *block = next->calloc(next->ctx, count, size);
    mine->inside = OUTSIDE;
    if (UNLIKELY(block == NULL)) {
        return NULL;
    }
    return add(mine, block, count * size); /* Whoever called us has excluded an overflow. */
}

/* A reallocation, in place or not, takes the old block off and adds the new one, in this order: the
   peak never sees both. */
ALWAYS_INLINE void *
hooked_realloc(int domain, void *block, size_t size)
{
    Counters *mine = &counters;
    const PyMemAllocatorEx *next = &below[domain];
    if (UNLIKELY(mine->inside)) {
        pass(mine, domain);
        return next->realloc(next->ctx, block, size);
    }
    int64_t freed = unmark(block);
    mine->inside = INSIDE;
    void *moved = next->realloc(next->ctx, block, size);
    mine->inside = OUTSIDE;
    if (UNLIKELY(moved == NULL)) {
        put_back(block, freed);
        return NULL;
    }
    if (LIKELY(freed >= 0)) {
        count_free(mine, freed);
    }
    return add(mine, moved, size);
}

NEVER_INLINE void
free_slowly(const PyMemAllocatorEx *next, void *block)
{
    take_off(block);
    next->free(next->ctx, block);
}

/* There is no need to be *inside*: what pymalloc frees in the raw domain has lost its mark here, or
   never had one. */
ALWAYS_INLINE void
hooked_free(int domain, void *block)
{
    const PyMemAllocatorEx *next = &below[domain];
    Leaf *leaf = leaf_of(block);
    if (LIKELY(leaf != NULL)) {
        uint8_t *mark = &leaf[granule_of(block)];
        uint8_t marked = LOAD_RELAXED(mark);
        if (UNLIKELY(marked >= SAMPLED_MARK)) {
            free_slowly(next, block);
            return;
        }
        if (LIKELY(marked != 0)) {
            STORE_RELAXED(mark, (uint8_t)0);
            count_free(&counters, (int64_t)marked - 1);
        }
    }
    next->free(next->ctx, block);
}

#define HOOKS(name, domain)                                                                   \
    static void *name##_malloc(void *Py_UNUSED(ctx), size_t size)                             \
    {                                                                                         \
        return hooked_malloc(domain, size);                                                   \
    }                                                                                         \
    static void *name##_calloc(void *Py_UNUSED(ctx), size_t count, size_t size)               \
    {                                                                                         \
        return hooked_calloc(domain, count, size);                                            \
    }                                                                                         \
    static void *name##_realloc(void *Py_UNUSED(ctx), void *block, size_t size)               \
    {                                                                                         \
        return hooked_realloc(domain, block, size);                                           \
    }                                                                                         \
    static void name##_free(void *Py_UNUSED(ctx), void *block)                                \
    {                                                                                         \
        hooked_free(domain, block);                                                           \
    }

HOOKS(raw, RAW)
HOOKS(mem, MEM)
HOOKS(obj, OBJ)

static const PyMemAllocatorEx hooks[DOMAINS] = {
    {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free},
    {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
    {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
};

/* --- Start and stop ------------------------------------------------------------------------------ */

static bool
is_hook(const PyMemAllocatorEx *allocator, int domain)
{
    return allocator->malloc == hooks[domain].malloc && allocator->calloc == hooks[domain].calloc
           && allocator->realloc == hooks[domain].realloc && allocator->free == hooks[domain].free;
}

/* Return the domains whose requests come through our hooks, as a set of bits.

   Whether ours are on top can be seen. Below somebody else's they can only be found by a request
   that goes through: a small and a large one, for those that answer some by themselves. Should we
   be wrong and add our hooks a second time, they would call themselves for ever. */
static unsigned
domains_reached(void)
{
    Counters *mine = &counters;
    PyMemAllocatorEx top;
    unsigned on_top = 0;
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_GetAllocator(domains[domain], &top);
        on_top |= is_hook(&top, domain) ? 1u << domain : 0;
    }
    if (on_top == ALL_DOMAINS) {
        return on_top;
    }
    mine->reached = 0;
    mine->inside = PROBING;
    static const size_t sizes[] = {1, 4096};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(sizes); i++) {
        void *raw = PyMem_RawMalloc(sizes[i]), *mem = PyMem_Malloc(sizes[i]);
        void *object = PyObject_Malloc(sizes[i]);
        /* Whoever has no memory may say so before asking us: nothing is known then. */
        mine->reached |= raw == NULL || mem == NULL || object == NULL ? ALL_DOMAINS : 0;
        PyMem_RawFree(raw);
        PyMem_Free(mem);
        PyObject_Free(object);
    }
    mine->inside = OUTSIDE;
    return mine->reached;
}

/* Put our hook on top.

   Threads without the GIL may be calling the raw allocator at this moment, and the interpreter does
   not replace its five fields at once: a thread may find our function with the context of the one
   before, or the other way round. That is why our hooks use no context of their own, and are given
   the one from below: there is only one, whichever function it is found with. */
static void
put_hook(int domain)
{
    PyMemAllocatorEx hook = hooks[domain];
    PyMem_GetAllocator(domains[domain], &below[domain]);
    hook.ctx = below[domain].ctx;
    FENCE(); /* Who sees the hook also sees what is below it. */
    PyMem_SetAllocator(domains[domain], &hook);
}

/* Take our hook out, unless somebody else's stands above it and forwards to it: then it stays where
   it is, and forwards. */
static void
take_hook(int domain)
{
    PyMemAllocatorEx top;
    PyMem_GetAllocator(domains[domain], &top);
    if (is_hook(&top, domain)) {
        PyMem_SetAllocator(domains[domain], &below[domain]);
    }
}

static int64_t starts;
static bool stop_wanted; /* By somebody, while calls were being charged. */

/* Starting begins with an empty map: blocks of the time before were freed, and their addresses used
   again, while nobody looked.

   A thread without the GIL may be within a hook all the while, having found the map before a stop
   and using it after the next start. It can do no harm, because parts of the map are cleared where
   they are, and never freed:

   - It marks a block: before the map is cleared, and the mark is lost like any other of that time;
     or after, and the block is one that it has just been given while hooks are on again.
   - It takes off a mark: nobody else knows the block yet, or any more. It finds the mark as it was,
     or none, and of a large block the full size or none, as eight aligned bytes are cleared at once.

   A clearing at `stop` would not do, since the thread could mark a block after it that is freed
   before the next start. It is done there too, but only to give memory back. */
static void
start_counting(void)
{
    unsigned reached = domains_reached();
    stop_wanted = false;
    /* Who began before us and ends now puts back what was there before both: then our hooks are
       gone while we count, and this is a start like the first. */
    if (root == &no_map || reached != ALL_DOMAINS) {
        int64_t mean = samples_forget();
        STORE_RELEASE(&root, &no_map);
        for_each_part(clear_leaf, NULL);
        for (int domain = 0; domain < DOMAINS; domain++) {
            if (!(reached & 1u << domain)) {
                put_hook(domain);
            }
        }
        STORE_RELEASE(&root, &map);
        samples_go_on(mean);
        starts++;
        leftovers_forget();
    }
}

static void
stop_counting(void)
{
    if (root == &map) {
        samples_end();
        STORE_RELEASE(&root, &no_map);
        for (int domain = 0; domain < DOMAINS; domain++) {
            take_hook(domain);
        }
        for_each_part(clear_leaf, NULL);
    }
}

/* Return the number of the start since which all was counted, or 0 where nothing is. */
static int64_t
counting_since(void)
{
    return root == &map && domains_reached() == ALL_DOMAINS ? starts : 0;
}

static int64_t
counting_again(void)
{
    int64_t since = counting_since();
    if (UNLIKELY(since == 0 && root == &map)) {
        start_counting();
        since = counting_since();
    }
    return since;
}

/* The last one ends what was to be stopped while it was open. */
static void
heap_tab_closed(void)
{
    if (stop_wanted && heap_tabs_open == 0) {
        stop_wanted = false;
        stop_counting();
    }
}

static PyObject *
counters_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    start_counting();
    Py_RETURN_NONE;
}

static PyObject *
counters_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    if (heap_account.line != NULL) {
        line_drop_abandoned(heap_account.line);
    }
    stop_wanted = heap_tabs_open > 0;
    if (!stop_wanted) {
        stop_counting();
    }
    Py_RETURN_NONE;
}

static PyObject *
counters_is_counting(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(counting_since() != 0);
}

/* --- Reading ------------------------------------------------------------------------------------- */

/* Return a new tuple of ints that are not counted. The tuple itself is counted as any other: it may come from a
   free list and go there, and whoever gets it from there has it for nothing. */
static PyObject *
tuple_of(const int64_t *values, Py_ssize_t length)
{
#if PY_VERSION_HEX < 0x030C0000
    int collecting = PyGC_Disable(); /* A new tuple could start a collection. */
#endif
    PyObject *tuple = PyTuple_New(length);
#if PY_VERSION_HEX < 0x030C0000
    if (collecting) {
        PyGC_Enable();
    }
#endif
    for (Py_ssize_t i = 0; tuple != NULL && i < length; i++) {
        PyObject *number = uncounted_int(values[i]);
        if (number == NULL) {
            Py_CLEAR(tuple);
        }
        else {
            PyTuple_SET_ITEM(tuple, i, number);
        }
    }
    return tuple;
}

static PyObject *
counters_mark(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Counters *mine = &counters;
    int64_t live = mine->live;
    int64_t values[] = {live, mine->peak > live ? mine->peak : live};
    PyObject *result = tuple_of(values, Py_ARRAY_LENGTH(values));
    mine->peak = live; /* Last, so that the tuple is not in the next stretch's peak by itself. */
    return result;
}

static PyObject *
counters_counts(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    const Counters *mine = &counters;
    int64_t values[] = {
        mine->allocated, mine->allocations, mine->allocated - mine->live, mine->frees};
    return tuple_of(values, Py_ARRAY_LENGTH(values));
}

static PyObject *
counters_held_bytes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    size_t bytes = 0;
    for_each_part(add_resident, &bytes);
    return uncounted_int((int64_t)(bytes + sizeof(Root)));
}

static PyObject *
counters_free_list_bytes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return free_lists_known() ? uncounted_int(free_list_bytes()) : Py_NewRef(Py_None);
}

static PyObject *
counters_leftovers_used(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return uncounted_int(leftovers_used().bytes);
}

static PyObject *
counters_leftovers_leave(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    leftovers_leave();
    Py_RETURN_NONE;
}

static PyObject *
counters_leftovers_forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    leftovers_forget();
    Py_RETURN_NONE;
}

static PyObject *
counters_sample(PyObject *Py_UNUSED(module), PyObject *args)
{
    long long mean = 0;
    int depth = 0;
    unsigned long long seed = 0;
    if (!PyArg_ParseTuple(args, "Li|K", &mean, &depth, &seed)) {
        return NULL;
    }
    if (mean < 0 || mean > MOST_MEAN || (mean > 0 && (depth < 1 || depth > MOST_FRAMES))) {
        return PyErr_Format(PyExc_ValueError, "a mean of 1 to %lld bytes, and 1 to %d frames",
                            MOST_MEAN, MOST_FRAMES);
    }
    if (mean == 0) {
        samples_end();
    }
    else if (!FRAMES_KNOWN || counting_since() == 0) {
        PyErr_SetString(PyExc_RuntimeError, FRAMES_KNOWN ? "nothing is counted"
                                                         : "this Python's frames are not known");
        return NULL;
    }
    else if (!samples_begin(mean, depth, seed)) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* A forked child has one thread, and no calls but those that will begin. */
static PyObject *
counters_after_fork_in_child(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    generation++;
    heap_tabs_open = 0;
    stop_wanted = false;
    if (heap_account.line != NULL) {
        line_renew(heap_account.line);
    }
    tabs_forget(&resident_newest);
    heap_account.own_depth = 0;
    resident_lifetime_peak = 0;
    Py_RETURN_NONE;
}

/* --- The module ---------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"start", counters_start, METH_NOARGS,
     PyDoc_STR("Begin to count, in every thread; nothing where it is counting.")},
    {"stop", counters_stop, METH_NOARGS,
     PyDoc_STR("Count no more; blocks from before the next start will be untracked.")},
    {"is_counting", counters_is_counting, METH_NOARGS,
     PyDoc_STR("Return whether it was begun, and nobody has taken the hooks out.")},
    {"mark", counters_mark, METH_NOARGS,
     PyDoc_STR("Return this thread's live bytes and their highest since its last mark.")},
    {"counts", counters_counts, METH_NOARGS,
     PyDoc_STR("Return this thread's allocated bytes, allocations, freed bytes and frees.")},
    {"count_numpy", counters_count_numpy, METH_NOARGS,
     PyDoc_STR("Count the data of numpy's arrays; return whether that can be done.")},
    {"forget_numpy", counters_forget_numpy, METH_NOARGS, PyDoc_STR("Undo `count_numpy`.")},
    {"held_bytes", counters_held_bytes, METH_NOARGS,
     PyDoc_STR("Return the memory that the map of block sizes takes.")},
    {"free_list_bytes", counters_free_list_bytes, METH_NOARGS,
     PyDoc_STR("Return the bytes in Python's free lists, or None where they cannot be known.")},
    {"leftovers_used", counters_leftovers_used, METH_NOARGS,
     PyDoc_STR("Our work begins: return the bytes that the program has used of what we left.")},
    {"leftovers_leave", counters_leftovers_leave, METH_NOARGS,
     PyDoc_STR("Our work ends: what it has left in free lists is ours.")},
    {"leftovers_forget", counters_leftovers_forget, METH_NOARGS,
     PyDoc_STR("Begin anew: all that is idle in free lists is the program's.")},
    {"set_gate", counters_set_gate, METH_VARARGS,
     PyDoc_STR("Say who tells whether to measure, and who begins a call.")},
    {"callable_type", counters_callable_type, METH_O,
     PyDoc_STR("Return a subclass whose instances are called without a tuple being made.")},
    {"connect", counters_connect, METH_VARARGS,
     PyDoc_STR("Connect a new instance of such a type with its function.")},
    {"advance", FAST(counters_advance), METH_FASTCALL,
     PyDoc_STR("Run a generator's next step as a step of a call; return if it has ended.")},
    {"begin_span", FAST(counters_begin_span), METH_FASTCALL,
     PyDoc_STR("Measure a span from here on.")},
    {"end_span", FAST(counters_end_span), METH_FASTCALL,
     PyDoc_STR("Measure a span to here, and put its numbers into a mapping.")},
    {"sample", counters_sample, METH_VARARGS,
     PyDoc_STR("Sample a block every so many bytes; with 0, no more.")},
    {"samples_sequence", counters_samples_sequence, METH_NOARGS,
     PyDoc_STR("Return the number of the newest event: a birth or death in the sample.")},
    {"samples_live", counters_samples_live, METH_NOARGS,
     PyDoc_STR("Return the blocks of the sample that are live.")},
    {"samples_events", counters_samples_events, METH_O,
     PyDoc_STR("Return the events after that one, or None where some are forgotten.")},
    {"samples_stack", counters_samples_stack, METH_O,
     PyDoc_STR("Return the frames of a stack, the innermost first.")},
    {"samples_dropped", counters_samples_dropped, METH_NOARGS,
     PyDoc_STR("Return how many blocks should be in the sample, and are not.")},
    {"samples_line", counters_samples_line, METH_NOARGS,
     PyDoc_STR("Return the number of the line that the calling thread runs.")},
    {"sum_traces", counters_sum_traces, METH_O,
     PyDoc_STR("Return bytes and blocks by stack of the traces that a function returns.")},
    {"after_fork_in_child", counters_after_fork_in_child, METH_NOARGS,
     PyDoc_STR("Forget the open tabs and calls of the parent.")},
    {NULL, NULL, 0, NULL},
};

/* Hooks are the process's own, and so is all our state: there is one module, in the main
   interpreter. What other interpreters allocate is counted with the threads that they run in. */
static int
module_exec(PyObject *module)
{
    static const struct {
        PyType_Spec *spec;
        PyTypeObject **type;
    } types[] = {
        {&line_spec, &line_type},
        {&tab_spec, &tab_type},
        {&hold_spec, &hold_type},
        {&heap_account_spec, &heap_account_type},
        {&resident_account_spec, &resident_account_type},
        {&thinning_spec, &thinning_type},
        {&tally_spec, &tally_type},
        {&call_spec, &tallied_call_type},
    };
    static const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&name_enabled, "enabled"},   {&name_resume, "resume"},     {&name_suspend, "suspend"},
        {&name_finish, "finish"},     {&name_tally_of, "tally_of"}, {&name_missed, "missed"},
        {&name_line, "stratatrace.line"}, {&name_count, "count"},
        {&name_stay, "_stratatrace_stay"},
        {&name_class, "__class__"},   {&text_exact, "exact"},       {&text_process, "process"},
        {&text_native, "native"},     {&text_hwm, "hwm"},
        {&name_returned, "returned"},
    };
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(
            PyExc_ImportError,
            "the native heap probe counts for the whole process: it can be imported in the main "
            "interpreter, and not in another one");
        return -1;
    }
    if (!samples_survive_forks()) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (*types[i].type == NULL) { /* Else the module is imported anew. */
            *types[i].type = (PyTypeObject *)PyType_FromSpec(types[i].spec);
        }
        if (*types[i].type == NULL || PyModule_AddType(module, *types[i].type) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (*names[i].name == NULL) {
            *names[i].name = PyUnicode_InternFromString(names[i].text);
        }
        if (*names[i].name == NULL) {
            return -1;
        }
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    /* It supports none but the main one, and `module_exec` says so in its own words. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "stratatrace.probes._counters",
    .m_doc = PyDoc_STR("Counters of what each thread allocates and frees, to the byte."),
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__counters(void)
{
    return PyModuleDef_Init(&definition);
}
