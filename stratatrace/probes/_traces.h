/* Adding up the traces of tracemalloc by their stacks.

   In Python, each of a million traces costs the look-up of a stack by all of its frames, and whatever
   is made for it would be traced itself. */
#ifndef STRATATRACE_TRACES_H
#define STRATATRACE_TRACES_H

#include "_platform.h"

typedef struct {
    PyObject *stack; /* The list of traces has it: all traces of a stack have the same object. */
    int64_t bytes, blocks;
} TracedStack;

typedef struct {
    TracedStack *slots; /* Where a stack is found by its address, or in the next free slot. */
    size_t slot_count, used;
} TracedStacks;

static TracedStack *
traced_slot(const TracedStacks *all, PyObject *stack)
{
    size_t slot = (size_t)mixed((uint64_t)(uintptr_t)stack) & (all->slot_count - 1);
    while (all->slots[slot].stack != NULL && all->slots[slot].stack != stack) {
        slot = (slot + 1) & (all->slot_count - 1);
    }
    return &all->slots[slot];
}

/* Have room for one more; at most half of the slots are used. */
static bool
traced_make_room(TracedStacks *all)
{
    if (all->used * 2 < all->slot_count) {
        return true;
    }
    TracedStacks larger = {.slot_count = all->slot_count ? all->slot_count * 2 : 1024,
                           .used = all->used};
    larger.slots = calloc(larger.slot_count, sizeof *larger.slots);
    if (larger.slots == NULL) {
        return false;
    }
    for (size_t slot = 0; slot < all->slot_count; slot++) {
        if (all->slots[slot].stack != NULL) {
            *traced_slot(&larger, all->slots[slot].stack) = all->slots[slot];
        }
    }
    free(all->slots);
    *all = larger;
    return true;
}

static bool
traced_add(TracedStacks *all, PyObject *trace)
{
    if (!PyTuple_CheckExact(trace) || PyTuple_GET_SIZE(trace) < 3) {
        PyErr_SetString(PyExc_TypeError, "a trace is a tuple of a domain, a size and a stack");
        return false;
    }
    long long size = PyLong_AsLongLong(PyTuple_GET_ITEM(trace, 1));
    if (size == -1 && PyErr_Occurred()) {
        return false;
    }
    if (!traced_make_room(all)) {
        PyErr_NoMemory();
        return false;
    }
    TracedStack *slot = traced_slot(all, PyTuple_GET_ITEM(trace, 2));
    if (slot->stack == NULL) {
        slot->stack = PyTuple_GET_ITEM(trace, 2);
        all->used++;
    }
    slot->bytes += size;
    slot->blocks++;
    return true;
}

/* Equal stacks may be several objects: those that were cut off at different lengths. */
static PyObject *
traced_sums(const TracedStacks *all)
{
    PyObject *sums = PyDict_New();
    for (size_t slot = 0; sums != NULL && slot < all->slot_count; slot++) {
        TracedStack *each = &all->slots[slot];
        if (each->stack == NULL) {
            continue;
        }
        long long bytes = each->bytes, blocks = each->blocks;
        PyObject *sum = NULL, *before = PyDict_GetItemWithError(sums, each->stack);
        if (before != NULL) {
            bytes += PyLong_AsLongLong(PyTuple_GET_ITEM(before, 0));
            blocks += PyLong_AsLongLong(PyTuple_GET_ITEM(before, 1));
        }
        if (!PyErr_Occurred()) {
            sum = Py_BuildValue("LL", bytes, blocks);
        }
        if (sum == NULL || PyDict_SetItem(sums, each->stack, sum) < 0) {
            Py_CLEAR(sums);
        }
        Py_XDECREF(sum);
    }
    return sums;
}

static PyObject *
counters_sum_traces(PyObject *Py_UNUSED(module), PyObject *get_traces)
{
    /* Asked for here and not given: so the collector does not look at all of them before they are
       dropped again. */
    PyObject *traces = PyObject_CallNoArgs(get_traces);
    if (traces == NULL) {
        return NULL;
    }
    if (!PyList_CheckExact(traces)) {
        Py_DECREF(traces);
        PyErr_SetString(PyExc_TypeError, "the traces are a list");
        return NULL;
    }
    TracedStacks all = {0};
    PyObject *sums = NULL;
    bool added = true;
    for (Py_ssize_t i = 0; added && i < PyList_GET_SIZE(traces); i++) {
        added = traced_add(&all, PyList_GET_ITEM(traces, i));
    }
    if (added) {
        sums = traced_sums(&all);
    }
    free(all.slots);
    Py_DECREF(traces);
    return sums;
}

#endif
