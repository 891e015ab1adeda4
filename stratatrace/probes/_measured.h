/* The call of a measured function: between its caller and the function stands nothing but this.

   A `__call__` that is written in Python is given its arguments in a tuple and a dictionary, which are
   made for us and would stand in the numbers of whoever calls. Here they are passed on as they came. */
#ifndef STRATATRACE_MEASURED_H
#define STRATATRACE_MEASURED_H

#include "_tallies.h"

/* What an instance has beside what its base has. */
typedef struct {
    vectorcallfunc vectorcall;
    PyObject *target;   /* What is called. */
    PyObject *callsite; /* What `begin` is told. */
} Measured;

/* Where that begins in an instance: after those of the base, one type for the process. */
static Py_ssize_t measured_offset;

static PyObject *gate_switch;  /* Its attribute `enabled` tells whether to measure at all. */
static PyObject *gate_begin;   /* Takes a callsite, returns the call that is charged from now on. */
static PyObject *name_enabled, *name_finish;

ALWAYS_INLINE Measured *
measured_of(PyObject *self)
{
    return (Measured *)((char *)self + measured_offset);
}

/* Return the call, a new reference; None where nothing is measured. */
static PyObject *
begin_call(PyObject *callsite)
{
    PyObject *enabled = PyObject_GetAttr(gate_switch, name_enabled);
    if (enabled == NULL) {
        return NULL;
    }
    Py_DECREF(enabled);
    return enabled == Py_False ? Py_NewRef(Py_None) : PyObject_CallOneArg(gate_begin, callsite);
}

/* Return what `finish` returns; *error* is the exception that ended the call, or None. */
static PyObject *
finish_call(PyObject *call, PyObject *error)
{
    if (Py_IS_TYPE(call, tallied_call_type)) {
        return call_finish(call, &error, 1);
    }
    return PyObject_CallMethodOneArg(call, name_finish, error);
}

/* The call has raised: tell so, and let the same exception go on, with the traceback that it has. */
static void
finish_raised(PyObject *call)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    PyObject *answer = finish_call(call, error);
    if (answer == NULL) { /* The program was interrupted meanwhile. */
        Py_DECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return;
    }
    Py_DECREF(answer);
    PyErr_Restore(type, error, traceback);
}

static PyObject *
measured_call(PyObject *self, PyObject *const *args, size_t count, PyObject *names)
{
    Measured *mine = measured_of(self);
    if (mine->target == NULL || mine->callsite == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a measured function without its function");
        return NULL;
    }
    PyObject *target = Py_NewRef(mine->target), *result = NULL;
    PyObject *call = begin_call(mine->callsite);
    if (call != NULL) {
        result = PyObject_Vectorcall(target, args, count, names);
    }
    if (call != NULL && call != Py_None) {
        if (result == NULL) {
            finish_raised(call);
        }
        else {
            PyObject *answer = finish_call(call, Py_None);
            if (answer == NULL) {
                Py_CLEAR(result);
            }
            Py_XDECREF(answer);
        }
    }
    Py_XDECREF(call);
    Py_DECREF(target);
    return result;
}

/* Say who tells whether to measure, and who begins a call. */
static PyObject *
counters_set_gate(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *gate, *begin;
    if (!PyArg_ParseTuple(args, "OO:set_gate", &gate, &begin)) {
        return NULL;
    }
    if (name_enabled == NULL) {
        name_enabled = PyUnicode_InternFromString("enabled");
        name_finish = PyUnicode_InternFromString("finish");
    }
    if (name_enabled == NULL || name_finish == NULL) {
        return NULL;
    }
    Py_XSETREF(gate_switch, Py_NewRef(gate));
    Py_XSETREF(gate_begin, Py_NewRef(begin));
    Py_RETURN_NONE;
}

/* Return the subclass of a type whose instances are called as told above. The two objects are members
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
    measured_offset = offset;
    return PyType_FromSpecWithBases(&spec, base);
}

/* Connect a new instance of that type with its function. */
static PyObject *
counters_connect(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *self, *target, *callsite;
    if (!PyArg_ParseTuple(args, "OOO:connect", &self, &target, &callsite)) {
        return NULL;
    }
    if (gate_begin == NULL || Py_TYPE(self)->tp_call != PyVectorcall_Call
        || Py_TYPE(self)->tp_vectorcall_offset != measured_offset)
    {
        PyErr_SetString(PyExc_TypeError, "connect() takes an instance of what callable_type() made");
        return NULL;
    }
    Measured *mine = measured_of(self);
    Py_XSETREF(mine->target, Py_NewRef(target));
    Py_XSETREF(mine->callsite, Py_NewRef(callsite));
    mine->vectorcall = measured_call;
    Py_RETURN_NONE;
}

#endif /* STRATATRACE_MEASURED_H */
