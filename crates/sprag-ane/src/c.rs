//! The interface for C, and for whatever speaks with C: Python's ctypes, Swift, Go. `include/sprag_ane.h` is made from this file.
//!
//! Ownership: what a function named `.._new`, `.._open`, `.._compile`, `.._bind`, `.._blob` or `.._check` gives belongs to the
//! caller, who frees it by the function of that name. Whatever was made of something may outlive it. Errors are texts that the
//! caller frees by `sprag_ane_text_free`; a pointer to take them may be null. Nothing here is to be used from two threads at once,
//! but different objects may.
//!
//! Unsafe code: pointers of the caller are trusted to be what the header says, and are checked for null.

use std::any::Any;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::blob::{BlobType, BlobWriter};
use crate::emulator::Emulator;
use crate::mil::{Program, lint_for};
use crate::profile::Profile;
use crate::runtime::{self, DeviceOptions, Kernel, Request, Runtime, Spent, Surface, Weights};

/// What runs programs.
pub struct SpragAneRuntime(Box<dyn Runtime>);
/// Memory of an input or output.
pub struct SpragAneSurface(Arc<dyn Surface>);
/// A loaded program.
pub struct SpragAneKernel(Arc<dyn Kernel>);
/// Surfaces bound to a program.
pub struct SpragAneRequest(Box<dyn Request>);

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpragAneStatus {
    /// It was done.
    SpragAneOk = 0,
    /// It was not; the error says why.
    SpragAneFailed = 1,
    /// A pointer is null, a text is no UTF-8, or a number is out of range.
    SpragAneArgument = 2,
}

use SpragAneStatus::{SpragAneArgument, SpragAneFailed, SpragAneOk};

/// A failure: its status and text.
struct Failure(SpragAneStatus, String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(SpragAneFailed, error.to_string())
    }
}

fn argument(problem: impl Into<String>) -> Failure {
    Failure(SpragAneArgument, problem.into())
}

fn text(words: String) -> *mut c_char {
    // Zero bytes cannot be told to C.
    CString::new(words.replace('\0', " ")).map_or(std::ptr::null_mut(), CString::into_raw)
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
    format!("this is a mistake of the library's: {}", words.unwrap_or_else(|| "it panicked".to_owned()))
}

/// Runs what a call does; failures and panics become a text.
fn guarded<T>(
    error: *mut *mut c_char,
    call: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, SpragAneStatus> {
    let done = catch_unwind(AssertUnwindSafe(call));
    let Failure(status, words) = match done {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(failure)) => failure,
        Err(panic) => Failure(SpragAneFailed, panicked(panic.as_ref())),
    };
    if !error.is_null() {
        // SAFETY: not null, so it points to a place for a pointer, by the header.
        unsafe { *error = text(words) };
    }
    Err(status)
}

fn pointer<T>(made: Result<T, SpragAneStatus>) -> *mut T {
    made.map_or(std::ptr::null_mut(), |made| Box::into_raw(Box::new(made)))
}

fn status(done: Result<(), SpragAneStatus>) -> SpragAneStatus {
    done.err().unwrap_or(SpragAneOk)
}

/// # Safety
/// `pointer` is null or points to a living object of its type.
unsafe fn given<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as this function demands.
    unsafe { pointer.as_ref() }.ok_or_else(|| argument(format!("`{name}` is null")))
}

/// # Safety
/// `words` is null or a text that ends with zero.
unsafe fn said<'a>(words: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if words.is_null() {
        return Err(argument(format!("`{name}` is null")));
    }
    // SAFETY: as this function demands.
    unsafe { CStr::from_ptr(words) }.to_str().map_err(|_| argument(format!("`{name}` is no UTF-8")))
}

/// # Safety
/// `start` is null or begins `count` objects of its type.
unsafe fn several<'a, T>(start: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if start.is_null() || count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(argument(format!("`{name}` is null, or too long")));
    }
    // SAFETY: as this function demands; the length was checked.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// # Safety
/// `pointer` is null or was made by this library and not freed.
unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: as this function demands: it came out of a box.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// The library's version; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sprag_ane_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// Frees a text that this library gave.
///
/// # Safety
/// `text` is null, or was given by this library and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: as this function demands: it came out of `CString::into_raw`.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// An emulator of a chip ("M4"; a wrong name is answered with all names). Its times are predictions.
///
/// # Safety
/// `chip` is a text; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_emulator_new(
    chip: *const c_char,
    error: *mut *mut c_char,
) -> *mut SpragAneRuntime {
    pointer(guarded(error, || {
        // SAFETY: as this function demands.
        let chip = unsafe { said(chip, "chip") }?;
        let profile = Profile::of(chip).map_err(argument)?;
        Ok(SpragAneRuntime(Box::new(Emulator::new(profile))))
    }))
}

/// The device of this machine; null where there is none, and the error says why.
///
/// # Safety
/// `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_device_open(error: *mut *mut c_char) -> *mut SpragAneRuntime {
    pointer(guarded(error, || Ok(SpragAneRuntime(runtime::device(DeviceOptions::default())?))))
}

/// Frees a runtime.
///
/// # Safety
/// It is null, or was given by this library and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_runtime_free(runtime: *mut SpragAneRuntime) {
    // SAFETY: as this function demands.
    unsafe { free(runtime) };
}

/// A surface of at least so many bytes, all zero.
///
/// # Safety
/// `runtime` is a runtime; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_surface_new(
    runtime: *const SpragAneRuntime,
    bytes: usize,
    error: *mut *mut c_char,
) -> *mut SpragAneSurface {
    pointer(guarded(error, || {
        // SAFETY: as this function demands.
        let runtime = unsafe { given(runtime, "runtime") }?;
        Ok(SpragAneSurface(runtime.0.surface(bytes)?))
    }))
}

/// A surface's size in bytes; 0 for null.
///
/// # Safety
/// `surface` is null or a surface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_surface_bytes(surface: *const SpragAneSurface) -> usize {
    // SAFETY: as this function demands.
    unsafe { surface.as_ref() }.map_or(0, |surface| surface.0.bytes())
}

/// Copies bytes into a surface, from its byte `offset` on; what does not fit is refused whole.
///
/// # Safety
/// `surface` is a surface, `from` begins `count` bytes; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_surface_write(
    surface: *const SpragAneSurface,
    offset: usize,
    from: *const u8,
    count: usize,
    error: *mut *mut c_char,
) -> SpragAneStatus {
    status(guarded(error, || {
        // SAFETY: as this function demands.
        let (surface, from) = unsafe { (given(surface, "surface")?, several(from, count, "from")?) };
        let place = range(surface, offset, count)?;
        surface.0.write(&mut |bytes| bytes[place.clone()].copy_from_slice(from))?;
        Ok(())
    }))
}

/// Copies bytes out of a surface, from its byte `offset` on.
///
/// # Safety
/// `surface` is a surface, `to` begins `count` bytes that may be written; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_surface_read(
    surface: *const SpragAneSurface,
    offset: usize,
    to: *mut u8,
    count: usize,
    error: *mut *mut c_char,
) -> SpragAneStatus {
    status(guarded(error, || {
        // SAFETY: as this function demands.
        let surface = unsafe { given(surface, "surface") }?;
        let place = range(surface, offset, count)?;
        if to.is_null() && count > 0 {
            return Err(argument("`to` is null"));
        }
        surface.0.read(&mut |bytes| {
            let from = &bytes[place.clone()];
            // SAFETY: `to` begins `count` bytes of the caller's, which no surface has.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        })?;
        Ok(())
    }))
}

fn range(surface: &SpragAneSurface, offset: usize, count: usize) -> Result<std::ops::Range<usize>, Failure> {
    let end = offset.checked_add(count).filter(|end| *end <= surface.0.bytes());
    let end = end.ok_or_else(|| {
        argument(format!(
            "{count} bytes from byte {offset} on are more than the {} of the surface",
            surface.0.bytes()
        ))
    })?;
    Ok(offset..end)
}

/// Frees a surface; what is bound to it keeps it alive.
///
/// # Safety
/// It is null, or was given by this library and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_surface_free(surface: *mut SpragAneSurface) {
    // SAFETY: as this function demands.
    unsafe { free(surface) };
}

/// Compiles and loads a program's text with `count` weight files, named as the program names them
/// ("@model_path/weights/w.bin").
///
/// # Safety
/// `runtime` is a runtime, `program` a text; `names`, `files` and `sizes` have `count` entries each, which are texts, beginnings of
/// bytes, and how many; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_compile(
    runtime: *const SpragAneRuntime,
    program: *const c_char,
    names: *const *const c_char,
    files: *const *const u8,
    sizes: *const usize,
    count: usize,
    error: *mut *mut c_char,
) -> *mut SpragAneKernel {
    pointer(guarded(error, || {
        // SAFETY: as this function demands.
        let (runtime, program) = unsafe { (given(runtime, "runtime")?, said(program, "program")?) };
        // SAFETY: as this function demands.
        let (names, files, sizes) = unsafe {
            (
                several(names, count, "names")?,
                several(files, count, "files")?,
                several(sizes, count, "sizes")?,
            )
        };
        let mut weights = Weights::new();
        for ((name, file), size) in names.iter().zip(files).zip(sizes) {
            // SAFETY: as this function demands.
            let (name, file) = unsafe { (said(*name, "names")?, several(*file, *size, "files")?) };
            weights.insert(name.to_owned(), file.to_vec());
        }
        let program = Program::parse(program)?;
        Ok(SpragAneKernel(runtime.0.compile(&program, &weights)?))
    }))
}

/// How many inputs a program has; 0 for null. They bind in the alphabetical order of their names.
///
/// # Safety
/// `kernel` is null or a program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_inputs(kernel: *const SpragAneKernel) -> usize {
    // SAFETY: as this function demands.
    unsafe { kernel.as_ref() }.map_or(0, |kernel| kernel.0.inputs().len())
}

/// How many outputs a program has; 0 for null. They bind in the alphabetical order of their names.
///
/// # Safety
/// `kernel` is null or a program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_outputs(kernel: *const SpragAneKernel) -> usize {
    // SAFETY: as this function demands.
    unsafe { kernel.as_ref() }.map_or(0, |kernel| kernel.0.outputs().len())
}

/// Bytes of an input's numbers; 0 where there is none.
///
/// # Safety
/// `kernel` is null or a program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_input_bytes(kernel: *const SpragAneKernel, at: usize) -> usize {
    // SAFETY: as this function demands.
    unsafe { kernel.as_ref() }.and_then(|kernel| kernel.0.inputs().get(at)).map_or(0, runtime::Port::bytes)
}

/// Bytes of an output's numbers; 0 where there is none.
///
/// # Safety
/// `kernel` is null or a program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_output_bytes(kernel: *const SpragAneKernel, at: usize) -> usize {
    // SAFETY: as this function demands.
    unsafe { kernel.as_ref() }.and_then(|kernel| kernel.0.outputs().get(at)).map_or(0, runtime::Port::bytes)
}

/// Frees a program; requests that were bound keep it alive.
///
/// # Safety
/// It is null, or was given by this library and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_kernel_free(kernel: *mut SpragAneKernel) {
    // SAFETY: as this function demands.
    unsafe { free(kernel) };
}

/// Binds surfaces to a program, for many evaluations.
///
/// # Safety
/// `kernel` is a program; `inputs` and `outputs` begin as many surfaces as are said; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_bind(
    kernel: *const SpragAneKernel,
    inputs: *const *const SpragAneSurface,
    input_count: usize,
    outputs: *const *const SpragAneSurface,
    output_count: usize,
    error: *mut *mut c_char,
) -> *mut SpragAneRequest {
    pointer(guarded(error, || {
        // SAFETY: as this function demands.
        let kernel = unsafe { given(kernel, "kernel") }?;
        let surfaces = |start: *const *const SpragAneSurface,
                        count,
                        name: &str|
         -> Result<Vec<Arc<dyn Surface>>, Failure> {
            // SAFETY: as this function demands.
            let all = unsafe { several(start, count, name) }?;
            // SAFETY: the same.
            all.iter().map(|own| Ok(unsafe { given(*own, name) }?.0.clone())).collect()
        };
        let (inputs, outputs) =
            (surfaces(inputs, input_count, "inputs")?, surfaces(outputs, output_count, "outputs")?);
        Ok(SpragAneRequest(kernel.0.bind(&inputs, &outputs)?))
    }))
}

/// Evaluates once, and tells how many seconds it took and whether that is predicted; either place may be null. When it fails
/// outputs hold what they held.
///
/// # Safety
/// `request` is a request that nobody else uses; `seconds`, `predicted` and `error` are null or places for such a value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_evaluate(
    request: *mut SpragAneRequest,
    seconds: *mut f64,
    predicted: *mut bool,
    error: *mut *mut c_char,
) -> SpragAneStatus {
    status(guarded(error, || {
        // SAFETY: as this function demands.
        let request = unsafe { request.as_mut() }.ok_or_else(|| argument("`request` is null"))?;
        let spent = request.0.evaluate()?;
        if !seconds.is_null() {
            // SAFETY: not null, so a place for a number.
            unsafe { *seconds = spent.seconds() };
        }
        if !predicted.is_null() {
            // SAFETY: not null, so a place for a flag.
            unsafe { *predicted = matches!(spent, Spent::Predicted(_)) };
        }
        Ok(())
    }))
}

/// Looks for numbers of an output that are infinite or none, which the device does not tell: `at` is the output's number.
///
/// # Safety
/// `kernel` is a program, `surface` the surface of that output; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_check_finite(
    kernel: *const SpragAneKernel,
    at: usize,
    surface: *const SpragAneSurface,
    error: *mut *mut c_char,
) -> SpragAneStatus {
    status(guarded(error, || {
        // SAFETY: as this function demands.
        let (kernel, surface) = unsafe { (given(kernel, "kernel")?, given(surface, "surface")?) };
        let port = kernel.0.outputs().get(at).ok_or_else(|| argument(format!("there is no output {at}")))?;
        Ok(runtime::check_finite(port, surface.0.as_ref())?)
    }))
}

/// Frees a request.
///
/// # Safety
/// It is null, or was given by this library and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_request_free(request: *mut SpragAneRequest) {
    // SAFETY: as this function demands.
    unsafe { free(request) };
}

/// Writes a weight file of one tensor of halves into `to`, and gives its size; with `to` null, or fewer than that many bytes of
/// `room`, nothing is written. Its descriptor stands at byte 64, which a program names.
///
/// # Safety
/// `halves` begins `count` numbers; `to` is null or begins `room` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_blob(halves: *const u16, count: usize, to: *mut u8, room: usize) -> usize {
    let file = guarded(std::ptr::null_mut(), || {
        // SAFETY: as this function demands.
        let halves = unsafe { several(halves, count, "halves") }?;
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut writer = BlobWriter::new();
        writer.add(BlobType::Fp16, &bytes)?;
        Ok(writer.finish())
    });
    let Ok(file) = file else { return 0 };
    if !to.is_null() && room >= file.len() {
        // SAFETY: `to` begins at least so many bytes, which the caller owns.
        unsafe { std::ptr::copy_nonoverlapping(file.as_ptr(), to, file.len()) };
    }
    file.len()
}

/// What a program breaks on a chip, a line each; an empty text where it breaks nothing, null where it is no program.
///
/// # Safety
/// `program` and `chip` are texts; `error` is null or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sprag_ane_check(
    program: *const c_char,
    chip: *const c_char,
    error: *mut *mut c_char,
) -> *mut c_char {
    let found = guarded(error, || {
        // SAFETY: as this function demands.
        let (program, chip) = unsafe { (said(program, "program")?, said(chip, "chip")?) };
        let profile = Profile::of(chip).map_err(argument)?;
        let findings = lint_for(&Program::parse(program)?, &profile);
        Ok(findings
            .iter()
            .map(|finding| format!("{}: {finding}\n", finding.effect.words()))
            .collect::<String>())
    });
    found.map_or(std::ptr::null_mut(), text)
}
