/* The call of a measured function, and the step of a measured generator: between its caller and what is
   called stands nothing but this.

   A `__call__` that is written in Python is given its arguments in a tuple and a dictionary, which are
   made for us and would stand in the numbers of whoever calls. Here they are passed on as they came.
   And an exception that is thrown into a thread, as a KeyboardInterrupt is, never comes between the
   beginning of a step and its end: the interpreter raises it in code that is written in Python. */
#ifndef STRATATRACE_MEASURED_H
#define STRATATRACE_MEASURED_H

#include "_tallies.h"

/* What an instance has beside what its base has. */
typedef struct {
    vectorcallfunc vectorcall;
    PyObject *target;   /* What is called. */
    PyObject *callsite; /* What `begin` is told. */
    PyObject *begin;    /* NULL, or what begins its calls instead: it is told their arguments. */
    PyObject *thinning; /* Of the calls that are not measured: the latest that `begin` knew of, or NULL. */
} Measured;

static PyObject *gate_switch; /* Its attribute `enabled` tells whether to measure at all. */
static PyObject *gate_begin;  /* Takes a callsite; returns its Tally, a call that has begun, or its Thinning. */
static PyObject *name_enabled, *name_finish, *name_resume, *name_returned, *name_suspend;

/* Levels of recursion that our own work may take. */
#define ROOM 64

/* Return whether our own work has room, and is still of use. Where it has not, a call is not measured: it
   would end with an error that it does not end with by itself. */
static int
has_room(void)
{
    const PyThreadState *state = PyThreadState_Get();
    if (is_finalizing()) {
        return 0;
    }
#if PY_VERSION_HEX < 0x030C0000
    return state->recursion_remaining > ROOM;
#elif PY_VERSION_HEX < 0x030E0000
    return state->py_recursion_remaining > ROOM && state->c_recursion_remaining > ROOM;
#else
    return state->py_recursion_remaining > ROOM;
#endif
}

ALWAYS_INLINE Measured *
measured_of(PyObject *self)
{
    return (Measured *)((char *)self + Py_TYPE(self)->tp_vectorcall_offset);
}

ALWAYS_INLINE int
is_thinning(PyObject *object)
{
    return object != NULL && Py_IS_TYPE(object, thinning_type);
}

static void
remember_thinning(Measured *mine, PyObject *thinning)
{
    if (mine->thinning != thinning) {
        Py_XSETREF(mine->thinning, Py_XNewRef(thinning));
    }
}

/* What a call was told that it is called with. It goes when the call has ended: it was made before the call
   began, and must not be among what that frees. */
typedef struct {
    PyObject *positional, *named;
} Told;

/* Begin a call that is told what it is called with: a tuple, and a dictionary or None. */
static PyObject *
begin_told(PyObject *begin, PyObject *const *args, size_t count, PyObject *names, Told *told)
{
    Py_ssize_t positional = PyVectorcall_NARGS(count);
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    heap_hold(&heap_account);
    told->positional = PyTuple_New(positional);
    told->named = named == 0 ? Py_NewRef(Py_None) : PyDict_New();
    int failed = told->positional == NULL || told->named == NULL;
    for (Py_ssize_t i = 0; !failed && i < positional; i++) {
        PyTuple_SET_ITEM(told->positional, i, Py_NewRef(args[i]));
    }
    for (Py_ssize_t i = 0; !failed && i < named; i++) {
        failed = PyDict_SetItem(told->named, PyTuple_GET_ITEM(names, i), args[positional + i]) < 0;
    }
    heap_unhold(&heap_account, 0);
    return failed ? NULL : PyObject_CallFunctionObjArgs(begin, told->positional, told->named, NULL);
}

static void
drop_told(Told *told)
{
    if (told->positional != NULL || told->named != NULL) {
        heap_hold(&heap_account);
        Py_XDECREF(told->positional);
        Py_XDECREF(told->named);
        heap_unhold(&heap_account, 0);
    }
}

/* Return the call, a new reference; None where nothing is measured. */
static PyObject *
begin_call(Measured *mine, PyObject *const *args, size_t count, PyObject *names, Told *told)
{
    PyObject *enabled = PyObject_GetAttr(gate_switch, name_enabled);
    if (enabled == NULL) {
        return NULL;
    }
    Py_DECREF(enabled);
    if (enabled == Py_False) {
        return Py_NewRef(Py_None);
    }
    const int thinned = is_thinning(mine->thinning);
    if (thinned && thinning_passes((Thinning *)mine->thinning)) {
        return Py_NewRef(mine->thinning);
    }
    if (!has_room()) {
        return Py_NewRef(Py_None);
    }
    int64_t began = thinned ? monotonic_ns() : 0;
    PyObject *call = mine->begin == NULL ? PyObject_CallOneArg(gate_begin, mine->callsite)
                                         : begin_told(mine->begin, args, count, names, told);
    if (call != NULL && Py_IS_TYPE(call, tally_type)) {
        Tally *tally = (Tally *)call;
        call = tally_begin((PyObject *)tally, NULL);
        remember_thinning(mine, (PyObject *)tally->thinning);
        began = own_ended(tally, began);
        if (began != 0 && call != NULL) {
            ((TalliedCall *)call)->opened = began;
        }
        Py_DECREF(tally);
    }
    else if (is_thinning(call)) {
        remember_thinning(mine, call);
    }
    return call == NULL && had_no_room() ? Py_NewRef(Py_None) : call;
}

/* Each returns what the method returns. */

static PyObject *
resume_call(PyObject *call)
{
    if (Py_IS_TYPE(call, tallied_call_type)) {
        return call_resume_method(call, NULL);
    }
    if (is_thinning(call)) {
        Py_RETURN_NONE;
    }
    return PyObject_CallMethodNoArgs(call, name_resume);
}

/* *finish* is false for a call that goes on later; else *error* is the exception that ended it, or None. */
static PyObject *
end_step(PyObject *call, int finish, PyObject *error)
{
    if (Py_IS_TYPE(call, tallied_call_type)) {
        return finish ? call_finish(call, &error, 1) : call_suspend_method(call, NULL);
    }
    if (is_thinning(call)) {
        return finish ? thinning_finish(call, &error, 1) : Py_NewRef(Py_None);
    }
    return finish ? PyObject_CallMethodOneArg(call, name_finish, error)
                  : PyObject_CallMethodNoArgs(call, name_suspend);
}

/* The step has come to an end: with *result*, or by an exception where that is NULL. Return the same
   result, or let the same exception go on, with the traceback that it has; another one only where the
   program is interrupted meanwhile. */
static PyObject *
leave_step(PyObject *call, int finish, PyObject *result)
{
    PyObject *type = NULL, *error = NULL, *traceback = NULL;
    if (result == NULL) {
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (!finish && PyErr_GivenExceptionMatches(type, PyExc_GeneratorExit)) {
            Py_CLEAR(traceback); /* It would keep what the closed generator lets go. */
        }
        PyException_SetTraceback(error, traceback == NULL ? Py_None : traceback);
    }
    PyObject *answer = end_step(call, finish, error == NULL ? Py_None : error);
    if (answer == NULL && !had_no_room()) {
        Py_CLEAR(result);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return NULL;
    }
    Py_XDECREF(answer);
    if (result == NULL) {
        PyErr_Restore(type, error, traceback);
    }
    return result;
}

static PyObject *
measured_call(PyObject *self, PyObject *const *args, size_t count, PyObject *names)
{
    Measured *mine = measured_of(self);
    if (mine->target == NULL || mine->callsite == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a measured function without its function");
        return NULL;
    }
    int32_t own_depth = heap_account.own_depth;
    PyObject *target = Py_NewRef(mine->target), *result = NULL;
    int noted = mine->begin != NULL;
    Told told = {NULL, NULL};
    PyObject *call = begin_call(mine, args, count, names, &told);
    if (call != NULL) {
        result = PyObject_Vectorcall(target, args, count, names);
    }
    if (noted && result != NULL && call != Py_None) {
        /* Where there is no room for it, it is not told of. */
        PyObject *answer = PyObject_CallMethodOneArg(call, name_returned, result);
        if (answer == NULL && !had_no_room()) {
            Py_CLEAR(result);
        }
        Py_XDECREF(answer);
    }
    if (call != NULL && call != Py_None) {
        result = leave_step(call, 1, result);
    }
    heap_return_to(own_depth);
    Py_XDECREF(call);
    drop_told(&told);
    Py_DECREF(target);
    return result;
}

/* Send the item of a list of one to a generator or iterator, and put there what it answers. Return
   whether it has ended, or -1 with an exception set. Sending from Python would have it end with a
   StopIteration, which would stand in the numbers of the step. */
static int
send_boxed(PyObject *steps, PyObject *box)
{
    PyObject *sent = PyList_GET_ITEM(box, 0), *answer;
    PyList_SET_ITEM(box, 0, Py_NewRef(Py_None));
    PySendResult outcome = PyIter_Send(steps, sent, &answer);
    Py_DECREF(sent);
    if (outcome == PYGEN_ERROR || PyList_SetItem(box, 0, answer) < 0) {
        return -1;
    }
    return outcome == PYGEN_RETURN;
}

/* Run one step of what can be suspended, as a step of a call: send what is in the box, or have *send*
   do so. */
static PyObject *
counters_advance(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyList_CheckExact(args[2]) || PyList_GET_SIZE(args[2]) != 1) {
        PyErr_SetString(
            PyExc_TypeError, "advance() takes a call, an iterator, a list of one item, and a sender");
        return NULL;
    }
    PyObject *call = args[0], *steps = args[1], *box = args[2], *send = args[3], *ended = NULL;
    int32_t own_depth = heap_account.own_depth;
    int measured = has_room();
    PyObject *answer = measured ? resume_call(call) : Py_NewRef(Py_None);
    if (answer != NULL || had_no_room()) {
        if (send != Py_None) {
            ended = PyObject_CallFunctionObjArgs(send, steps, box, NULL);
        }
        else {
            int returned = send_boxed(steps, box);
            ended = returned < 0 ? NULL : PyBool_FromLong(returned);
        }
    }
    Py_XDECREF(answer);
    ended = measured ? leave_step(call, 0, ended) : ended;
    heap_return_to(own_depth);
    return ended;
}

/* Say who tells whether to measure, and who begins a call. */
static PyObject *
counters_set_gate(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *gate, *begin;
    if (!PyArg_ParseTuple(args, "OO:set_gate", &gate, &begin)) {
        return NULL;
    }
    Py_XSETREF(gate_switch, Py_NewRef(gate));
    Py_XSETREF(gate_begin, Py_NewRef(begin));
    Py_RETURN_NONE;
}

/* Return the subclass of a type whose instances are called as told above. The objects are members
   as `__slots__` has them, which a heap type visits and drops by itself. */
static PyObject *
counters_callable_type(PyObject *Py_UNUSED(module), PyObject *base)
{
    if (!PyType_Check(base)) {
        PyErr_SetString(PyExc_TypeError, "callable_type() takes a type");
        return NULL;
    }
    Py_ssize_t offset = ((PyTypeObject *)base)->tp_basicsize;
    PyMemberDef members[] = {
        {"_self_target", T_OBJECT_EX, offset + (Py_ssize_t)offsetof(Measured, target), 0, NULL},
        {"_self_callsite", T_OBJECT_EX, offset + (Py_ssize_t)offsetof(Measured, callsite), 0, NULL},
        {"_self_begin", T_OBJECT_EX, offset + (Py_ssize_t)offsetof(Measured, begin), 0, NULL},
        {"_self_thinning", T_OBJECT_EX, offset + (Py_ssize_t)offsetof(Measured, thinning), 0, NULL},
        {"__vectorcalloffset__", T_PYSSIZET, offset + (Py_ssize_t)offsetof(Measured, vectorcall),
         READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
    };
    PyType_Slot type_slots[] = {
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_members, members},
        {0, NULL},
    };
    PyType_Spec spec = {
        "stratatrace.wrapping.MeasuredFunction", (int)(offset + (Py_ssize_t)sizeof(Measured)), 0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, type_slots};
    return PyType_FromSpecWithBases(&spec, base);
}

/* Connect a new instance of that type with its function. */
static PyObject *
counters_connect(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *self, *target, *callsite, *begin = NULL;
    if (!PyArg_ParseTuple(args, "OOO|O:connect", &self, &target, &callsite, &begin)) {
        return NULL;
    }
    const PyTypeObject *type = Py_TYPE(self);
    if (gate_begin == NULL || type->tp_call != PyVectorcall_Call
        || type->tp_basicsize != type->tp_vectorcall_offset + (Py_ssize_t)sizeof(Measured))
    {
        PyErr_SetString(PyExc_TypeError, "connect() takes an instance of what callable_type() made");
        return NULL;
    }
    Measured *mine = measured_of(self);
    Py_XSETREF(mine->target, Py_NewRef(target));
    Py_XSETREF(mine->callsite, Py_NewRef(callsite));
    Py_XSETREF(mine->begin, Py_XNewRef(begin));
    mine->vectorcall = measured_call;
    Py_RETURN_NONE;
}

#endif /* STRATATRACE_MEASURED_H */
