/* numpy allocates the data of its arrays through a handler: a struct of four functions in a capsule.
   Another handler can be set for a context, and so for a thread; the struct of the default one
   serves all. Its layout is public (NEP 49), and its address the entry 306 of numpy's C API.

   numpy keeps small blocks for later use. They pass through these functions when they come and go,
   and that is when tracemalloc, too, sees them begin and end. */
#ifndef STRATATRACE_NUMPY_H
#define STRATATRACE_NUMPY_H

#include "_map.h"

#define NUMPY_API_FEATURE_VERSION 211
#define NUMPY_API_DEFAULT_HANDLER 306
#define NUMPY_FIRST_VERSION_WITH_HANDLERS 0xF /* numpy 1.22 */

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *block, size_t size);
    void (*free)(void *ctx, void *block, size_t size);
} NumpyAllocator;

typedef struct {
    char name[127];
    uint8_t version;
    NumpyAllocator allocator;
} NumpyHandler;

static NumpyHandler *numpy_handler; /* The one that was hooked last; numpy is never unloaded. */
static NumpyAllocator below_numpy;

static void *
numpy_malloc(void *ctx, size_t size)
{
    Counters *mine = &counters;
    uint8_t outer = mine->inside;
    mine->inside = INSIDE;
    void *block = below_numpy.malloc(ctx, size);
    mine->inside = outer;
    return block == NULL ? NULL : add(mine, block, size);
}

static void *
numpy_calloc(void *ctx, size_t count, size_t size)
{
    Counters *mine = &counters;
    uint8_t outer = mine->inside;
    mine->inside = INSIDE;
    void *block = below_numpy.calloc(ctx, count, size);
    mine->inside = outer;
    return block == NULL ? NULL : add(mine, block, count * size);
}

static void *
numpy_realloc(void *ctx, void *block, size_t size)
{
    Counters *mine = &counters;
    uint8_t outer = mine->inside;
    int64_t freed = unmark(block);
    mine->inside = INSIDE;
    void *moved = below_numpy.realloc(ctx, block, size);
    mine->inside = outer;
    if (moved == NULL) {
        put_back(block, freed);
        return NULL;
    }
    if (freed >= 0) {
        count_free(mine, freed);
    }
    return add(mine, moved, size);
}

static void
numpy_free(void *ctx, void *block, size_t size)
{
    take_off(block);
    below_numpy.free(ctx, block, size);
}

/* Return the handler of a numpy that is imported, or NULL, with no exception set. */
static NumpyHandler *
find_numpy_handler(void)
{
    static const char *const names[] = {
        "numpy._core._multiarray_umath", "numpy.core._multiarray_umath"};
    NumpyHandler *found = NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names) && found == NULL; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
        PyObject *capsule = module == NULL ? NULL : PyObject_GetAttrString(module, "_ARRAY_API");
        void **api = capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, NULL);
        if (api != NULL
            && ((unsigned (*)(void))api[NUMPY_API_FEATURE_VERSION])()
                   >= NUMPY_FIRST_VERSION_WITH_HANDLERS)
        {
            PyObject *handler = *(PyObject **)api[NUMPY_API_DEFAULT_HANDLER];
            found = handler == NULL ? NULL : PyCapsule_GetPointer(handler, "mem_handler");
        }
        Py_XDECREF(capsule);
        Py_XDECREF(module);
        Py_XDECREF(name);
        PyErr_Clear();
    }
    if (found != NULL && strncmp(found->name, "default_allocator", sizeof(found->name)) == 0
        && found->version == 1 && is_writable(&found->allocator.malloc))
    {
        return found;
    }
    return NULL;
}

static PyObject *
counters_count_numpy(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    if (numpy_handler != NULL && numpy_handler->allocator.malloc == numpy_malloc) {
        Py_RETURN_TRUE;
    }
    NumpyHandler *handler = find_numpy_handler();
    if (handler == NULL) {
        Py_RETURN_FALSE;
    }
    /* With the GIL, as numpy reads them. The context stays, so that ours need none. */
    NumpyAllocator *allocator = &handler->allocator;
    below_numpy = *allocator;
    allocator->malloc = numpy_malloc;
    allocator->calloc = numpy_calloc;
    allocator->realloc = numpy_realloc;
    allocator->free = numpy_free;
    numpy_handler = handler;
    Py_RETURN_TRUE;
}

/* Put back what was there, unless somebody else has replaced ours, and may forward to it. */
static PyObject *
counters_forget_numpy(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    if (numpy_handler != NULL && numpy_handler->allocator.malloc == numpy_malloc
        && numpy_handler->allocator.free == numpy_free)
    {
        numpy_handler->allocator = below_numpy;
        numpy_handler = NULL;
    }
    Py_RETURN_NONE;
}

#endif /* STRATATRACE_NUMPY_H */
