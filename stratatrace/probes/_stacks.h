/* Where in the program a thread is: stacks of frames, each kept once.

   A stack is a place in a tree. A frame is a node below that of the frame which has called it, so that what many
   stacks begin with is kept once, and a stack is the number of its innermost frame.

   Nothing here allocates from Python or runs any of its code: it is called from within the allocators. The
   tree is changed and read with the GIL of the main interpreter. Who has not got that has the stack 0, without
   frames: its frames are not his to look at, and strings of another interpreter die with that. */
#ifndef STRATATRACE_STACKS_H
#define STRATATRACE_STACKS_H

#include "_platform.h"

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#  define FRAMES_KNOWN 1
#  include "internal/pycore_frame.h"
#else
#  define FRAMES_KNOWN 0
#endif

#define MOST_FRAMES 128
#define MOST_NODES ((uint32_t)1 << 20)
#define FEWEST_SLOTS ((size_t)1 << 10)

typedef struct {
    PyObject *file, *function; /* Of its code; the node has a reference to each. */
    int32_t line;
    uint32_t outer; /* The node of who has called it; 0 where it is the outermost that was looked at. */
} Node;

static struct {
    Node *nodes;     /* Room for MOST_NODES, which takes memory as it is used. The first is nobody's. */
    uint32_t used;   /* How many nodes there are. */
    uint32_t *slots; /* Where a node is found by what it says: by its hash, or in the next free slot. */
    size_t slot_count;
    int64_t before; /* Nodes that were forgotten; no number is ever given twice. */
} stacks;

/* --- The tree ------------------------------------------------------------------------------------ */

static uint64_t
mixed(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static size_t
slot_of(const Node *node)
{
    uint64_t hash = mixed((uint64_t)(uintptr_t)node->file ^ (uint64_t)node->outer << 40);
    hash = mixed(hash ^ (uint64_t)(uintptr_t)node->function ^ (uint64_t)(uint32_t)node->line << 40);
    size_t slot = (size_t)hash & (stacks.slot_count - 1);
    for (;; slot = (slot + 1) & (stacks.slot_count - 1)) {
        const Node *there = &stacks.nodes[stacks.slots[slot]];
        if (stacks.slots[slot] == 0
            || (there->file == node->file && there->function == node->function
                && there->line == node->line && there->outer == node->outer))
        {
            return slot;
        }
    }
}

/* Have room for one more node; return whether there is. */
static bool
stacks_have_room(void)
{
    if (stacks.nodes == NULL) {
        stacks.nodes = pages_new(MOST_NODES * sizeof(Node));
        stacks.used = 1;
    }
    if (stacks.nodes == NULL || stacks.used == MOST_NODES) {
        return false;
    }
    if (stacks.used < stacks.slot_count / 2) {
        return true;
    }
    size_t old_count = stacks.slot_count, new_count = old_count ? 2 * old_count : FEWEST_SLOTS;
    uint32_t *old = stacks.slots, *slots = pages_new(new_count * sizeof(uint32_t));
    if (slots == NULL) {
        return false;
    }
    stacks.slots = slots;
    stacks.slot_count = new_count;
    for (uint32_t node = 1; node < stacks.used; node++) {
        slots[slot_of(&stacks.nodes[node])] = node;
    }
    if (old != NULL) {
        pages_free(old, old_count * sizeof(uint32_t));
    }
    return true;
}

/* Return the number of a node, which is made where there is none; 0 where there is no room. */
static uint32_t
node_of(const Node *wanted)
{
    if (!stacks_have_room()) {
        return 0;
    }
    uint32_t *slot = &stacks.slots[slot_of(wanted)];
    if (*slot == 0) {
        *slot = stacks.used++;
        stacks.nodes[*slot] = *wanted;
        Py_INCREF(wanted->file);
        Py_INCREF(wanted->function);
    }
    return *slot;
}

/* Forget all stacks. */
static void
stacks_forget(void)
{
    Node *nodes = stacks.nodes;
    uint32_t used = stacks.used;
    if (stacks.slots != NULL) {
        pages_free(stacks.slots, stacks.slot_count * sizeof(uint32_t));
    }
    stacks.before += used;
    stacks.nodes = NULL;
    stacks.slots = NULL;
    stacks.slot_count = stacks.used = 0;
    if (nodes == NULL) {
        return;
    }
    for (uint32_t node = 1; node < used; node++) { /* Whatever that may call finds no stacks. */
        Py_DECREF(nodes[node].file);
        Py_DECREF(nodes[node].function);
    }
    pages_free(nodes, MOST_NODES * sizeof(Node));
}

/* --- Frames -------------------------------------------------------------------------------------- */

#if FRAMES_KNOWN

/* Return the state of the calling thread if it has the main interpreter's GIL, else NULL. */
static PyThreadState *
thread_with_gil(void)
{
    PyThreadState *thread = _PyThreadState_UncheckedGet();
#  if PY_VERSION_HEX < 0x030C0000
    /* It is the process's, not the thread's: whoever has the GIL is there. */
    if (thread != NULL && thread != PyGILState_GetThisThreadState()) {
        return NULL;
    }
#  endif
    return thread != NULL && thread->interp == PyInterpreterState_Main() ? thread : NULL;
}

/* Return the code that a frame runs, or NULL: it is not complete yet, or its code is just dying with it. */
static PyCodeObject *
code_of(_PyInterpreterFrame *frame)
{
    if (_PyFrame_IsIncomplete(frame)) {
        return NULL;
    }
#  if PY_VERSION_HEX >= 0x030D0000
    PyCodeObject *code = _PyFrame_GetCode(frame);
#  else
    PyCodeObject *code = frame->f_code;
#  endif
    return Py_REFCNT(code) > 0 ? code : NULL;
}

/* Return the number of the stack that the calling thread has now, of its innermost frames. */
static int64_t
stack_now(int depth)
{
    PyThreadState *thread = thread_with_gil();
    if (thread == NULL) {
        return 0;
    }
    Node frames[MOST_FRAMES];
    int count = 0;
#  if PY_VERSION_HEX >= 0x030D0000
    _PyInterpreterFrame *frame = thread->current_frame;
#  else
    _PyInterpreterFrame *frame = thread->cframe->current_frame;
#  endif
    for (; frame != NULL && count < depth; frame = frame->previous) {
        PyCodeObject *code = code_of(frame);
        if (code != NULL) {
            int address = _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT);
            int line = PyCode_Addr2Line(code, address);
            frames[count++] = (Node){code->co_filename, code->co_qualname,
                                     line < 0 ? code->co_firstlineno : line, 0};
        }
    }
    uint32_t node = 0;
    while (count-- > 0) {
        frames[count].outer = node;
        node = node_of(&frames[count]);
        if (node == 0) {
            return 0;
        }
    }
    return node == 0 ? 0 : stacks.before + node;
}

#else /* A version of Python whose frames nobody has looked at yet. */

static int64_t
stack_now(int Py_UNUSED(depth))
{
    return 0;
}

#endif

/* --- For Python ---------------------------------------------------------------------------------- */

/* Return a tuple of the frames of a stack, the innermost first: empty where it is forgotten. */
static PyObject *
stack_as_tuple(int64_t stack)
{
    uint32_t innermost = 0;
    if (stack > stacks.before && stack - stacks.before < stacks.used) {
        innermost = (uint32_t)(stack - stacks.before);
    }
    Node frames[MOST_FRAMES];
    Py_ssize_t count = 0;
    for (uint32_t node = innermost; node != 0; node = frames[count++].outer) {
        frames[count] = stacks.nodes[node];
        /* A collection on the way may run somebody who ends the sampling. */
        Py_INCREF(frames[count].file);
        Py_INCREF(frames[count].function);
    }
    PyObject *result = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (result != NULL) {
            PyObject *frame = Py_BuildValue("(OOi)", frames[i].file, frames[i].function, frames[i].line);
            if (frame == NULL) {
                Py_CLEAR(result);
            }
            else {
                PyTuple_SET_ITEM(result, i, frame);
            }
        }
        Py_DECREF(frames[i].file);
        Py_DECREF(frames[i].function);
    }
    return result;
}

#endif /* STRATATRACE_STACKS_H */
