/* Lines of execution: whose the heap is that a thread allocates at a moment.

   A thread is a line. So is a task of an event loop, which a thread runs for a step and then leaves; and so
   is work that was handed to another thread. Each has tabs of its own, and counters of its own: when a
   thread comes to a line its counters are set to where the line's stood, and when it leaves they are
   put back, so that neither sees the other's memory.

   A line that was begun on behalf of another, its *client*, is charged to that one too: to the tabs that were open
   there when it was begun, for as long as each is open. A call that gathers ten tasks, or hands its work to
   a thread, has their memory in its numbers, as it has that of what it calls itself.

   Whoever changes a line has the GIL. */
#ifndef STRATATRACE_LINES_H
#define STRATATRACE_LINES_H

#include "_map.h"
#include "_tabs.h"

static int64_t generation; /* Grows in a forked child: its parent tells of what was open before. */

static int64_t heap_tabs_open; /* Of all lines. */

static int64_t lines; /* That were ever begun. */

/* From _counters.c: the number of the start since which all was counted, or 0 where nothing is; should
   somebody have taken the hooks out, they are put on again. */
static int64_t counting_since(void);
static int64_t counting_again(void);
static void heap_tab_closed(void);

struct HeapAccount;

typedef struct {
    int64_t time; /* ns */
    int64_t collections;
    int64_t reclaimed; /* Bytes. */
} Collected;

typedef struct Line {
    PyObject_HEAD
    Tab *newest;
    int64_t tabs;               /* How many were ever opened on it. */
    struct HeapAccount *thread; /* Which runs it; NULL while it is suspended. */
    struct Line *outer;         /* Which that thread has left for it, and will go back to. */
    Counters at;                /* Where its counters stand while it is suspended. */
    Collected collected;        /* What the collector did on it. */
    struct Line *client;        /* On whose behalf it was begun, or NULL, */
    int64_t client_tab;         /* and the last tab that was opened there by then. */
    int64_t top;                /* Its highest level since the client was charged last, */
    Counters charged;           /* and where it stood then. */
    Collected charged_collected;
    int64_t generation;
    int64_t number; /* Which no other line has or had. */
    char of_thread; /* Whether it is a thread's own. */
} Line;

typedef struct HeapAccount {
    Line *line;         /* Which the thread runs; NULL until it is first asked for. */
    int64_t number;     /* Of that line, or 0: to be read without the GIL, when the line may be gone. */
    Counters *counters; /* The thread's. */
    Counters program;   /* The counters as the program left them when our work began. */
    int64_t thread;     /* A number that no other thread has or had; 0 until its first hold. */
    int64_t works;      /* How often our work has begun. */
    int32_t own_depth;  /* How many holds our work is within; 0 while the program runs. */
} HeapAccount;

/* Of the calling thread, like the counters. */
THREAD_LOCAL HeapAccount heap_account;

static PyTypeObject *line_type;
static PyObject *name_line; /* Under which the thread's own line is kept until the thread ends. */

/* --- Tabs of a line ------------------------------------------------------------------------------ */

/* Return the counters of a line, wherever it is run. Another thread's may change while it has no GIL. */
static const Counters *
line_counters(const Line *line)
{
    const HeapAccount *thread = line->thread;
    if (thread == NULL) {
        return &line->at;
    }
    return thread->own_depth > 0 ? &thread->program : thread->counters;
}

ALWAYS_INLINE void
line_fold(Line *line, int64_t peak)
{
    tabs_fold(line->newest, peak);
    line->top = highest(line->top, peak);
}

ALWAYS_INLINE void
line_drop_abandoned(Line *line)
{
    heap_tabs_open -= tabs_drop_abandoned(&line->newest);
}

ALWAYS_INLINE void
line_open_tab(Line *line, Tab *tab, const Counters *at)
{
    tabs_open(&line->newest, tab, at->live);
    tab->line = line;
    tab->number = ++line->tabs;
    tab->allocated -= at->allocated;
    tab->allocations -= at->allocations;
    tab->gc_time -= line->collected.time;
    tab->collections -= line->collected.collections;
    tab->reclaimed -= line->collected.reclaimed;
    heap_tabs_open++;
}

ALWAYS_INLINE void
line_close_tab(Line *line, Tab *tab, const Counters *at)
{
    heap_tabs_open--;
    tab->allocated += at->allocated;
    tab->allocations += at->allocations;
    tab->gc_time += line->collected.time;
    tab->collections += line->collected.collections;
    tab->reclaimed += line->collected.reclaimed;
    tab->failed |= tab->counting != counting_since();
    tabs_close(&line->newest, tab, at->live);
}

/* The line has come to its end: what is still open on it ends with it. */
static void
line_end(Line *line, const Counters *at)
{
    line_fold(line, at->peak);
    while (line->newest != NULL) {
        PyObject *owner = Py_NewRef(line->newest->owner); /* Maybe nobody else has it any more. */
        line->newest->ended = 1;
        line_close_tab(line, line->newest, at);
        Py_DECREF(owner);
    }
}

/* A line of the time before a fork: in the child nothing is open. */
static void
line_renew(Line *line)
{
    tabs_forget(&line->newest);
    line->generation = generation;
    Py_CLEAR(line->client);
}

/* --- Beginning and ending ------------------------------------------------------------------------ */

/* Return a new line, which is counted neither when it is made nor when it is dropped. */
static Line *
line_new(Line *client)
{
    uint8_t outer = counters.inside;
    counters.inside = INSIDE;
    Line *line = PyObject_New(Line, line_type);
    counters.inside = outer;
    if (line == NULL) {
        return NULL;
    }
    memset((char *)line + sizeof(PyObject), 0, sizeof(Line) - sizeof(PyObject));
    line->generation = generation;
    line->number = ++lines;
    if (client != NULL) {
        Py_INCREF(client);
        line->client = client;
        line->client_tab = client->tabs;
    }
    return line;
}

static void
line_dealloc(PyObject *self)
{
    Line *line = (Line *)self, *client = line->client;
    PyTypeObject *type = Py_TYPE(self);
    if (line->generation == generation) {
        line_end(line, line_counters(line));
    }
    else {
        tabs_forget(&line->newest);
    }
    while (client != NULL && Py_REFCNT(client) == 1) { /* No recursion: the chain may be long. */
        Line *next = client->client;
        client->client = NULL;
        Py_DECREF(client);
        client = next;
    }
    Py_XDECREF(client);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* A thread has ended; another one clears up after it in a forked child, and at the interpreter's end. */
static void
thread_ended(PyObject *capsule)
{
    Line *line = PyCapsule_GetPointer(capsule, NULL);
    HeapAccount *account = &heap_account;
    if (account->line == line && line->generation == generation) {
        line_end(line, line_counters(line));
    }
    else {
        tabs_forget(&line->newest);
    }
    if (account->line == line) {
        account->line = NULL;
        account->number = 0;
    }
    line->thread = NULL;
    Py_DECREF(line);
}

/* Make the thread's own line, which lives until the thread's state is cleared. */
static Line *
line_of_new_thread(HeapAccount *account)
{
    Line *line = line_new(NULL);
    uint8_t outer = counters.inside;
    counters.inside = INSIDE; /* As the line itself. */
    PyObject *of_thread = PyThreadState_GetDict();
    PyObject *capsule = line == NULL ? NULL : PyCapsule_New(line, NULL, thread_ended);
    if (capsule != NULL) {
        line->thread = account;
        line->of_thread = 1;
        account->counters = &counters;
        account->line = line;
        account->number = line->number;
        if (of_thread == NULL || PyDict_SetItem(of_thread, name_line, capsule) < 0) {
            line = NULL; /* The capsule takes it along. */
        }
        Py_DECREF(capsule);
    }
    else {
        Py_CLEAR(line);
    }
    if (line == NULL) {
        PyErr_Clear();
    }
    counters.inside = outer;
    return line;
}

/* Return the line that the thread runs; NULL where there is no memory for its first. */
ALWAYS_INLINE Line *
line_of(HeapAccount *account)
{
    return LIKELY(account->line != NULL) ? account->line : line_of_new_thread(account);
}

/* --- On behalf of another ------------------------------------------------------------------------ */

/* What a line has run up in a stretch of its own. */
typedef struct {
    int64_t net;
    int64_t rise; /* The highest that it stood above its beginning. */
    int64_t allocated, allocations;
    Collected collected;
} Stretch;

/* Add a stretch of somebody else's to the tabs that were opened up to *last*. Tops are levels of this line,
   which did not move: so what they say so far is kept, and they begin anew. Return whether there are such tabs. */
static int
line_charge(Line *line, int64_t last, const Stretch *stretch)
{
    int64_t level = line_counters(line)->live, top = level;
    int any = 0;
    for (Tab *tab = line->newest; tab != NULL; tab = tab->below) {
        top = tab->top = highest(tab->top, top);
        tab->peak = highest(tab->peak, top - tab->base);
        tab->top = level;
        if (tab->number <= last) {
            any = 1;
            tab->peak = highest(tab->peak, level - tab->base + stretch->rise);
            tab->base -= stretch->net;
            tab->allocated += stretch->allocated;
            tab->allocations += stretch->allocations;
            tab->gc_time += stretch->collected.time;
            tab->collections += stretch->collected.collections;
            tab->reclaimed += stretch->collected.reclaimed;
        }
    }
    return any;
}

/* Clients of clients; more have more spans open, each within another, than anybody will look at. */
#define MOST_CLIENTS 100

/* Charge what a line has run up since this was last done to its client, and to whom that works for;
   forget those of them whose calls have ended. */
static void
line_charge_clients(Line *line, const Counters *now)
{
    const Counters *then = &line->charged;
    const Stretch stretch = {
        .net = now->live - then->live,
        .rise = line->top - then->live,
        .allocated = now->allocated - then->allocated,
        .allocations = now->allocations - then->allocations,
        .collected = {
            line->collected.time - line->charged_collected.time,
            line->collected.collections - line->charged_collected.collections,
            line->collected.reclaimed - line->charged_collected.reclaimed,
        },
    };
    line->charged = *now;
    line->charged_collected = line->collected;
    line->top = now->live;
    for (int i = 0; i < MOST_CLIENTS && line->client != NULL; i++) {
        Line *client = line->client;
        if (client->generation != generation) {
            Py_CLEAR(line->client);
        }
        else if (line_charge(client, line->client_tab, &stretch)) {
            line = client;
        }
        else { /* Whom it worked for itself still has us. */
            line->client = client->client;
            line->client_tab = client->client_tab;
            Py_XINCREF(line->client);
            Py_DECREF(client);
        }
    }
}

/* --- Coming and leaving -------------------------------------------------------------------------- */

ALWAYS_INLINE void
counters_set(const Counters *to)
{
    Counters *mine = &counters;
    mine->live = mine->peak = to->live;
    /* The sample is the thread's, and as far off as it was. */
    mine->sample_at += to->allocated - mine->allocated;
    mine->allocated = to->allocated;
    mine->allocations = to->allocations;
    mine->frees = to->frees;
}

/* End a stretch of the line that the thread runs: whoever it works for has all of it up to here. */
ALWAYS_INLINE void
line_settle(Line *line, Counters *now)
{
    line_fold(line, now->peak);
    now->peak = now->live;
    if (line->client != NULL) {
        line_charge_clients(line, now);
    }
}

ALWAYS_INLINE void
line_suspend(Line *line)
{
    line_settle(line, &counters);
    line->at = counters;
    line->thread = NULL;
}

ALWAYS_INLINE void
line_resume(Line *line, HeapAccount *account)
{
    if (UNLIKELY(line->generation != generation)) {
        line_renew(line);
    }
    counters_set(&line->at);
    line->thread = account;
    account->line = line;
    account->number = line->number;
}

/* Come to a line. Return 0 where the thread stays where it is: our own work is charged to nobody, and what
   is on the line already is charged by it. */
static int
line_enter(Line *line)
{
    HeapAccount *account = &heap_account;
    Line *outer = line_of(account);
    if (outer == NULL || account->own_depth > 0 || line->thread != NULL || line->outer != NULL) {
        return 0;
    }
    Py_INCREF(line);
    line_suspend(outer);
    line->outer = outer;
    line_resume(line, account);
    return 1;
}

static void
line_leave(void)
{
    HeapAccount *account = &heap_account;
    Line *line = account->line, *outer = line->outer;
    line_suspend(line);
    line->outer = NULL;
    line_resume(outer, account);
    Py_DECREF(line);
}

#endif /* STRATATRACE_LINES_H */
