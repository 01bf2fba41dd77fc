/* The C interface of sprag-ane. Made by cbindgen from src/c.rs; ownership and errors are described there and below. */

#ifndef SPRAG_ANE_H
#define SPRAG_ANE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// How a call ended.
typedef enum {
  // It was done.
  SPRAG_ANE_OK = 0,
  // It was not; the error says why.
  SPRAG_ANE_FAILED = 1,
  // A pointer is null, a text is no UTF-8, or a number is out of range.
  SPRAG_ANE_ARGUMENT = 2,
} sprag_ane_status;

// A loaded program.
typedef struct sprag_ane_kernel sprag_ane_kernel;

// Surfaces bound to a program.
typedef struct sprag_ane_request sprag_ane_request;

// What runs programs.
typedef struct sprag_ane_runtime sprag_ane_runtime;

// Memory of an input or output.
typedef struct sprag_ane_surface sprag_ane_surface;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version; not to be freed.
const char *sprag_ane_version(void);

// Frees a text that this library gave.
//
// # Safety
// `text` is null, or was given by this library and not freed.
void sprag_ane_text_free(char *text);

// An emulator of a chip ("M4"; a wrong name is answered with all names). Its times are predictions.
//
// # Safety
// `chip` is a text; `error` is null or a place for a text.
sprag_ane_runtime *sprag_ane_emulator_new(const char *chip, char **error);

// The device of this machine; null where there is none, and the error says why.
//
// # Safety
// `error` is null or a place for a text.
sprag_ane_runtime *sprag_ane_device_open(char **error);

// Frees a runtime.
//
// # Safety
// It is null, or was given by this library and not freed.
void sprag_ane_runtime_free(sprag_ane_runtime *runtime);

// A surface of at least so many bytes, all zero.
//
// # Safety
// `runtime` is a runtime; `error` is null or a place for a text.
sprag_ane_surface *sprag_ane_surface_new(const sprag_ane_runtime *runtime,
                                         size_t bytes,
                                         char **error);

// A surface's size in bytes; 0 for null.
//
// # Safety
// `surface` is null or a surface.
size_t sprag_ane_surface_bytes(const sprag_ane_surface *surface);

// Copies bytes into a surface, from its byte `offset` on; what does not fit is refused whole.
//
// # Safety
// `surface` is a surface, `from` begins `count` bytes; `error` is null or a place for a text.
sprag_ane_status sprag_ane_surface_write(const sprag_ane_surface *surface,
                                         size_t offset,
                                         const uint8_t *from,
                                         size_t count,
                                         char **error);

// Copies bytes out of a surface, from its byte `offset` on.
//
// # Safety
// `surface` is a surface, `to` begins `count` bytes that may be written; `error` is null or a place for a text.
sprag_ane_status sprag_ane_surface_read(const sprag_ane_surface *surface,
                                        size_t offset,
                                        uint8_t *to,
                                        size_t count,
                                        char **error);

// Frees a surface; what is bound to it keeps it alive.
//
// # Safety
// It is null, or was given by this library and not freed.
void sprag_ane_surface_free(sprag_ane_surface *surface);

// Compiles and loads a program's text with `count` weight files, named as the program names them
// ("@model_path/weights/w.bin").
//
// # Safety
// `runtime` is a runtime, `program` a text; `names`, `files` and `sizes` have `count` entries each, which are texts, beginnings of
// bytes, and how many; `error` is null or a place for a text.
sprag_ane_kernel *sprag_ane_compile(const sprag_ane_runtime *runtime,
                                    const char *program,
                                    const char *const *names,
                                    const uint8_t *const *files,
                                    const size_t *sizes,
                                    size_t count,
                                    char **error);

// How many inputs a program has; 0 for null. They bind in the alphabetical order of their names.
//
// # Safety
// `kernel` is null or a program.
size_t sprag_ane_inputs(const sprag_ane_kernel *kernel);

// How many outputs a program has; 0 for null. They bind in the alphabetical order of their names.
//
// # Safety
// `kernel` is null or a program.
size_t sprag_ane_outputs(const sprag_ane_kernel *kernel);

// Bytes of an input's numbers; 0 where there is none.
//
// # Safety
// `kernel` is null or a program.
size_t sprag_ane_input_bytes(const sprag_ane_kernel *kernel, size_t at);

// Bytes of an output's numbers; 0 where there is none.
//
// # Safety
// `kernel` is null or a program.
size_t sprag_ane_output_bytes(const sprag_ane_kernel *kernel, size_t at);

// Frees a program; requests that were bound keep it alive.
//
// # Safety
// It is null, or was given by this library and not freed.
void sprag_ane_kernel_free(sprag_ane_kernel *kernel);

// Binds surfaces to a program, for many evaluations.
//
// # Safety
// `kernel` is a program; `inputs` and `outputs` begin as many surfaces as are said; `error` is null or a place for a text.
sprag_ane_request *sprag_ane_bind(const sprag_ane_kernel *kernel,
                                  const sprag_ane_surface *const *inputs,
                                  size_t input_count,
                                  const sprag_ane_surface *const *outputs,
                                  size_t output_count,
                                  char **error);

// Evaluates once, and tells how many seconds it took and whether that is predicted; either place may be null. When it fails
// outputs hold what they held.
//
// # Safety
// `request` is a request that nobody else uses; `seconds`, `predicted` and `error` are null or places for such a value.
sprag_ane_status sprag_ane_evaluate(sprag_ane_request *request,
                                    double *seconds,
                                    bool *predicted,
                                    char **error);

// Looks for numbers of an output that are infinite or none, which the device does not tell: `at` is the output's number.
//
// # Safety
// `kernel` is a program, `surface` the surface of that output; `error` is null or a place for a text.
sprag_ane_status sprag_ane_check_finite(const sprag_ane_kernel *kernel,
                                        size_t at,
                                        const sprag_ane_surface *surface,
                                        char **error);

// Frees a request.
//
// # Safety
// It is null, or was given by this library and not freed.
void sprag_ane_request_free(sprag_ane_request *request);

// Writes a weight file of one tensor of halves into `to`, and gives its size; with `to` null, or fewer than that many bytes of
// `room`, nothing is written. Its descriptor stands at byte 64, which a program names.
//
// # Safety
// `halves` begins `count` numbers; `to` is null or begins `room` bytes that may be written.
size_t sprag_ane_blob(const uint16_t *halves,
                      size_t count,
                      uint8_t *to,
                      size_t room);

// What a program breaks on a chip, a line each; an empty text where it breaks nothing, null where it is no program.
//
// # Safety
// `program` and `chip` are texts; `error` is null or a place for a text.
char *sprag_ane_check(const char *program,
                      const char *chip,
                      char **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SPRAG_ANE_H */
