//! Objects of the framework and the messages that go to them. Every message is one of [`super::super::calls`]; every object is
//! retained for as long as it is held.

use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use objc2::encode::{EncodeArguments, EncodeReturn};
use objc2::msg_send;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, Bool, MessageReceiver, Sel};
use objc2_core_foundation::{CFDictionary, CFNumber, CFRetained, CFString};
use objc2_foundation::{NSArray, NSData, NSDictionary, NSError, NSNumber, NSString, NSTemporaryDirectory};
use objc2_io_surface::{
    IOSurfaceLockOptions, IOSurfaceRef, kIOSurfaceAllocSize, kIOSurfaceBytesPerElement,
    kIOSurfaceBytesPerRow, kIOSurfaceHeight, kIOSurfacePixelFormat, kIOSurfaceWidth,
};

use super::silent;
use crate::runtime::calls::{self, Call};
use crate::runtime::errors::{self, Phase};
use crate::runtime::{RuntimeError, Surface, Weights};

/// An object that may be used from any thread.
struct Shared(Retained<AnyObject>);

// SAFETY: the framework's objects are used from one thread at a time: a model's messages are sent under its own lock, and
// descriptors, wrapped surfaces and requests are not changed once they are made. Reference counts are atomic.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

fn selector(call: &Call) -> Result<Sel, RuntimeError> {
    let name = CString::new(call.selector)
        .map_err(|_| RuntimeError::System(format!("`{}` is no selector", call.selector)))?;
    Ok(Sel::register(&name))
}

/// Sends a message whose answer is an object, and keeps that.
///
/// # Safety
/// The receiver answers `call` with an object or nil, and `arguments` are of the types that `call` lists.
unsafe fn object<A: EncodeArguments>(
    receiver: &AnyObject,
    call: &Call,
    arguments: A,
) -> Result<Shared, RuntimeError> {
    let selector = selector(call)?;
    // SAFETY: as this function demands.
    let answer: *mut AnyObject = unsafe { receiver.send_message(selector, arguments) };
    // SAFETY: an object that a message gives is alive at least until the pool around it is drained; it is retained before.
    let kept = unsafe { Retained::retain(answer) };
    kept.map(Shared).ok_or_else(|| RuntimeError::System(format!("`{}` gave nothing", call.selector)))
}

/// Sends a message whose answer is a number or a flag.
///
/// # Safety
/// As [`object`], with an answer of that type.
unsafe fn plain<A: EncodeArguments, R: EncodeReturn>(
    receiver: &AnyObject,
    call: &Call,
    arguments: A,
) -> Result<R, RuntimeError> {
    let selector = selector(call)?;
    // SAFETY: as this function demands.
    Ok(unsafe { receiver.send_message(selector, arguments) })
}

fn class(name: &str) -> Result<&'static AnyClass, RuntimeError> {
    let text = CString::new(name).map_err(|_| RuntimeError::System(format!("`{name}` is no class")))?;
    AnyClass::get(&text).ok_or_else(|| RuntimeError::Absent(format!("this system has no class `{name}`")))
}

/// The framework's classes.
pub struct Framework {
    descriptor: &'static AnyClass,
    model: &'static AnyClass,
    request: &'static AnyClass,
    surface: &'static AnyClass,
}

impl Framework {
    /// Loads it.
    pub fn load() -> Result<Framework, RuntimeError> {
        let path = CString::new(calls::FRAMEWORK)
            .map_err(|_| RuntimeError::System("the framework's path has a zero byte".to_owned()))?;
        // SAFETY: a path that ends with zero; the library's initialisers are the system's own.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            // SAFETY: after a failed dlopen, dlerror gives a text that ends with zero, or null.
            let why = unsafe { libc::dlerror() };
            let why = match why.is_null() {
                true => "it did not say why".to_owned(),
                // SAFETY: just checked; the text is copied before the next call of dlopen.
                false => unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned(),
            };
            return Err(RuntimeError::Absent(format!("{} does not load: {why}", calls::FRAMEWORK)));
        }
        Ok(Framework {
            descriptor: class(calls::DESCRIPTOR.class)?,
            model: class(calls::MODEL.class)?,
            request: class(calls::REQUEST.class)?,
            surface: class(calls::WRAP.class)?,
        })
    }
}

/// The machine's chip, as the system calls it.
pub fn chip() -> String {
    let name = c"machdep.cpu.brand_string";
    let mut bytes = [0_u8; 128];
    let mut size = bytes.len();
    // SAFETY: name ends with zero, buffer and size belong together, nothing is set.
    let failed = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            bytes.as_mut_ptr().cast::<c_void>(),
            &mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    let text = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy);
    match text {
        Ok(text) if failed == 0 && !text.is_empty() => text.into_owned(),
        _ => "an unknown chip".to_owned(),
    }
}

/// The folder in which the framework looks for programs.
pub fn temporary_folder() -> PathBuf {
    PathBuf::from(NSTemporaryDirectory().to_string())
}

/// A failed message's error.
fn told(phase: Phase, error: *mut NSError) -> RuntimeError {
    // SAFETY: an error that was written by a message is alive until the pool around it is drained, or null.
    match unsafe { error.as_ref() } {
        Some(error) => {
            let text = format!("{}", error.localizedDescription());
            errors::of(phase, &error.domain().to_string(), error.code() as i64, &text)
        }
        None => silent(phase),
    }
}

/// A model.
pub struct Model {
    object: Shared,
    /// Messages go one at a time.
    lock: Mutex<()>,
}

impl Model {
    /// Describes a program and makes a model of it.
    pub fn new(framework: &Framework, text: &str, weights: &Weights) -> Result<Model, RuntimeError> {
        autoreleasepool(|_| {
            let text = NSData::with_bytes(text.as_bytes());
            let names: Vec<Retained<NSString>> =
                weights.keys().map(|name| NSString::from_str(name)).collect();
            let files: Vec<Retained<NSDictionary<NSString, AnyObject>>> = weights
                .values()
                .map(|bytes| {
                    let offset = NSNumber::new_u64(0);
                    let data = NSData::with_bytes(bytes);
                    let (first, second): (&AnyObject, &AnyObject) = (&offset, &data);
                    NSDictionary::from_slices(
                        &[&*NSString::from_str("offset"), &*NSString::from_str("data")],
                        &[first, second],
                    )
                })
                .collect();
            let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
            let files: Vec<&NSDictionary<NSString, AnyObject>> = files.iter().map(|file| &**file).collect();
            // Empty rather than nil where there are no weights: nil crashes (Orion, constraint 11).
            let files = NSDictionary::from_slices(&names, &files);
            let nothing: *const AnyObject = std::ptr::null();
            let text: *const NSData = &*text;
            let files: *const NSDictionary<NSString, NSDictionary<NSString, AnyObject>> = &*files;
            // SAFETY: the class answers this message, with these arguments, by the table's sources.
            let descriptor = unsafe {
                object(
                    framework.descriptor.as_ref(),
                    &calls::DESCRIPTOR,
                    (text.cast::<AnyObject>(), files.cast::<AnyObject>(), nothing),
                )
            }?;
            let descriptor: *const AnyObject = &*descriptor.0;
            // SAFETY: the same.
            let model = unsafe { object(framework.model.as_ref(), &calls::MODEL, (descriptor,)) }?;
            Ok(Model { object: model, lock: Mutex::new(()) })
        })
    }

    /// Its name by content; empty where the framework gives none.
    pub fn identifier(&self) -> String {
        autoreleasepool(|_| {
            // SAFETY: a model answers this message with a string.
            let name = unsafe { object(&self.object.0, &calls::IDENTIFIER, ()) };
            let name = name.ok().and_then(|name| name.0.downcast::<NSString>().ok());
            name.map_or_else(String::new, |name| name.to_string())
        })
    }

    /// Whether it was compiled before.
    pub fn is_compiled(&self) -> bool {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a model answers this message with a flag.
        let there: Result<Bool, _> = unsafe { plain(&self.object.0, &calls::COMPILED, ()) };
        there.is_ok_and(Bool::as_bool)
    }

    fn with_options(&self, phase: Phase, call: &Call) -> Result<(), RuntimeError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            let options = NSDictionary::<NSString, AnyObject>::new();
            let options: *const NSDictionary<NSString, AnyObject> = &*options;
            let mut error: *mut NSError = std::ptr::null_mut();
            let out: *mut *mut NSError = &mut error;
            // SAFETY: a model answers these messages with a flag, and writes an error that lives as long as this pool.
            let done: Bool =
                unsafe { plain(&self.object.0, call, (calls::QOS, options.cast::<AnyObject>(), out)) }?;
            if done.as_bool() { Ok(()) } else { Err(told(phase, error)) }
        })
    }

    /// Compiles it.
    pub fn compile(&self) -> Result<(), RuntimeError> {
        self.with_options(Phase::Compile, &calls::COMPILE)
    }

    /// Puts it on the device.
    pub fn load(&self) -> Result<(), RuntimeError> {
        self.with_options(Phase::Load, &calls::LOAD)
    }

    /// Takes it off the device.
    pub fn unload(&self) -> Result<(), RuntimeError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            let mut error: *mut NSError = std::ptr::null_mut();
            let out: *mut *mut NSError = &mut error;
            // SAFETY: as above.
            let done: Bool = unsafe { plain(&self.object.0, &calls::UNLOAD, (calls::QOS, out)) }?;
            if done.as_bool() { Ok(()) } else { Err(told(Phase::Load, error)) }
        })
    }

    /// Evaluates once, through the daemon.
    pub fn evaluate(&self, request: &Bound) -> Result<(), RuntimeError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            let options = NSDictionary::<NSString, AnyObject>::new();
            let options: *const NSDictionary<NSString, AnyObject> = &*options;
            let request: *const AnyObject = &*request.0.0;
            let mut error: *mut NSError = std::ptr::null_mut();
            let out: *mut *mut NSError = &mut error;
            // SAFETY: as above; the request's surfaces are held by whoever holds the request.
            let done: Bool = unsafe {
                plain(
                    &self.object.0,
                    &calls::EVALUATE,
                    (calls::QOS, options.cast::<AnyObject>(), request, out),
                )
            }?;
            if done.as_bool() { Ok(()) } else { Err(told(Phase::Evaluate, error)) }
        })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // A model that was never loaded says so, and there is nobody left to tell.
        let _ = self.unload();
    }
}

/// A client of the driver.
pub struct Client(Shared);

impl Client {
    /// Makes one.
    pub fn new(_: &Framework) -> Result<Client, RuntimeError> {
        let class = class(calls::CLIENT.class)?;
        autoreleasepool(|_| {
            // SAFETY: every class answers `alloc` with an object that has to be initialised.
            let fresh: *mut AnyObject = unsafe { msg_send![class, alloc] };
            let fresh = NonNull::new(fresh)
                .ok_or_else(|| RuntimeError::System("a client cannot be made".to_owned()))?;
            let selector = selector(&calls::CLIENT)?;
            // SAFETY: the object is fresh; initialising takes it over and gives one that is ours.
            let client: *mut AnyObject = unsafe { fresh.as_ref().send_message(selector, (Bool::YES,)) };
            // SAFETY: what an initialiser gives is owned by who called it.
            let client = unsafe { Retained::from_raw(client) };
            client
                .map(|client| Client(Shared(client)))
                .ok_or_else(|| RuntimeError::Absent("the client may not reach the device".to_owned()))
        })
    }

    /// Evaluates once, past the daemon or in real time.
    pub fn evaluate(&self, model: &Model, request: &Bound, real_time: bool) -> Result<(), RuntimeError> {
        let _one = model.lock.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            // SAFETY: a model answers this message with an object.
            let inner = unsafe { object(&model.object.0, &calls::INNER_MODEL, ()) }?;
            let inner: *const AnyObject = &*inner.0;
            let options = NSDictionary::<NSString, AnyObject>::new();
            let options: *const NSDictionary<NSString, AnyObject> = &*options;
            let options = options.cast::<AnyObject>();
            let request: *const AnyObject = &*request.0.0;
            let mut error: *mut NSError = std::ptr::null_mut();
            let out: *mut *mut NSError = &mut error;
            let call = if real_time { &calls::REAL_TIME } else { &calls::DIRECT };
            let selector = selector(call)?;
            // SAFETY: every object answers this message with a flag.
            let answers: Bool = unsafe { msg_send![&*self.0.0, respondsToSelector: selector] };
            if !answers.as_bool() {
                return Err(RuntimeError::Absent(format!("the client does not know `{}`", call.selector)));
            }
            let done: Bool = match real_time {
                // SAFETY: it answers the message, whose arguments are as the table's sources give them.
                true => unsafe { plain(&self.0.0, call, (inner, options, request, out)) }?,
                // SAFETY: the same.
                false => unsafe { plain(&self.0.0, call, (inner, options, request, calls::QOS, out)) }?,
            };
            if done.as_bool() { Ok(()) } else { Err(told(Phase::Evaluate, error)) }
        })
    }
}

/// A surface in the framework's own wrapping.
pub struct Wrapped(Shared);

/// Surfaces bound to ports.
pub struct Bound(Shared);

impl Bound {
    /// Binds surfaces by the numbers of their ports.
    pub fn new(
        framework: &Framework,
        inputs: &[Wrapped],
        outputs: &[Wrapped],
    ) -> Result<Bound, RuntimeError> {
        autoreleasepool(|_| {
            let objects = |all: &[Wrapped]| {
                let all: Vec<&AnyObject> = all.iter().map(|own| &*own.0.0).collect();
                NSArray::from_slice(&all)
            };
            let numbers = |count: usize| {
                let all: Vec<Retained<NSNumber>> = (0..count).map(NSNumber::new_usize).collect();
                NSArray::from_retained_slice(&all)
            };
            let (ins, outs) = (objects(inputs), objects(outputs));
            let (in_numbers, out_numbers) = (numbers(inputs.len()), numbers(outputs.len()));
            let procedure = NSNumber::new_usize(0);
            fn raw<T: objc2::Message>(own: &Retained<T>) -> *const AnyObject {
                let own: *const T = &**own;
                own.cast()
            }
            let nothing: *const AnyObject = std::ptr::null();
            let arguments = (
                raw(&ins),
                raw(&in_numbers),
                raw(&outs),
                raw(&out_numbers),
                nothing,
                nothing,
                raw(&procedure),
            );
            // SAFETY: the class answers this message, with these arguments, by the table's sources.
            let request = unsafe { object(framework.request.as_ref(), &calls::REQUEST, arguments) }?;
            Ok(Bound(request))
        })
    }
}

/// A surface that host and device share.
pub struct IoSurface {
    surface: CFRetained<IOSurfaceRef>,
    bytes: usize,
    /// The host reads or writes it one at a time.
    lock: Mutex<()>,
}

// SAFETY: surfaces are made to be shared between processes; their memory is reached under the surface's own lock, and within
// this process under `lock`.
unsafe impl Send for IoSurface {}
// SAFETY: the same.
unsafe impl Sync for IoSurface {}

impl IoSurface {
    /// Makes one row of so many bytes.
    pub fn new(bytes: usize) -> Result<IoSurface, RuntimeError> {
        let count = i64::try_from(bytes)
            .map_err(|_| RuntimeError::Surfaces(format!("{bytes} bytes are too many")))?;
        let number = CFNumber::new_i64;
        let (size, one, zero) = (number(count), number(1), number(0));
        // SAFETY: constants of the framework, which is linked and never unloaded.
        let keys: [&CFString; 6] = unsafe {
            [
                kIOSurfaceWidth,
                kIOSurfaceHeight,
                kIOSurfaceBytesPerElement,
                kIOSurfaceBytesPerRow,
                kIOSurfaceAllocSize,
                kIOSurfacePixelFormat,
            ]
        };
        let values: [&CFNumber; 6] = [&size, &one, &one, &size, &size, &zero];
        let properties = CFDictionary::<CFString, CFNumber>::from_slices(&keys, &values);
        let properties: &CFDictionary = properties.as_ref();
        // SAFETY: the dictionary has strings of the framework as keys and numbers as values, as it wants them.
        let surface = unsafe { IOSurfaceRef::new(properties) };
        let surface = surface
            .ok_or_else(|| RuntimeError::Surfaces(format!("the system has no surface of {bytes} bytes")))?;
        let bytes = surface.alloc_size().min(bytes);
        Ok(IoSurface { surface, bytes, lock: Mutex::new(()) })
    }

    /// For requests.
    pub fn wrapped(&self, framework: &Framework) -> Result<Wrapped, RuntimeError> {
        autoreleasepool(|_| {
            let surface: *const IOSurfaceRef = &*self.surface;
            // SAFETY: the class answers this message, which takes a surface and retains it.
            unsafe { object(framework.surface.as_ref(), &calls::WRAP, (surface,)) }.map(Wrapped)
        })
    }

    fn locked(
        &self,
        options: IOSurfaceLockOptions,
        with: &mut dyn FnMut(*mut u8),
    ) -> Result<(), RuntimeError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no seed is asked for.
        let status = unsafe { self.surface.lock(options, std::ptr::null_mut()) };
        if status != 0 {
            return Err(RuntimeError::Surfaces(format!("a surface cannot be locked ({status:#x})")));
        }
        with(self.surface.base_address().as_ptr().cast());
        // SAFETY: it was locked with these options just before.
        let status = unsafe { self.surface.unlock(options, std::ptr::null_mut()) };
        match status {
            0 => Ok(()),
            _ => Err(RuntimeError::Surfaces(format!("a surface cannot be unlocked ({status:#x})"))),
        }
    }
}

impl Surface for IoSurface {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(&self, with: &mut dyn FnMut(&[u8])) -> Result<(), RuntimeError> {
        self.locked(IOSurfaceLockOptions::ReadOnly, &mut |start| {
            // SAFETY: a locked surface has its memory at the base address, `bytes` long; nobody writes while it is locked.
            with(unsafe { std::slice::from_raw_parts(start, self.bytes) });
        })
    }

    fn write(&self, with: &mut dyn FnMut(&mut [u8])) -> Result<(), RuntimeError> {
        self.locked(IOSurfaceLockOptions::empty(), &mut |start| {
            // SAFETY: the same, and `lock` keeps others of this process away.
            with(unsafe { std::slice::from_raw_parts_mut(start, self.bytes) });
        })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
