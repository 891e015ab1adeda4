/* Thinning: the calls of a callsite that are not measured.

   All that is done for such a call is to count it. So they need no object each: one stands for all of
   them, is handed out as if it was the call, and is told of its end. */
#ifndef STRATATRACE_THINNING_H
#define STRATATRACE_THINNING_H

#include "_accounts.h"

static PyTypeObject *thinning_type;

static PyObject *name_count;

typedef struct {
    PyObject_HEAD
    PyObject *keeper; /* Has `count(error)`, for what is not counted here. */
    PyObject *busy;   /* A dict: not empty where some thread is at our own work, whose calls are none. */
    int64_t left;     /* How many of the next calls are not measured. */
    int64_t calls;    /* Those that returned, since they were last taken. */
    int64_t own;      /* ns that measuring has cost. */
    double weight;    /* How many calls one that is measured stands for. */
    char retired;     /* Whether the keeper counts all that end. */
} Thinning;

/* Return whether the next call is not measured, and count it as begun. Who finds that there are none
   left asks Python. */
ALWAYS_INLINE int
thinning_passes(Thinning *thinning)
{
    if (thinning->left <= 0 || PyDict_GET_SIZE(thinning->busy) > 0) {
        return 0;
    }
    thinning->left--;
    return 1;
}

/* Return whether our own work had no room, be it memory or stack, and forget the exception: the
   program goes on as it would without us. */
static int
had_no_room(void)
{
    if (!PyErr_ExceptionMatches(PyExc_MemoryError) && !PyErr_ExceptionMatches(PyExc_RecursionError)) {
        return 0;
    }
    PyErr_Clear();
    return 1;
}

/* Return whether the interpreter ends: then other threads have died, maybe with a lock in their hands
   that our work would wait for. */
static int
is_finalizing(void)
{
#if PY_VERSION_HEX < 0x030D0000
    return _Py_IsFinalizing();
#else
    return Py_IsFinalizing();
#endif
}

/* A call has ended. */
static PyObject *
thinning_finish(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Thinning *thinning = (Thinning *)self;
    PyObject *error = count > 0 ? args[0] : Py_None;
    if (error == Py_None && !thinning->retired) {
        thinning->calls++;
        Py_RETURN_NONE;
    }
    if (is_finalizing()) {
        Py_RETURN_NONE;
    }
    heap_hold(&heap_account);
    PyObject *answer = PyObject_CallMethodOneArg(thinning->keeper, name_count, error);
    int failed = answer == NULL && !had_no_room();
    Py_XDECREF(answer);
    heap_unhold(&heap_account, 0);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *
thinning_step(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    Py_RETURN_NONE;
}

static PyObject *
thinning_take(PyObject *self, PyObject *Py_UNUSED(none))
{
    Thinning *thinning = (Thinning *)self;
    PyObject *calls = PyLong_FromLongLong(thinning->calls);
    if (calls != NULL) {
        thinning->calls = 0;
    }
    return calls;
}

static PyObject *
thinning_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"keeper", "busy", NULL};
    PyObject *keeper, *busy;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OO!:Thinning", names, &keeper, &PyDict_Type, &busy))
    {
        return NULL;
    }
    Thinning *self = (Thinning *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->keeper = Py_NewRef(keeper);
        self->busy = Py_NewRef(busy);
        self->weight = 1;
    }
    return (PyObject *)self;
}

static int
thinning_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Thinning *)self)->keeper);
    Py_VISIT(((Thinning *)self)->busy);
    return 0;
}

static int
thinning_clear(PyObject *self)
{
    /* Not set to NULL: a call may still end. */
    PyObject *keeper = ((Thinning *)self)->keeper;
    ((Thinning *)self)->keeper = Py_NewRef(Py_None);
    Py_XDECREF(keeper);
    return 0;
}

static void
thinning_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((Thinning *)self)->keeper);
    Py_XDECREF(((Thinning *)self)->busy);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef thinning_methods[] = {
    {"resume", thinning_step, METH_NOARGS, PyDoc_STR("A step of a call begins.")},
    {"suspend", thinning_step, METH_NOARGS, PyDoc_STR("It has ended.")},
    {"finish", FAST(thinning_finish), METH_FASTCALL, PyDoc_STR("A call has ended: count it.")},
    {"take", thinning_take, METH_NOARGS, PyDoc_STR("Return the calls since this was last called.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef thinning_members[] = {
    {"keeper", T_OBJECT, offsetof(Thinning, keeper), READONLY, NULL},
    {"left", T_LONGLONG, offsetof(Thinning, left), 0, NULL},
    {"weight", T_DOUBLE, offsetof(Thinning, weight), 0, NULL},
    {"own_ns", T_LONGLONG, offsetof(Thinning, own), 0, NULL},
    {"retired", T_BOOL, offsetof(Thinning, retired), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot thinning_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The calls of one callsite that are not measured.")},
    {Py_tp_new, thinning_new},
    {Py_tp_dealloc, thinning_dealloc},
    {Py_tp_traverse, thinning_traverse},
    {Py_tp_clear, thinning_clear},
    {Py_tp_methods, thinning_methods},
    {Py_tp_members, thinning_members},
    {0, NULL},
};

static PyType_Spec thinning_spec = {
    "stratatrace.probes._counters.Thinning", sizeof(Thinning), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, thinning_slots};

#endif /* STRATATRACE_THINNING_H */
