/* Tabs: what one call has run up on one account.

   The tabs that are open stand in a list, the newest first: one list for each line of execution's heap,
   and one for the resident memory of the process. Each list has one peak, which is set back when a tab is
   opened or closed, so every stretch in between is *folded*: its peak is kept in the newest tab, and
   handed down to the one below when that is closed.

   A list has a reference to the owner of each of its tabs. Where nobody else has one any more, the tab
   is *abandoned*, as it is when somebody closes it who has no way to the list: an exception that is
   thrown into a thread may come between the beginning of a call and whoever was to end it. */
#ifndef STRATATRACE_TABS_H
#define STRATATRACE_TABS_H

#include "_platform.h"

struct Line;

typedef struct Tab {
    struct Tab *below; /* The next older one that is open. */
    struct Tab *twin;  /* The other tab of the same owner, where it has two. */
    PyObject *owner;   /* What this is a part of. */
    int64_t base;      /* The level at which this tab stands at zero. */
    int64_t top;       /* The highest level since this tab, and none newer, was open. */
    int64_t net;       /* What was run up until the last release, and the highest it ever stood. */
    int64_t peak;
    int64_t allocated; /* Gross; less the counters' sums while the tab is open. */
    int64_t allocations;
    /* The rest is of tabs of the heap. */
    struct Line *line; /* On which it is open; only while it stands in a list. */
    int64_t number;    /* How many were opened on that line when it was. */
    int64_t gc_time;   /* ns; what the collector did on the line, like the gross sums. */
    int64_t collections;
    int64_t reclaimed;
    int64_t counting;  /* Under which start of counting it was last opened, */
    int32_t own_depth; /* within how many holds, */
    int64_t works;     /* of which stretch of our work. */
    char listed;       /* Whether it stands in a list; then that has a reference to the owner. */
    char open;
    char charged; /* Whether it was ever open. */
    char failed;  /* Whether an end of it could not be read: then the rest means nothing. */
    char foreign; /* Whether it was closed from a thread other than the one that ran its line, */
    char ended;   /* or by the end of its line. */
} Tab;

ALWAYS_INLINE int64_t
highest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Keep the peak of the stretch that ends here. */
ALWAYS_INLINE void
tabs_fold(Tab *newest, int64_t peak)
{
    if (newest != NULL) {
        newest->top = highest(newest->top, peak);
    }
}

ALWAYS_INLINE void
tabs_open(Tab **newest, Tab *tab, int64_t level)
{
    tab->base = level - tab->net;
    tab->top = level;
    tab->listed = tab->open = tab->charged = 1;
    tab->below = *newest;
    *newest = tab;
    Py_INCREF(tab->owner);
}

/* Take a tab off its list; newer ones may still be open. */
static void
tabs_remove(Tab **newest, Tab *tab)
{
    Tab **link = newest;
    while (*link != NULL && *link != tab) {
        tab->top = highest(tab->top, (*link)->top); /* Their tops are ours too. */
        link = &(*link)->below;
    }
    if (*link == NULL) {
        return;
    }
    *link = tab->below;
    tab->listed = 0;
    tabs_fold(tab->below, tab->top);
    Py_DECREF(tab->owner);
}

ALWAYS_INLINE int
tab_is_abandoned(const Tab *tab)
{
    int references = tab->listed + (tab->twin != NULL && tab->twin->listed);
    return !tab->open || Py_REFCNT(tab->owner) == references;
}

/* Take those off that nobody will close; return how many of them were open still. */
ALWAYS_INLINE int
tabs_drop_abandoned(Tab **newest)
{
    int open = 0;
    while (UNLIKELY(*newest != NULL && tab_is_abandoned(*newest))) {
        open += (*newest)->open;
        (*newest)->open = 0;
        tabs_remove(newest, *newest);
    }
    return open;
}

ALWAYS_INLINE void
tabs_close(Tab **newest, Tab *tab, int64_t level)
{
    tab->open = 0;
    tabs_remove(newest, tab);
    tab->net = level - tab->base;
    tab->peak = highest(tab->peak, highest(tab->top - tab->base, tab->net));
}

static void
tabs_forget(Tab **newest)
{
    while (*newest != NULL) {
        (*newest)->open = 0;
        tabs_remove(newest, *newest);
    }
}

#endif /* STRATATRACE_TABS_H */
