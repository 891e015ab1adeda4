/* Accounts: whom the counters' numbers are charged to.

   The heap's has tabs for each line of execution (_lines.h); the resident memory is the process's, and so
   are its tabs.

   Our own work is charged to nobody: the counters are put back to where they stood when it began. */
#ifndef STRATATRACE_ACCOUNTS_H
#define STRATATRACE_ACCOUNTS_H

#include "structmember.h"

#include "_freelists.h"
#include "_lines.h"

/* --- The heap ------------------------------------------------------------------------------------ */

static int64_t threads; /* That have held an account. */

/* Our work begins; within other work of ours that is nothing new. */
static void
heap_hold(HeapAccount *account)
{
    if (account->own_depth++ > 0) {
        return;
    }
    if (UNLIKELY(account->thread == 0)) {
        account->thread = ++threads;
    }
    account->works++;
    Counters *mine = &counters;
    Used used = leftovers_used();
    mine->live += used.bytes;
    mine->allocated += used.allocated;
    mine->sample_at += used.allocated; /* Nobody could sample these. */
    mine->allocations += used.allocations;
    mine->peak = highest(mine->peak, mine->live);
    account->program = *mine;
}

/* Our work ends, be it within other work of ours. */
static void
heap_unhold(HeapAccount *account, int64_t dropped)
{
    if (account->own_depth > 0 && --account->own_depth == 0) {
        counters = account->program;
        /* What is dropped after this is not in the peak: it is taken off again at once. */
        counters.live += dropped;
        leftovers_leave();
    }
}

/* Whatever was interrupted: our work is within as many holds as it was. */
static void
heap_return_to(int32_t own_depth)
{
    HeapAccount *account = &heap_account;
    if (UNLIKELY(account->own_depth > own_depth)) {
        account->own_depth = own_depth + 1;
        heap_unhold(account, 0);
    }
    else if (UNLIKELY(account->own_depth < own_depth)) {
        heap_hold(account);
        account->own_depth = own_depth;
    }
}

/* Charge a tab from now on: our work ends here, by as many holds as *held*. */
static void
heap_charge(Tab *tab, int32_t held)
{
    HeapAccount *account = &heap_account;
    if (!held || account->own_depth == 0) {
        heap_hold(account);
        held = 1;
    }
    Counters *program = &account->program;
    Line *line = line_of(account);
    if (line != NULL) {
        line_drop_abandoned(line);
        line_fold(line, program->peak);
        program->peak = program->live;
        line_open_tab(line, tab, program);
    }
    tab->own_depth = account->own_depth - held;
    tab->works = account->works;
    int64_t counting = counting_again();
    tab->failed |=
        line == NULL || counting == 0 || (tab->counting != 0 && tab->counting != counting);
    tab->counting = counting;
    account->own_depth = 1;
    heap_unhold(account, 0);
}

/* Charge a tab no more; our work begins here. Return why its numbers mean nothing, or NULL. */
static const char *
heap_release(Tab *tab)
{
    HeapAccount *account = &heap_account;
    Line *line = tab->line;
    heap_hold(account);
    if (UNLIKELY(line->generation != generation)) {
        line_renew(line);
        tab->failed = 1;
        return "a call that began before a fork has ended in the child: only the parent measures it";
    }
    line_drop_abandoned(line);
    if (line == account->line) {
        line_fold(line, account->program.peak);
        account->program.peak = account->program.live;
        account->own_depth = tab->own_depth + 1;
        account->works = tab->own_depth > 0 ? tab->works : account->works;
    }
    else if (account->line != NULL) {
        line_settle(account->line, &account->program); /* It may work for the other one. */
    }
    /* The peak of what another thread runs can be looked at, and not set back. */
    tab->foreign = line != account->line && line->thread != NULL;
    if (tab->foreign) {
        line_fold(line, line_counters(line)->peak);
    }
    line_close_tab(line, tab, line_counters(line));
    heap_tab_closed();
    return !tab->failed ? NULL
                        : "somebody else has put the allocators back that were there before the native "
                          "heap probe, while a call was being measured (`tracemalloc.stop` does)";
}

/* A step of a call ends where it began: else return what is wrong, and make its numbers mean nothing. */
static const char *
heap_check_step(Tab *tab)
{
    if (!tab->foreign && !tab->ended) {
        return NULL;
    }
    tab->failed = 1;
    return "a step began in one thread and ended in another: whose heap is it?";
}

/* --- Resident memory ----------------------------------------------------------------------------- */

/* The kernel keeps a high-water mark of the resident set, which a write to /proc/self/clear_refs sets
   back: see proc(5). It is the process's, and so is the list; who changes it has the GIL. */
static Tab *resident_newest;
static int64_t resident_lifetime_peak;

/* Begin a stretch; return its level, or -1 with errno set. */
static int64_t
resident_look(int descriptor)
{
    int64_t peak = resident_high_water();
    resident_lifetime_peak = highest(resident_lifetime_peak, peak);
    (void)tabs_drop_abandoned(&resident_newest);
    tabs_fold(resident_newest, peak);
    return resident_reset(descriptor) ? resident_high_water() : -1;
}

static int
resident_charge(Tab *tab, int descriptor)
{
    int64_t level = resident_look(descriptor);
    tab->failed |= level < 0;
    if (level >= 0) {
        tabs_open(&resident_newest, tab, level);
    }
    return level >= 0;
}

static int
resident_release(Tab *tab, int descriptor)
{
    int64_t level = resident_look(descriptor);
    tab->failed |= level < 0;
    tabs_close(&resident_newest, tab, level < 0 ? tab->base : level);
    return level >= 0;
}

/* --- Ints of our own ----------------------------------------------------------------------------- */

/* Return a new int that is counted neither when it is made nor when it is dropped: nobody who reads
   the counters changes them by it. (An int goes to no free list.) */
static PyObject *
uncounted_int(int64_t value)
{
    Counters *mine = &counters;
    uint8_t outer = mine->inside;
    mine->inside = INSIDE;
    PyObject *number = PyLong_FromLongLong(value);
    mine->inside = outer;
    return number;
}

/* --- For Python ---------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Tab tab;
} TabObject;

/* Who drops it without `unhold` was interrupted by an exception: then the hold ends, too. */
typedef struct {
    PyObject_HEAD
    int64_t level;     /* Where the counters stood. */
    int64_t thread;    /* Whose hold it is; 0 when it has ended. */
    int64_t works;     /* Of which stretch of our work. */
    int32_t own_depth; /* How many other holds it is within. */
} HoldObject;

typedef struct {
    PyObject_HEAD
    int descriptor; /* Of /proc/self/clear_refs. */
} ResidentObject;

static PyTypeObject *tab_type, *hold_type, *heap_account_type, *resident_account_type;

static PyObject *
tab_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        ((TabObject *)self)->tab.owner = self; /* Borrowed: it is counted while the tab is open. */
    }
    return self;
}

/* Return the tab that is the first argument, or NULL with an exception set. */
static Tab *
tab_of(PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || !Py_IS_TYPE(args[0], tab_type)) {
        PyErr_SetString(PyExc_TypeError, "the first argument is a Tab");
        return NULL;
    }
    return &((TabObject *)args[0])->tab;
}

/* Return the newest hold, which has just begun; it has ended where there is no memory for it. */
static PyObject *
hold_new(void)
{
    HeapAccount *account = &heap_account;
    uint8_t outer = counters.inside;
    counters.inside = INSIDE; /* As an int of our own, see above. */
    HoldObject *hold = PyObject_New(HoldObject, hold_type);
    counters.inside = outer;
    if (hold == NULL) {
        heap_unhold(account, 0);
        return NULL;
    }
    hold->level = counters.live;
    hold->thread = account->thread;
    hold->works = account->works;
    hold->own_depth = account->own_depth - 1;
    return (PyObject *)hold;
}

/* Return to where our work was before that hold, and then within another one; end it only once. */
static int
hold_take(HoldObject *hold)
{
    HeapAccount *account = &heap_account;
    int lasts = hold->thread == account->thread && account->own_depth > hold->own_depth;
    hold->thread = 0;
    if (lasts) {
        account->own_depth = hold->own_depth + 1;
    }
    return lasts;
}

static void
hold_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    HoldObject *hold = (HoldObject *)self;
    if (hold->works == heap_account.works && hold_take(hold)) {
        heap_unhold(&heap_account, 0);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *
heap_account_charge(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    Tab *tab = tab_of(args, count);
    if (tab == NULL) {
        return NULL;
    }
    if (!tab->open && !tab->listed) {
        heap_charge(tab, count > 1 && Py_IS_TYPE(args[1], hold_type)
                             && hold_take((HoldObject *)args[1]));
    }
    Py_RETURN_NONE;
}

static PyObject *
heap_account_release(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    Tab *tab = tab_of(args, count);
    if (tab == NULL) {
        return NULL;
    }
    int open = tab->open;
    const char *failure = open ? heap_release(tab) : NULL;
    const char *misplaced = tab->failed && !open ? NULL : heap_check_step(tab);
    failure = misplaced != NULL ? misplaced : failure;
    if (failure == NULL && !open) {
        Py_RETURN_NONE;
    }
    if (failure != NULL) {
        if (open) {
            heap_unhold(&heap_account, 0);
        }
        PyErr_SetString(PyExc_RuntimeError, failure);
        return NULL;
    }
    return hold_new();
}

static PyObject *
heap_account_hold(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    heap_hold(&heap_account);
    return hold_new();
}

static PyObject *
heap_account_unhold(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || !Py_IS_TYPE(args[0], hold_type)) {
        PyErr_SetString(PyExc_TypeError, "the first argument is what `hold` or `release` returned");
        return NULL;
    }
    int64_t dropped = count > 1 ? PyLong_AsLongLong(args[1]) : 0;
    if (PyErr_Occurred()) {
        return NULL;
    }
    HoldObject *hold = (HoldObject *)args[0];
    int64_t taken = counters.live - hold->level;
    if (hold_take(hold)) {
        heap_unhold(&heap_account, dropped);
    }
    return uncounted_int(taken);
}

static PyObject *
heap_account_line(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    Line *client = line_of(&heap_account);
    return client == NULL ? PyErr_NoMemory() : (PyObject *)line_new(client);
}

/* Return the line that is the first argument, or NULL with an exception set. */
static Line *
line_argument(PyObject *const *args, Py_ssize_t count, Py_ssize_t least)
{
    if (count < least || !Py_IS_TYPE(args[0], line_type)) {
        PyErr_SetString(PyExc_TypeError, "the first argument is a Line, and the second what to run");
        return NULL;
    }
    return (Line *)args[0];
}

static void
line_leave_after(int entered)
{
    if (entered) {
        heap_return_to(0); /* Whatever was interrupted. */
        line_leave();
    }
}

static PyObject *
heap_account_run(
    PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Line *line = line_argument(args, count, 2);
    if (line == NULL) {
        return NULL;
    }
    int entered = line_enter(line);
    PyObject *result = PyObject_Vectorcall(args[1], args + 2, (size_t)count - 2, names);
    line_leave_after(entered);
    return result;
}

static PyObject *
heap_account_send(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    Line *line = line_argument(args, count, 3);
    if (line == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    int entered = line_enter(line);
    PySendResult outcome = PyIter_Send(args[1], args[2], &result);
    line_leave_after(entered);
    if (outcome != PYGEN_RETURN) {
        return result;
    }
    /* As an instance, since a result may be a tuple or an exception. */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyObject *
heap_account_collected(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int64_t time = count == 2 ? PyLong_AsLongLong(args[0]) : -1;
    int64_t reclaimed = count == 2 ? PyLong_AsLongLong(args[1]) : -1;
    if (PyErr_Occurred() || count != 2) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "collected() takes two ints");
    }
    Line *line = line_of(&heap_account);
    if (line != NULL) {
        line->collected.time += time;
        line->collected.collections++;
        line->collected.reclaimed += reclaimed;
    }
    Py_RETURN_NONE;
}

static PyObject *
heap_account_followed(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyBool_FromLong(heap_account.line != NULL && !heap_account.line->of_thread);
}

static PyObject *
heap_account_charging(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Line *line = heap_account.line;
    if (line == NULL) {
        Py_RETURN_FALSE;
    }
    line_drop_abandoned(line);
    return PyBool_FromLong(line->newest != NULL || line->client != NULL);
}

static PyObject *
resident_account_charge(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Tab *tab = tab_of(args, count);
    if (tab == NULL) {
        return NULL;
    }
    if (!tab->open && !tab->listed
        && !resident_charge(tab, ((ResidentObject *)self)->descriptor)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
resident_account_release(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Tab *tab = tab_of(args, count);
    if (tab == NULL) {
        return NULL;
    }
    if (tab->open && !resident_release(tab, ((ResidentObject *)self)->descriptor)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
resident_account_charging(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    (void)tabs_drop_abandoned(&resident_newest);
    return PyBool_FromLong(resident_newest != NULL);
}

static PyObject *
resident_account_lifetime_peak(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(highest(resident_lifetime_peak, resident_high_water()));
}

static PyMemberDef tab_members[] = {
    {"base_bytes", T_LONGLONG, offsetof(TabObject, tab.base), READONLY, NULL},
    {"net_bytes", T_LONGLONG, offsetof(TabObject, tab.net), READONLY, NULL},
    {"peak_bytes", T_LONGLONG, offsetof(TabObject, tab.peak), READONLY, NULL},
    {"allocated_bytes", T_LONGLONG, offsetof(TabObject, tab.allocated), READONLY, NULL},
    {"allocations", T_LONGLONG, offsetof(TabObject, tab.allocations), READONLY, NULL},
    {"open", T_BOOL, offsetof(TabObject, tab.open), READONLY, NULL},
    {"charged", T_BOOL, offsetof(TabObject, tab.charged), READONLY, NULL},
    {"failed", T_BOOL, offsetof(TabObject, tab.failed), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef heap_account_methods[] = {
    {"charge", FAST(heap_account_charge), METH_FASTCALL,
     PyDoc_STR("Charge a tab from now on; with a second argument, our work ends here.")},
    {"release", FAST(heap_account_release), METH_FASTCALL,
     PyDoc_STR("Charge a tab no more; our work begins here. Return the level, for `unhold`.")},
    {"hold", heap_account_hold, METH_NOARGS,
     PyDoc_STR("Charge nobody until `unhold`; return the level.")},
    {"unhold", FAST(heap_account_unhold), METH_FASTCALL,
     PyDoc_STR("Go on charging; return the bytes that were taken since that level.")},
    {"line", heap_account_line, METH_NOARGS,
     PyDoc_STR("Return a new line of execution, on behalf of the one that runs.")},
    {"run", FAST(heap_account_run), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("Call something as a part of a line.")},
    {"send", FAST(heap_account_send), METH_FASTCALL,
     PyDoc_STR("Run the next step of a coroutine as a part of a line.")},
    {"collected", FAST(heap_account_collected), METH_FASTCALL,
     PyDoc_STR("The collector has run, for so many ns, and freed so many bytes.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef resident_account_methods[] = {
    {"charge", FAST(resident_account_charge), METH_FASTCALL,
     PyDoc_STR("Charge a tab from now on.")},
    {"release", FAST(resident_account_release), METH_FASTCALL,
     PyDoc_STR("Charge a tab no more.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef heap_account_properties[] = {
    {"charging", heap_account_charging, NULL, PyDoc_STR("Whether a tab is open."), NULL},
    {"followed", heap_account_followed, NULL,
     PyDoc_STR("Whether a line runs that is not the thread's own."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef resident_account_properties[] = {
    {"charging", resident_account_charging, NULL, PyDoc_STR("Whether a tab is open."), NULL},
    {"lifetime_peak_bytes", resident_account_lifetime_peak, NULL,
     PyDoc_STR("The highest resident memory of the process's life."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef resident_account_members[] = {
    {"descriptor", T_INT, offsetof(ResidentObject, descriptor), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tab_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("What one call has run up on one account.")},
    {Py_tp_new, tab_new},
    {Py_tp_members, tab_members},
    {0, NULL},
};

static PyType_Slot line_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A line of execution, with counters and tabs of its own.")},
    {Py_tp_dealloc, line_dealloc},
    {0, NULL},
};

static PyType_Slot hold_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A stretch of our own work, which is charged to nobody.")},
    {Py_tp_dealloc, hold_dealloc},
    {0, NULL},
};

static PyType_Slot heap_account_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The ledger of the calling thread's heap.")},
    {Py_tp_methods, heap_account_methods},
    {Py_tp_getset, heap_account_properties},
    {0, NULL},
};

static PyType_Slot resident_account_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The ledger of the process's resident memory.")},
    {Py_tp_methods, resident_account_methods},
    {Py_tp_getset, resident_account_properties},
    {Py_tp_members, resident_account_members},
    {0, NULL},
};

static PyType_Spec tab_spec = {
    "stratatrace.probes._counters.Tab", sizeof(TabObject), 0, Py_TPFLAGS_DEFAULT, tab_slots};
static PyType_Spec line_spec = {
    "stratatrace.probes._counters.Line", sizeof(Line), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, line_slots};
static PyType_Spec hold_spec = {
    "stratatrace.probes._counters.Hold", sizeof(HoldObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, hold_slots};
static PyType_Spec heap_account_spec = {
    "stratatrace.probes._counters.HeapAccount", sizeof(PyObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, heap_account_slots};
static PyType_Spec resident_account_spec = {
    "stratatrace.probes._counters.ResidentAccount", sizeof(ResidentObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, resident_account_slots};

#endif /* STRATATRACE_ACCOUNTS_H */
