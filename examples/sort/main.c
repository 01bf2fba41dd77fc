/* Fixed side of the example: makes the data from the seed, counts the work, checks the answer, prints the
 * metric. The score is printed by the program that contains the candidate, so reports call it self-reported. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sort.h"

static unsigned long long work;

int less(int a, int b) {
    work += 1;
    return a < b;
}

void swap(int *a, int *b) {
    int kept = *a;
    work += 2;
    *a = *b;
    *b = kept;
}

static unsigned next(unsigned long long *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(*state >> 33);
}

int main(int count, char **arguments) {
    enum { ROUNDS = 40, N = 4000 };
    static int values[N];
    unsigned long long state = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            /* Half random, half nearly in order: what real columns look like. */
            values[i] = i < N / 2 ? (int)(next(&state) % 160000) : i * 40 + (int)(next(&state) % 400);
        }
        sort(values, N);
        for (int i = 1; i < N; i++) {
            if (values[i - 1] > values[i]) {
                fprintf(stderr, "not sorted at %d\n", i);
                return 1;
            }
        }
    }
    printf("work_per_n_log_n: %.6f\n", (double)work / (ROUNDS * N * log2(N)));
    return 0;
}
