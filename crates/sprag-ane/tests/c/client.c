/* A client in C: multiplies through the emulator, and meets every kind of error. */
#include "sprag_ane.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

static const char *PROGRAM =
    "program(1.3) [buildInfo = dict<string, string>({})] { func main<ios18>(tensor<fp16, [1, 2, 1, 32]> x) {"
    " tensor<fp16, [2, 2, 1, 1]> w = const()[val = tensor<fp16, [2, 2, 1, 1]>(BLOBFILE(path ="
    " string(\"@model_path/weights/w.bin\"), offset = uint64(64)))];"
    " tensor<fp16, [1, 2, 1, 32]> y = conv(x = x, weight = w)[]; } -> (y); }";

int main(void) {
    char *error = NULL;
    CHECK(strlen(sprag_ane_version()) > 0);

    /* A wrong name is answered with all names. */
    CHECK(sprag_ane_emulator_new("M9", &error) == NULL);
    CHECK(error != NULL && strstr(error, "M4") != NULL);
    sprag_ane_text_free(error);
    error = NULL;
    sprag_ane_runtime *runtime = sprag_ane_emulator_new("M4", &error);
    CHECK(runtime != NULL && error == NULL);

    /* [[1, 2], [3, 4]] in halves. */
    const uint16_t weights[4] = {0x3C00, 0x4000, 0x4200, 0x4400};
    uint8_t file[256];
    size_t size = sprag_ane_blob(weights, 4, file, sizeof file);
    CHECK(size == 136);
    const char *name = "@model_path/weights/w.bin";
    const uint8_t *start = file;

    /* Without its weights it does not compile, and the error says why. */
    CHECK(sprag_ane_compile(runtime, PROGRAM, NULL, NULL, NULL, 0, &error) == NULL);
    CHECK(strstr(error, "w.bin") != NULL);
    sprag_ane_text_free(error);
    error = NULL;
    sprag_ane_kernel *kernel = sprag_ane_compile(runtime, PROGRAM, &name, &start, &size, 1, &error);
    CHECK(kernel != NULL);
    CHECK(sprag_ane_inputs(kernel) == 1 && sprag_ane_outputs(kernel) == 1);
    CHECK(sprag_ane_input_bytes(kernel, 0) == 128 && sprag_ane_output_bytes(kernel, 7) == 0);

    sprag_ane_surface *input = sprag_ane_surface_new(runtime, 128, NULL);
    sprag_ane_surface *output = sprag_ane_surface_new(runtime, 128, NULL);
    sprag_ane_surface *small = sprag_ane_surface_new(runtime, 64, NULL);
    CHECK(input != NULL && output != NULL && small != NULL && sprag_ane_surface_bytes(small) == 64);
    const sprag_ane_surface *inputs = input, *outputs = output, *too_small = small;
    CHECK(sprag_ane_bind(kernel, &too_small, 1, &outputs, 1, &error) == NULL);
    CHECK(strstr(error, "128 bytes") != NULL);
    sprag_ane_text_free(error);
    error = NULL;
    sprag_ane_request *request = sprag_ane_bind(kernel, &inputs, 1, &outputs, 1, &error);
    CHECK(request != NULL);

    /* Ones in the first channel, twos in the second. */
    uint16_t numbers[64];
    for (int at = 0; at < 64; at++) {
        numbers[at] = at < 32 ? 0x3C00 : 0x4000;
    }
    CHECK(sprag_ane_surface_write(input, 0, (const uint8_t *)numbers, 128, &error) == SPRAG_ANE_OK);
    CHECK(sprag_ane_surface_write(input, 64, (const uint8_t *)numbers, 128, NULL) == SPRAG_ANE_ARGUMENT);
    double seconds = 0.0;
    bool predicted = false;
    CHECK(sprag_ane_evaluate(request, &seconds, &predicted, &error) == SPRAG_ANE_OK);
    CHECK(predicted && seconds > 0.0 && isfinite(seconds));
    CHECK(sprag_ane_surface_read(output, 0, (uint8_t *)numbers, 128, &error) == SPRAG_ANE_OK);
    CHECK(sprag_ane_check_finite(kernel, 0, output, &error) == SPRAG_ANE_OK);
    CHECK(sprag_ane_check_finite(kernel, 1, output, NULL) == SPRAG_ANE_ARGUMENT);
    /* 1 + 4 = 5 and 3 + 8 = 11. */
    CHECK(numbers[0] == 0x4500 && numbers[31] == 0x4500 && numbers[32] == 0x4980);

    /* 60000 + 2 * 60000 is no half, and the device does not say so. */
    for (int at = 0; at < 64; at++) {
        numbers[at] = 0x7B53;
    }
    CHECK(sprag_ane_surface_write(input, 0, (const uint8_t *)numbers, 128, NULL) == SPRAG_ANE_OK);
    CHECK(sprag_ane_evaluate(request, NULL, NULL, NULL) == SPRAG_ANE_OK);
    CHECK(sprag_ane_check_finite(kernel, 0, output, &error) == SPRAG_ANE_FAILED);
    CHECK(strstr(error, "64 numbers that are not finite") != NULL);
    sprag_ane_text_free(error);
    error = NULL;

    char *findings = sprag_ane_check(PROGRAM, "M4", &error);
    CHECK(findings != NULL && strlen(findings) == 0);
    sprag_ane_text_free(findings);
    CHECK(sprag_ane_check("nothing", "M4", &error) == NULL && strstr(error, "expected `program`") != NULL);
    sprag_ane_text_free(error);
    error = NULL;
    CHECK(sprag_ane_evaluate(NULL, NULL, NULL, &error) == SPRAG_ANE_ARGUMENT);
    sprag_ane_text_free(error);

    /* What was made of something outlives it. */
    sprag_ane_kernel_free(kernel);
    sprag_ane_surface_free(input);
    sprag_ane_runtime_free(runtime);
    CHECK(sprag_ane_evaluate(request, NULL, NULL, NULL) == SPRAG_ANE_OK);
    sprag_ane_request_free(request);
    sprag_ane_surface_free(output);
    sprag_ane_surface_free(small);
    sprag_ane_text_free(NULL);
    puts("done");
    return 0;
}
