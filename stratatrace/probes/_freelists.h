/* What CPython keeps in its free lists: the one part that looks into the interpreter.

   An object that is dropped into a free list is not freed, and one that is taken from there is not
   allocated. The allocator's counters see neither. Whoever knows how many bytes sit in the free
   lists can tell what the program really has: what was allocated, less what was freed, less these.

   The lists are fields of the interpreter's state. They differ between versions of Python, and a
   test at the first use tells whether they are where this was compiled to look for them. */
#ifndef STRATATRACE_FREELISTS_H
#define STRATATRACE_FREELISTS_H

#if FREE_LISTS_KNOWN

#  include <stddef.h>

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

static Py_ssize_t
free_lists_sum(PyInterpreterState *interpreter)
{
    /* A tuple of each length from 1 has a list of its own. */
    const int *tuples = FREE_COUNT(interpreter, FREE_TUPLES);
    Py_ssize_t count = 0, items = 0;
    for (int i = 0; i < PyTuple_NFREELISTS; i++) {
        count += tuples[i];
        items += (Py_ssize_t)tuples[i] * (i + 1);
    }
    Py_ssize_t bytes = count * (GC_HEADER + (Py_ssize_t)offsetof(PyTupleObject, ob_item))
                       + items * (Py_ssize_t)sizeof(PyObject *);
    bytes += FREE_COUNT(interpreter, FREE_FLOATS) * (Py_ssize_t)sizeof(PyFloatObject);
    bytes += FREE_COUNT(interpreter, FREE_LIST_OBJECTS)
             * (GC_HEADER + (Py_ssize_t)sizeof(PyListObject));
    bytes += FREE_COUNT(interpreter, FREE_DICTS) * (GC_HEADER + (Py_ssize_t)sizeof(PyDictObject));
    bytes += FREE_COUNT(interpreter, FREE_KEYS) * SMALLEST_KEYS;
    bytes += FREE_COUNT(interpreter, FREE_CONTEXTS) * (GC_HEADER + (Py_ssize_t)sizeof(PyContext));
    bytes += FREE_COUNT(interpreter, FREE_VALUES) * (GC_HEADER + WRAPPED_VALUE);
    bytes += FREE_COUNT(interpreter, FREE_ASENDS) * (GC_HEADER + ASEND);
    if (FREE_COUNT(interpreter, FREE_SLICE) != NULL) {
        bytes += GC_HEADER + (Py_ssize_t)sizeof(PySliceObject);
    }
    return bytes;
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

/* Return the bytes in the free lists of this interpreter, or -1 where they cannot be known. */
static Py_ssize_t
free_lists_bytes(void)
{
    static int known = -1; /* -1 until it was tested. */
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    if (known < 0) {
        known = free_lists_as_expected(interpreter);
    }
    return known ? free_lists_sum(interpreter) : -1;
}

#else /* A version of Python whose free lists nobody has looked at yet. */

static Py_ssize_t
free_lists_bytes(void)
{
    return -1;
}

#endif
#endif /* STRATATRACE_FREELISTS_H */
