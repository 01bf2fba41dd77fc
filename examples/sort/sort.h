/* What a candidate may use, and what it must provide. */
int less(int a, int b);
void swap(int *a, int *b);
void sort(int *values, int n);
