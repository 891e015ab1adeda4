/* Tallies: the calls of one function, added up without a word to Python.

   A call that has no span, and whose numbers nobody asks for one by one, needs no more than a place in
   the sums of its callsite. It is opened, charged, closed and added up here. The latest few are kept as
   they were, for those who judge calls one by one. */
#ifndef STRATATRACE_TALLIES_H
#define STRATATRACE_TALLIES_H

#include "_thinning.h"

static PyTypeObject *tally_type, *tallied_call_type;

/* Made once: Python keeps the name that a method was looked up by, and drops it at any later time. */
static PyObject *name_tally_of, *name_missed;

#define LATEST 16

typedef struct {
    int64_t duration;
    int64_t net, peak, allocated, allocations;
    int64_t resident_before, resident_net, resident_peak;
    char heap, resident; /* Whether each could be read. */
} Record;

typedef struct {
    int64_t calls, heap_calls, resident_calls;
    int64_t heap_peak, resident_peak;
    /* Of all calls, those included that the measured ones stand for: whole where each is measured. */
    double time, exceeded, net, allocated;
} Sums;

typedef struct {
    PyObject_HEAD
    PyObject *keeper;   /* Has `tally_of(error)`, which gives a Tally, and `missed(doing)`. */
    PyObject *resident; /* A ResidentAccount, or NULL where it is not measured. */
    Thinning *thinning; /* Of the calls that are not measured; NULL where all are. */
    char heap;          /* Whether the heap is measured. */
    int64_t budget;     /* The heap peak that a call may reach, or -1. */
    int64_t in_flight;  /* Calls that were begun and have not ended. */
    Sums sums;          /* Since they were last taken. */
    Record latest[LATEST];
} Tally;

typedef struct {
    PyObject_HEAD
    Tally *tally;
    Tab heap, resident;
    int64_t opened; /* ns; where our own work is timed, when the first step's had ended. */
    int64_t generation;
    int64_t resident_before;
    double weight; /* How many calls this one stands for. */
    char running, stepped, finished;
    char takes_turns; /* Whether other tasks may be in the heap of a span's. */
} TalliedCall;

/* Our work begins; return when, where somebody wants to know how long it takes. */
ALWAYS_INLINE int64_t
own_began(const Tally *tally)
{
    return tally->thinning == NULL ? 0 : monotonic_ns();
}

/* It has ended; return when. */
ALWAYS_INLINE int64_t
own_ended(const Tally *tally, int64_t began)
{
    if (tally->thinning == NULL || began == 0) {
        return 0;
    }
    int64_t now = monotonic_ns();
    tally->thinning->own += now - began;
    return now;
}

/* --- One call ------------------------------------------------------------------------------------ */

/* Return a call that is suspended. It is not counted, neither now nor when it is dropped. */
static TalliedCall *
call_new(Tally *tally)
{
    uint8_t outer = counters.inside;
    counters.inside = INSIDE;
    TalliedCall *call = PyObject_New(TalliedCall, tallied_call_type);
    counters.inside = outer;
    if (call == NULL) {
        return NULL;
    }
    memset((char *)call + sizeof(PyObject), 0, sizeof(TalliedCall) - sizeof(PyObject));
    Py_INCREF(tally);
    call->tally = tally;
    call->heap.owner = call->resident.owner = (PyObject *)call;
    call->heap.twin = &call->resident;
    call->resident.twin = &call->heap;
    call->generation = generation;
    call->weight = tally->thinning == NULL ? 1 : tally->thinning->weight;
    tally->in_flight++;
    call->opened = monotonic_ns();
    return call;
}

/* The call will not be heard of again. */
static void
call_end(TalliedCall *call)
{
    if (call->finished) {
        return;
    }
    call->finished = 1;
    call->tally->in_flight--;
}

static void
call_dealloc(TalliedCall *call)
{
    PyTypeObject *type = Py_TYPE(call);
    call_end(call);
    Py_DECREF(call->tally);
    PyObject_Free(call);
    Py_DECREF(type);
}

static void
call_resume(TalliedCall *call)
{
    Tally *tally = call->tally;
    if (call->generation != generation || call->finished || call->running) {
        return;
    }
    call->running = call->stepped = 1;
    if (tally->resident != NULL && !call->resident.failed) {
        resident_charge(&call->resident, ((ResidentObject *)tally->resident)->descriptor);
        if (call->resident_before == 0) {
            call->resident_before = call->resident.base;
        }
    }
    if (tally->heap && !call->heap.failed) {
        heap_charge(&call->heap, 0);
    }
}

/* End the step; our work begins here. Return whether it is to be ended by `heap_unhold`. */
static int
call_pause(TalliedCall *call)
{
    int holding = 0;
    if (!call->running || call->generation != generation) {
        return 0;
    }
    call->running = 0;
    if (call->heap.open) {
        (void)heap_release(&call->heap);
        holding = 1;
    }
    (void)heap_check_step(&call->heap);
    if (call->resident.open) {
        resident_release(
            &call->resident, ((ResidentObject *)call->tally->resident)->descriptor);
    }
    return holding;
}

static void
sums_add(Sums *sums, const Sums *more)
{
    if (more->heap_calls) {
        sums->heap_peak = sums->heap_calls ? highest(sums->heap_peak, more->heap_peak)
                                           : more->heap_peak;
    }
    sums->resident_peak = highest(sums->resident_peak, more->resident_peak);
    sums->calls += more->calls;
    sums->time += more->time;
    sums->exceeded += more->exceeded;
    sums->heap_calls += more->heap_calls;
    sums->resident_calls += more->resident_calls;
    sums->net += more->net;
    sums->allocated += more->allocated;
}

static void
tally_add(Tally *tally, const TalliedCall *call, int64_t ended)
{
    Record *record = &tally->latest[tally->sums.calls % LATEST];
    const Tab *heap = &call->heap, *resident = &call->resident;
    memset(record, 0, sizeof(*record));
    record->duration = ended - call->opened;
    const double weight = call->weight;
    Sums one = {.calls = 1, .time = weight * (double)record->duration};
    if (heap->charged && !heap->failed) {
        record->heap = 1;
        record->net = heap->net;
        record->peak = heap->peak;
        record->allocated = heap->allocated;
        record->allocations = heap->allocations;
        one.heap_calls = 1;
        one.heap_peak = heap->peak;
        one.net = weight * (double)heap->net;
        one.allocated = weight * (double)heap->allocated;
        one.exceeded = tally->budget >= 0 && heap->peak > tally->budget ? weight : 0;
    }
    if (resident->charged && !resident->failed) {
        record->resident = 1;
        record->resident_before = call->resident_before;
        record->resident_net = resident->net;
        record->resident_peak = call->resident_before + resident->peak;
        one.resident_peak = record->resident_peak;
        one.resident_calls = 1;
    }
    sums_add(&tally->sums, &one);
}

static int
call_missed(TalliedCall *call, const char *doing)
{
    PyObject *text = PyUnicode_FromString(doing), *answer = NULL;
    if (text != NULL) {
        answer = PyObject_CallMethodOneArg(call->tally->keeper, name_missed, text);
        Py_DECREF(text);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* Add a call to its sums, by the error that it ended with. Return -1 with an exception set where the
   keeper raises, which it does only where tests want to see it. */
static int
call_settle(TalliedCall *call, PyObject *error, int64_t ended)
{
    PyObject *target = Py_NewRef(call->tally);
    if (error != Py_None) {
        Py_SETREF(target, PyObject_CallMethodOneArg(call->tally->keeper, name_tally_of, error));
        if (target != NULL && !Py_IS_TYPE(target, tally_type)) {
            PyErr_SetString(PyExc_TypeError, "tally_of() returns a Tally");
            Py_CLEAR(target);
        }
        if (target == NULL) {
            return -1;
        }
    }
    tally_add((Tally *)target, call, ended != 0 ? ended : monotonic_ns());
    Py_DECREF(target);
    if (call->heap.failed && call_missed(call, "read the heap") < 0) {
        return -1;
    }
    return call->resident.failed ? call_missed(call, "read the resident memory") : 0;
}

static PyObject *
call_finish(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    TalliedCall *call = (TalliedCall *)self;
    if (call->finished) {
        Py_RETURN_NONE;
    }
    int64_t began = own_began(call->tally);
    if (!call_pause(call)) {
        heap_hold(&heap_account);
    }
    int settled = 0;
    /* Else a fork's parent will tell of it, or nobody. */
    if (call->generation == generation && !is_finalizing()) {
        settled = call_settle(call, count > 0 ? args[0] : Py_None, began);
    }
    int failed = settled < 0 && !had_no_room();
    call_end(call);
    heap_unhold(&heap_account, 0);
    (void)own_ended(call->tally, began);
    return failed ? NULL : Py_NewRef(Py_None);
}

/* Return the int, or None where nothing was read. */
static PyObject *
int_where(int64_t readings, int64_t value)
{
    return readings ? uncounted_int(value) : Py_NewRef(Py_None);
}

static PyObject *
call_resume_method(PyObject *self, PyObject *Py_UNUSED(none))
{
    TalliedCall *call = (TalliedCall *)self;
    int64_t began = own_began(call->tally);
    const int first = !call->stepped;
    call_resume(call);
    began = own_ended(call->tally, began);
    call->opened = first && began != 0 ? began : call->opened;
    Py_RETURN_NONE;
}

static PyObject *
call_suspend_method(PyObject *self, PyObject *Py_UNUSED(none))
{
    TalliedCall *call = (TalliedCall *)self;
    int64_t began = own_began(call->tally);
    if (call_pause(call)) {
        heap_unhold(&heap_account, 0);
    }
    (void)own_ended(call->tally, began);
    Py_RETURN_NONE;
}

/* --- The sums of many calls ---------------------------------------------------------------------- */

static PyObject *
tally_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"keeper", "heap", "resident", "budget_bytes", NULL};
    PyObject *keeper, *resident, *budget;
    int heap;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O$pOO:Tally", names, &keeper, &heap, &resident, &budget))
    {
        return NULL;
    }
    if (resident != Py_None && !PyObject_TypeCheck(resident, resident_account_type)) {
        PyErr_SetString(PyExc_TypeError, "resident is a ResidentAccount or None");
        return NULL;
    }
    int beyond = 0; /* A budget that no heap can exceed is none. */
    int64_t most = budget == Py_None ? -1 : PyLong_AsLongLongAndOverflow(budget, &beyond);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Tally *self = (Tally *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->keeper = Py_NewRef(keeper);
        self->resident = resident == Py_None ? NULL : Py_NewRef(resident);
        self->heap = (char)heap;
        self->budget = most;
    }
    return (PyObject *)self;
}

static int
tally_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Tally *)self)->keeper);
    Py_VISIT(((Tally *)self)->resident);
    Py_VISIT(((Tally *)self)->thinning);
    return 0;
}

static int
tally_clear(PyObject *self)
{
    /* Not set to NULL: a call in flight may still ask. */
    Tally *tally = (Tally *)self;
    PyObject *keeper = tally->keeper;
    tally->keeper = Py_NewRef(Py_None);
    Py_XDECREF(keeper);
    return 0;
}

static void
tally_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((Tally *)self)->keeper);
    Py_XDECREF(((Tally *)self)->resident);
    Py_XDECREF(((Tally *)self)->thinning);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
tally_prepare(PyObject *self, PyObject *Py_UNUSED(none))
{
    return (PyObject *)call_new((Tally *)self);
}

static PyObject *
tally_begin(PyObject *self, PyObject *Py_UNUSED(none))
{
    TalliedCall *call = call_new((Tally *)self);
    if (call != NULL) {
        call_resume(call);
    }
    return (PyObject *)call;
}

/* Take what is whole out of a sum, and leave the rest to the next time. */
static long long
take_whole(double *sum)
{
    long long whole = (long long)(*sum + (*sum < 0 ? -0.5 : 0.5));
    *sum -= (double)whole;
    return whole;
}

static PyObject *
record_tuple(const Record *record)
{
    return Py_BuildValue(
        "(LNNNNNNN)", (long long)record->duration, int_where(record->heap, record->net),
        int_where(record->heap, record->peak), int_where(record->heap, record->allocated),
        int_where(record->heap, record->allocations),
        int_where(record->resident, record->resident_before),
        int_where(record->resident, record->resident_net),
        int_where(record->resident, record->resident_peak));
}

static PyObject *
latest_records(const Record latest[LATEST], int64_t calls)
{
    PyObject *records = PyList_New(0);
    for (int64_t i = calls < LATEST ? 0 : calls - LATEST; records != NULL && i < calls; i++) {
        PyObject *record = record_tuple(&latest[i % LATEST]);
        if (record == NULL || PyList_Append(records, record) < 0) {
            Py_CLEAR(records);
        }
        Py_XDECREF(record);
    }
    return records;
}

static PyObject *
tally_take(PyObject *self, PyObject *Py_UNUSED(none))
{
    /* Copies: to make the objects below may run a finalizer, and that a call that is added up. */
    Tally *tally = (Tally *)self;
    const Sums sums = tally->sums;
    Record latest[LATEST];
    if (sums.calls == 0) {
        Py_RETURN_NONE;
    }
    memcpy(latest, tally->latest, sizeof(latest));
    Sums rest = {.time = sums.time, .exceeded = sums.exceeded, .net = sums.net,
                 .allocated = sums.allocated};
    long long time = take_whole(&rest.time), exceeded = take_whole(&rest.exceeded);
    long long net = take_whole(&rest.net), allocated = take_whole(&rest.allocated);
    tally->sums = rest;
    PyObject *records = latest_records(latest, sums.calls), *taken = NULL;
    if (records != NULL) {
        taken = Py_BuildValue(
            "(LLLNNNNN)", (long long)sums.calls, time, exceeded, int_where(sums.heap_calls, net),
            int_where(sums.heap_calls, allocated), int_where(sums.heap_calls, sums.heap_peak),
            int_where(sums.resident_calls, sums.resident_peak), records);
    }
    if (taken == NULL) { /* There is no memory: they are told next time. */
        Sums again = sums;
        again.time = (double)time;
        again.exceeded = (double)exceeded;
        again.net = (double)net;
        again.allocated = (double)allocated;
        sums_add(&tally->sums, &again);
    }
    return taken;
}

/* --- For Python ---------------------------------------------------------------------------------- */

static PyMethodDef call_methods[] = {
    {"resume", call_resume_method, METH_NOARGS, PyDoc_STR("A step begins.")},
    {"suspend", call_suspend_method, METH_NOARGS, PyDoc_STR("The step has ended.")},
    {"finish", FAST(call_finish), METH_FASTCALL, PyDoc_STR("The call has ended: add it up.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef tally_methods[] = {
    {"begin", tally_begin, METH_NOARGS, PyDoc_STR("Return a call that is charged from now on.")},
    {"prepare", tally_prepare, METH_NOARGS, PyDoc_STR("Return a call that is suspended.")},
    {"take", tally_take, METH_NOARGS,
     PyDoc_STR("Return the sums since this was last called, and the latest calls; None if none.")},
    {NULL, NULL, 0, NULL},
};

static PyObject *
tally_get_thinning(PyObject *self, void *Py_UNUSED(closure))
{
    const Thinning *thinning = ((Tally *)self)->thinning;
    return Py_NewRef(thinning == NULL ? Py_None : (PyObject *)thinning);
}

static int
tally_set_thinning(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !Py_IS_TYPE(value, thinning_type)) {
        PyErr_SetString(PyExc_TypeError, "thinning is a Thinning");
        return -1;
    }
    Py_XSETREF(((Tally *)self)->thinning, (Thinning *)Py_NewRef(value));
    return 0;
}

static PyGetSetDef tally_getset[] = {
    {"thinning", tally_get_thinning, tally_set_thinning, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef tally_members[] = {
    {"in_flight", T_LONGLONG, offsetof(Tally, in_flight), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A call that will be added up.")},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {0, NULL},
};

static PyType_Slot tally_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The sums of the calls of one callsite.")},
    {Py_tp_new, tally_new},
    {Py_tp_dealloc, tally_dealloc},
    {Py_tp_traverse, tally_traverse},
    {Py_tp_clear, tally_clear},
    {Py_tp_methods, tally_methods},
    {Py_tp_members, tally_members},
    {Py_tp_getset, tally_getset},
    {0, NULL},
};

static PyType_Spec call_spec = {
    "stratatrace.probes._counters.TalliedCall", sizeof(TalliedCall), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, call_slots};
static PyType_Spec tally_spec = {
    "stratatrace.probes._counters.Tally", sizeof(Tally), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, tally_slots};

#endif /* STRATATRACE_TALLIES_H */
