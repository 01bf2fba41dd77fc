/* The file that may change: sort `values` with as little work (comparisons + 2 x swaps) as possible. */
#include "sort.h"

/* Ranges shorter than this are left to insertion sort. */
enum { CUTOFF = 48 };

static void insertion(int *values, int n) {
    for (int i = 1; i < n; i++) {
        for (int j = i; j > 0 && less(values[j], values[j - 1]); j--) {
            swap(&values[j], &values[j - 1]);
        }
    }
}

static int pivot(int *values, int n) {
    (void)values;
    return n / 3;
}

void sort(int *values, int n) {
    if (n < CUTOFF) {
        insertion(values, n);
        return;
    }
    swap(&values[pivot(values, n)], &values[n - 1]);
    int store = 0;
    for (int i = 0; i < n - 1; i++) {
        if (less(values[i], values[n - 1])) {
            if (i != store) {
                swap(&values[i], &values[store]);
            }
            store++;
        }
    }
    swap(&values[store], &values[n - 1]);
    sort(values, store);
    sort(values + store + 1, n - store - 1);
}
