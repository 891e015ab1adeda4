/* What CPython keeps in its free lists: the one part that looks into the interpreter.

   An object that is dropped into a free list is not freed, and one that is taken from there is not
   allocated. The allocator's counters see neither. Whoever knows how many bytes sit in the free
   lists can tell what the program really has: what was allocated, less what was freed, less these.

   The lists are fields of the interpreter's state. They differ between versions of Python, and a
   test at the first use tells whether they are where this was compiled to look for them. */
#ifndef STRATATRACE_FREELISTS_H
#define STRATATRACE_FREELISTS_H

#include <Python.h>

#include "_platform.h"

/* What the program has taken from the free lists and nobody has counted. */
typedef struct {
    int64_t bytes; /* Less what it gave back. */
    int64_t allocated, allocations;
} Used;

#if FREE_LISTS_KNOWN

#  include <stddef.h>
#  include <string.h>

#  include "internal/pycore_interp.h"
#  include "internal/pycore_dict.h"
#  if PY_VERSION_HEX >= 0x030D0000
#    include "internal/pycore_freelist.h"
#  endif

/* The header that the garbage collector puts before each object that it tracks. */
#  define GC_HEADER ((Py_ssize_t)sizeof(PyGC_Head))

/* Keys of the smallest dictionary: the head, eight indices of a byte, room for five entries. Only
   keys that are all strings go to the free list. */
#  define SMALLEST_KEYS \
      ((Py_ssize_t)(sizeof(PyDictKeysObject) + 8 + 5 * sizeof(PyDictUnicodeEntry)))

/* Two structs that are private to an object file of the interpreter. */
#  define WRAPPED_VALUE ((Py_ssize_t)(sizeof(PyObject) + sizeof(PyObject *)))
#  define ASEND ((Py_ssize_t)(sizeof(PyObject) + 3 * sizeof(PyObject *)))

#  if PY_VERSION_HEX >= 0x030D0000
#    define FREE_COUNT(interpreter, list) ((interpreter)->object_state.freelists.list)
#    define FREE_FLOATS floats.numfree
#    define FREE_TUPLES tuples.numfree
#    define FREE_LIST_OBJECTS lists.numfree
#    define FREE_DICTS dicts.numfree
#    define FREE_KEYS dictkeys.numfree
#    define FREE_SLICE slices.slice_cache
#    define FREE_CONTEXTS contexts.numfree
#    define FREE_VALUES async_gens.numfree
#    define FREE_ASENDS async_gen_asends.numfree
#  else
#    define FREE_COUNT(interpreter, list) ((interpreter)->list)
#    define FREE_FLOATS float_state.numfree
#    define FREE_TUPLES tuple.numfree
#    define FREE_LIST_OBJECTS list.numfree
#    define FREE_DICTS dict_state.numfree
#    define FREE_KEYS dict_state.keys_numfree
#    define FREE_SLICE slice_cache
#    define FREE_CONTEXTS context.numfree
#    define FREE_VALUES async_gen.value_numfree
#    define FREE_ASENDS async_gen.asend_numfree
#  endif

/* The kinds of objects: tuples of each length from 1, then the others. */
enum {
    KIND_FLOAT = PyTuple_NFREELISTS,
    KIND_LIST,
    KIND_DICT,
    KIND_KEYS,
    KIND_SLICE,
    KIND_CONTEXT,
    KIND_VALUE,
    KIND_ASEND,
    KINDS
};

/* The bytes of an object of a kind. */
static int32_t
kind_bytes(int kind)
{
    switch (kind) {
        case KIND_FLOAT: return sizeof(PyFloatObject);
        case KIND_LIST: return GC_HEADER + sizeof(PyListObject);
        case KIND_DICT: return GC_HEADER + sizeof(PyDictObject);
        case KIND_KEYS: return SMALLEST_KEYS;
        case KIND_SLICE: return GC_HEADER + sizeof(PySliceObject);
        case KIND_CONTEXT: return GC_HEADER + sizeof(PyContext);
        case KIND_VALUE: return GC_HEADER + WRAPPED_VALUE;
        case KIND_ASEND: return GC_HEADER + ASEND;
        default:
            return (int32_t)(GC_HEADER + offsetof(PyTupleObject, ob_item)
                             + (kind + 1) * sizeof(PyObject *));
    }
}

/* Read how many objects of each kind are idle. */
static void
read_free_lists(PyInterpreterState *interpreter, int32_t counts[KINDS])
{
    const int *tuples = FREE_COUNT(interpreter, FREE_TUPLES);
    for (int kind = 0; kind < PyTuple_NFREELISTS; kind++) {
        counts[kind] = tuples[kind];
    }
    counts[KIND_FLOAT] = FREE_COUNT(interpreter, FREE_FLOATS);
    counts[KIND_LIST] = FREE_COUNT(interpreter, FREE_LIST_OBJECTS);
    counts[KIND_DICT] = FREE_COUNT(interpreter, FREE_DICTS);
    counts[KIND_KEYS] = FREE_COUNT(interpreter, FREE_KEYS);
    counts[KIND_SLICE] = FREE_COUNT(interpreter, FREE_SLICE) != NULL;
    counts[KIND_CONTEXT] = FREE_COUNT(interpreter, FREE_CONTEXTS);
    counts[KIND_VALUE] = FREE_COUNT(interpreter, FREE_VALUES);
    counts[KIND_ASEND] = FREE_COUNT(interpreter, FREE_ASENDS);
}

/* Make and drop one object; return whether its list loses one, where it has one, and gains one. */
#  define MOVES(list, make)                                                    \
      do {                                                                     \
          int before = FREE_COUNT(interpreter, list);                          \
          PyObject *made = (make);                                             \
          int taken = FREE_COUNT(interpreter, list);                           \
          Py_XDECREF(made);                                                    \
          int dropped = FREE_COUNT(interpreter, list);                         \
          as_expected = as_expected && made != NULL                            \
                        && taken == (before > 0 ? before - 1 : 0)              \
                        && dropped == taken + 1;                               \
          PyErr_Clear();                                                       \
      } while (0)

static int
free_lists_as_expected(PyInterpreterState *interpreter)
{
    int as_expected = 1;
    int collecting = PyGC_Disable(); /* A collection would move the counts as well. */
    MOVES(FREE_FLOATS, PyFloat_FromDouble(1.5));
    MOVES(FREE_LIST_OBJECTS, PyList_New(0));
    MOVES(FREE_DICTS, PyDict_New());
    MOVES(FREE_TUPLES[0], Py_BuildValue("(s)", ""));
    MOVES(FREE_TUPLES[2], Py_BuildValue("(sss)", "", "", ""));
    /* The first item gives the dictionary its keys, which is when they leave their list. */
    PyObject *key = PyUnicode_InternFromString("key"), *dict = PyDict_New();
    int before = FREE_COUNT(interpreter, FREE_KEYS);
    if (key == NULL || dict == NULL || PyDict_SetItem(dict, key, key) < 0) {
        PyErr_Clear();
        as_expected = 0;
    }
    int taken = FREE_COUNT(interpreter, FREE_KEYS);
    Py_XDECREF(dict);
    int dropped = FREE_COUNT(interpreter, FREE_KEYS);
    Py_XDECREF(key);
    as_expected = as_expected && taken == (before > 0 ? before - 1 : 0) && dropped == taken + 1;
    if (collecting) {
        PyGC_Enable();
    }
    return as_expected;
}

/* Return whether the free lists can be read here. */
static int
free_lists_known(void)
{
    static int known = -1; /* -1 until it was tested. */
    if (UNLIKELY(known < 0)) {
        known = free_lists_as_expected(PyInterpreterState_Get());
    }
    return known;
}

/* Return the bytes in the free lists of this interpreter, which are known. */
static int64_t
free_list_bytes(void)
{
    int32_t counts[KINDS];
    int64_t bytes = 0;
    read_free_lists(PyInterpreterState_Get(), counts);
    for (int kind = 0; kind < KINDS; kind++) {
        bytes += (int64_t)counts[kind] * kind_bytes(kind);
    }
    return bytes;
}

/* What stratatrace's own work has left in the free lists of the main interpreter, for the program to
   use next: a program that keeps a dict for each row, and calls a measured function for each row,
   would have all its dicts from what our work let go, and none of them in its numbers.

   Without us the lists would hold as many objects less. So the program is charged for an object that
   it takes when no others are left, until it gives one back. With the GIL, as everything that touches
   the lists. */
static struct {
    int32_t then[KINDS]; /* What was idle when we last looked. */
    int32_t left[KINDS]; /* What of it our work has put there. */
    int32_t lent[KINDS]; /* What the program has of ours. */
} leftovers;

/* Our work begins: return what the program has used of what we left, less what it gave back. */
static Used
leftovers_used(void)
{
    Used used = {0, 0, 0};
    if (!free_lists_known()) {
        return used;
    }
    int32_t now[KINDS];
    read_free_lists(PyInterpreterState_Get(), now);
    for (int kind = 0; kind < KINDS; kind++) {
        int32_t taken = leftovers.left[kind] - now[kind];
        int32_t given = now[kind] - leftovers.then[kind];
        leftovers.then[kind] = now[kind];
        if (LIKELY(taken <= 0 && (given <= 0 || leftovers.lent[kind] == 0))) {
            continue;
        }
        if (taken <= 0) {
            taken = given < leftovers.lent[kind] ? -given : -leftovers.lent[kind];
        }
        leftovers.left[kind] -= taken;
        leftovers.lent[kind] += taken;
        int64_t bytes = (int64_t)taken * kind_bytes(kind);
        used.bytes += bytes;
        if (taken > 0) {
            used.allocated += bytes;
            used.allocations += taken;
        }
    }
    return used;
}

/* Our work ends: what is there more than before is ours. */
static void
leftovers_leave(void)
{
    if (!free_lists_known()) {
        return;
    }
    int32_t now[KINDS];
    read_free_lists(PyInterpreterState_Get(), now);
    for (int kind = 0; kind < KINDS; kind++) {
        int32_t left = leftovers.left[kind] + now[kind] - leftovers.then[kind];
        leftovers.left[kind] = left > 0 ? left : 0;
        leftovers.then[kind] = now[kind];
    }
}

/* Begin anew: all that is idle is the program's. */
static void
leftovers_forget(void)
{
    memset(&leftovers, 0, sizeof(leftovers));
}

#else /* A version of Python whose free lists nobody has looked at yet. */

static int
free_lists_known(void)
{
    return 0;
}

static int64_t
free_list_bytes(void)
{
    return 0;
}

static Used
leftovers_used(void)
{
    Used used = {0, 0, 0};
    return used;
}

static void
leftovers_leave(void)
{
}

static void
leftovers_forget(void)
{
}

#endif
#endif /* STRATATRACE_FREELISTS_H */
