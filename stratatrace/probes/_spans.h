/* Spans: calls whose numbers are written to somebody else's object, from its start to its end.

   Such a call is in no sums. What it has is put into the dictionary of a span's attributes, without an
   object that is not kept there: dictionaries that are made on the way take longer than to measure. */
#ifndef STRATATRACE_SPANS_H
#define STRATATRACE_SPANS_H

#include "_tallies.h"

/* Where a span has its call. */
static PyObject *name_stay, *name_class;

/* What attributes say. */
static PyObject *text_exact, *text_process, *text_native, *text_hwm;

/* What is put on a span, the most important first: where it has no room for all, the last are left out. */
enum {
    HEAP_PEAK, HEAP_NET, ATTRIBUTION, PROBE, HEAP_ALLOCATED, HEAP_ALLOCATIONS,
    RSS_PEAK, RSS_NET, RSS_BEFORE, RSS_PEAK_METHOD,
    GC_TIME, GC_COLLECTIONS, GC_RECLAIMED,
    SPAN_NUMBERS
};

/* Begin to measure a span, which becomes one of a class that ends it. What the span grows by is the
   program's: it is freed with it. */
static PyObject *
counters_begin_span(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !Py_IS_TYPE(args[0], tally_type)) {
        PyErr_SetString(PyExc_TypeError, "begin_span() takes a Tally, a span, a class and a bool");
        return NULL;
    }
    TalliedCall *call = call_new((Tally *)args[0]);
    if (call == NULL) {
        return NULL;
    }
    call->takes_turns = args[3] == Py_True;
    if (PyObject_SetAttr(args[1], name_stay, (PyObject *)call) < 0
        || PyObject_SetAttr(args[1], name_class, args[2]) < 0)
    {
        Py_DECREF(call);
        return NULL;
    }
    call_resume(call);
    Py_DECREF(call);
    Py_RETURN_NONE;
}

/* Where numbers are put. */
typedef struct {
    PyObject *attributes;
    PyObject *names; /* A tuple, with None for what is not wanted. */
    int64_t room;
    int64_t left_out;
} Writer;

/* Put a new reference there. Return whether that worked. */
static int
put(Writer *writer, int which, PyObject *value)
{
    PyObject *name = PyTuple_GET_ITEM(writer->names, which);
    int result = 0;
    if (value == NULL) {
        return 0;
    }
    if (name != Py_None && writer->room-- <= 0) {
        writer->left_out++;
    }
    else if (name != Py_None) {
        result = PyDict_CheckExact(writer->attributes)
                     ? PyDict_SetItem(writer->attributes, name, value)
                     : PyObject_SetItem(writer->attributes, name, value);
    }
    Py_DECREF(value);
    return result == 0;
}

static int
put_numbers(Writer *writer, const TalliedCall *call)
{
    const Tab *heap = &call->heap, *resident = &call->resident;
    if (heap->charged && !heap->failed
        && !(put(writer, HEAP_PEAK, uncounted_int(heap->peak))
             && put(writer, HEAP_NET, uncounted_int(heap->net))
             && put(writer, ATTRIBUTION,
                    Py_NewRef(heap->foreign || call->takes_turns ? text_process : text_exact))
             && put(writer, PROBE, Py_NewRef(text_native))
             && put(writer, HEAP_ALLOCATED, uncounted_int(heap->allocated))
             && put(writer, HEAP_ALLOCATIONS, uncounted_int(heap->allocations))))
    {
        return 0;
    }
    if (resident->charged && !resident->failed
        && !(put(writer, RSS_PEAK, uncounted_int(call->resident_before + resident->peak))
             && put(writer, RSS_NET, uncounted_int(resident->net))
             && put(writer, RSS_BEFORE, uncounted_int(call->resident_before))
             && put(writer, RSS_PEAK_METHOD, Py_NewRef(text_hwm))))
    {
        return 0;
    }
    return !heap->charged || heap->failed
           || (put(writer, GC_TIME, PyFloat_FromDouble((double)heap->gc_time / 1e9))
               && put(writer, GC_COLLECTIONS, uncounted_int(heap->collections))
               && put(writer, GC_RECLAIMED, uncounted_int(heap->reclaimed)));
}

/* End the call of a span, and put its numbers there where it took long enough. Return None where all is as
   it should be; else whether another thread has ended it, whether its line had ended before, and how many
   numbers had no room. */
static PyObject *
counters_end_span(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !Py_IS_TYPE(args[0], tallied_call_type) || !PyTuple_Check(args[2])
        || PyTuple_GET_SIZE(args[2]) != SPAN_NUMBERS)
    {
        PyErr_SetString(
            PyExc_TypeError, "end_span() takes a TalliedCall, a mapping, names, room and a time");
        return NULL;
    }
    TalliedCall *call = (TalliedCall *)args[0];
    Writer writer = {args[1], args[2], PyLong_AsLongLong(args[3]), 0};
    int64_t least = PyLong_AsLongLong(args[4]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    /* It has ended already, or is told of by a fork's parent, or by nobody. */
    if (call->finished || call->generation != generation || is_finalizing()) {
        Py_RETURN_NONE;
    }
    int64_t duration = monotonic_ns() - call->opened;
    Tab *heap = &call->heap, *resident = &call->resident;
    if (heap->open) {
        (void)heap_release(heap);
    }
    else { /* Its line has ended, and it with that. */
        heap_hold(&heap_account);
    }
    if (resident->open) {
        resident_release(resident, ((ResidentObject *)call->tally->resident)->descriptor);
    }
    call_end(call);
    int written = duration < least || put_numbers(&writer, call);
    heap_unhold(&heap_account, 0);
    if (!written) {
        return NULL;
    }
    if (LIKELY(!heap->foreign && !heap->ended && writer.left_out == 0)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue(
        "(NNL)", PyBool_FromLong(heap->foreign), PyBool_FromLong(heap->ended),
        (long long)writer.left_out);
}

#endif /* STRATATRACE_SPANS_H */
