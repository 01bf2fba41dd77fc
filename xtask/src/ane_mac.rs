//! Builds the Neural Engine's crate for a Mac on any machine: checks and lints it for `aarch64-apple-darwin`, links an executable
//! and the shared library against stubs, and reads what came out. Nothing of Apple's is needed: the stubs are text that names the
//! symbols which the code uses, so a link proves names against our own list alone. Nothing that comes out is run.
//!
//! Where the target's standard library is not installed it is asked of rustup, else built from Debian's compiler and its sources;
//! where neither can be had this fails.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::read::macho::{LoadCommandVariant, MachHeader};
use object::{Endianness, macho};
use sprag_measure::process::{self, Output};

const TARGET: &str = "aarch64-apple-darwin";

const CORE_FOUNDATION: &str = "
    _CFDictionaryCreate _CFNumberCreate _CFRelease _kCFTypeDictionaryKeyCallBacks
    _kCFTypeDictionaryValueCallBacks
";

const IO_SURFACE: &str = "
    _IOSurfaceCreate _IOSurfaceGetAllocSize _IOSurfaceGetBaseAddress _IOSurfaceLock _IOSurfaceUnlock
    _kIOSurfaceAllocSize _kIOSurfaceBytesPerElement _kIOSurfaceBytesPerRow _kIOSurfaceHeight
    _kIOSurfacePixelFormat _kIOSurfaceWidth
";

const FOUNDATION: &str = "
    _NSTemporaryDirectory
";

const OBJC: &str = "
    _class_getInstanceMethod _class_getName _class_isMetaClass _method_getName _method_getTypeEncoding
    _objc_alloc _objc_autoreleasePoolPop _objc_autoreleasePoolPush _objc_getClass _objc_msgSend
    _objc_release _objc_retain _objc_retainAutoreleasedReturnValue _object_getClass _sel_getName
    _sel_registerName
";

const SYSTEM: &str = "
    dyld_stub_binder
    __Unwind_Backtrace __Unwind_DeleteException __Unwind_GetDataRelBase __Unwind_GetIP
    __Unwind_GetIPInfo __Unwind_GetLanguageSpecificData __Unwind_GetRegionStart __Unwind_GetTextRelBase
    __Unwind_RaiseException __Unwind_Resume __Unwind_SetGR __Unwind_SetIP ___error
    __dyld_get_image_header __dyld_get_image_name __dyld_get_image_vmaddr_slide __dyld_image_count
    __tlv_atexit __tlv_bootstrap _abort _bzero _calloc _chmod _clock_gettime _close _closedir
    _copyfile_state_alloc _copyfile_state_free _copyfile_state_get _dirfd _dispatch_release
    _dispatch_semaphore_create _dispatch_semaphore_signal _dispatch_semaphore_wait _dlerror _dlopen _dup
    _exp _expf _fchmod _fclonefileat _fcntl _fcopyfile _fdopendir _free _fstat _getcwd _getenv _getpid
    _log1pf _logf _lstat _malloc _memcmp _memcpy _memmove _memset _memset_pattern16 _mkdir _mmap
    _mprotect _munmap _nanosleep _open _openat _opendir _pause _posix_memalign _powf
    _pthread_attr_destroy _pthread_attr_init _pthread_attr_setstacksize _pthread_cond_broadcast
    _pthread_cond_destroy _pthread_cond_signal _pthread_cond_wait _pthread_create _pthread_detach
    _pthread_get_stackaddr_np _pthread_get_stacksize_np _pthread_mutex_destroy _pthread_mutex_init
    _pthread_mutex_lock _pthread_mutex_trylock _pthread_mutex_unlock _pthread_mutexattr_destroy
    _pthread_mutexattr_init _pthread_mutexattr_settype _pthread_self _pthread_setname_np
    _pthread_threadid_np _readdir_r _realloc _rename _sched_yield _sigaction _sigaltstack _signal _stat
    _strerror_r _strlen _sysconf _sysctl _sysctlbyname _sysctlnametomib _tanhf _unlink _unlinkat _write
    _writev
";

/// A library that is linked against: where its stub lies in the stand-in for an SDK, what it is called on a Mac, its symbols.
const LIBRARIES: [(&str, &str, &str); 8] = [
    ("usr/lib/libSystem", "/usr/lib/libSystem.B.dylib", SYSTEM),
    ("usr/lib/libc", "/usr/lib/libSystem.B.dylib", SYSTEM),
    ("usr/lib/libm", "/usr/lib/libSystem.B.dylib", SYSTEM),
    ("usr/lib/libiconv", "/usr/lib/libiconv.2.dylib", ""),
    ("usr/lib/libobjc", "/usr/lib/libobjc.A.dylib", OBJC),
    (
        "System/Library/Frameworks/CoreFoundation.framework/CoreFoundation",
        "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
        CORE_FOUNDATION,
    ),
    (
        "System/Library/Frameworks/Foundation.framework/Foundation",
        "/System/Library/Frameworks/Foundation.framework/Versions/C/Foundation",
        FOUNDATION,
    ),
    (
        "System/Library/Frameworks/IOSurface.framework/IOSurface",
        "/System/Library/Frameworks/IOSurface.framework/Versions/A/IOSurface",
        IO_SURFACE,
    ),
];

/// A stub in the text form of libraries (TAPI, version 4).
fn stub(install_name: &str, symbols: &str) -> String {
    let symbols: Vec<&str> = symbols.split_whitespace().collect();
    format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{install_name}'\nexports:\n  \
         - targets: [ arm64-macos ]\n    symbols: [ {} ]\n...\n",
        symbols.join(", ")
    )
}

/// Does all of it.
pub fn run(root: &Path) -> Result<String> {
    let tools = Tools::find(root)?;
    let lint = ["clippy", "--locked", "--package", "sprag-ane", "--", "-D", "warnings"];
    if tools.lints {
        tools.cargo(root, &lint, &[])?;
    } else {
        tools.cargo(root, &["check", "--locked", "--package", "sprag-ane"], &[])?;
    }
    let sdk = crate::target(root).join("mac-stubs");
    for (path, install_name, symbols) in LIBRARIES {
        let file = sdk.join(path).with_extension("tbd");
        let folder = file.parent().context("a stub has a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(&file, stub(install_name, symbols))?;
    }
    let linker = |folder: &str| {
        format!(
            "-Clink-arg={folder}{}",
            sdk.join(match folder {
                "-F" => "System/Library/Frameworks",
                _ => "usr/lib",
            })
            .display()
        )
    };
    let flags = format!("-Clinker-flavor=ld64.lld {} {}", linker("-F"), linker("-L"));
    let variables = [
        ("SDKROOT", sdk.clone().into_os_string()),
        ("CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER", tools.linker.clone().into_os_string()),
        ("CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS", flags.into()),
    ];
    let build = ["build", "--locked", "--profile", "foreign", "--package", "sprag-ane", "--lib", "--bins"];
    tools.cargo(root, &build, &variables)?;
    let folder = crate::target(root).join(TARGET).join("foreign");
    let program = read(&folder.join("ane-device"), macho::MH_EXECUTE)?;
    let library = read(&folder.join("libsprag_ane.dylib"), macho::MH_DYLIB)?;
    Ok(format!("{program}; {library}"))
}

/// Checks that a file is for this kind of Mac and loads what it should.
fn read(path: &Path, kind: u32) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let header = macho::MachHeader64::<Endianness>::parse(&*bytes, 0)
        .with_context(|| format!("{name} is no Mach-O file"))?;
    let endian = header.endian().with_context(|| format!("{name} is no Mach-O file"))?;
    ensure!(header.cputype(endian) == macho::CPU_TYPE_ARM64, "{name} is for {:#x}", header.cputype(endian));
    ensure!(header.filetype(endian) == kind, "{name} is of kind {}", header.filetype(endian));
    let (mut platform, mut loaded) = (None, Vec::new());
    let mut commands = header.load_commands(endian, &*bytes, 0)?;
    while let Some(command) = commands.next()? {
        match command.variant()? {
            LoadCommandVariant::BuildVersion(version) => platform = Some(version.platform.get(endian)),
            LoadCommandVariant::Dylib(library) if command.cmd() == macho::LC_LOAD_DYLIB => {
                let text = command.string(endian, library.dylib.name)?;
                loaded.push(String::from_utf8_lossy(text).into_owned());
            }
            _ => {}
        }
    }
    ensure!(platform == Some(macho::PLATFORM_MACOS), "{name} says platform {platform:?}");
    for wanted in ["libSystem.B.dylib", "libobjc.A.dylib", "CoreFoundation", "Foundation", "IOSurface"] {
        ensure!(loaded.iter().any(|own| own.ends_with(wanted)), "{name} does not load {wanted}: {loaded:?}");
    }
    let strange: Vec<&String> =
        loaded.iter().filter(|own| !LIBRARIES.iter().any(|(_, name, _)| name == &own.as_str())).collect();
    ensure!(strange.is_empty(), "{name} loads {strange:?}");
    let private = loaded.iter().any(|own| own.contains("PrivateFrameworks"));
    ensure!(!private, "{name} links the private framework, which is to be loaded at run time");
    Ok(format!("{name} is arm64, {} KiB, and loads {} libraries", bytes.len() / 1024, loaded.len()))
}

/// A compiler for the target, and what links.
struct Tools {
    cargo: PathBuf,
    linker: PathBuf,
    /// Whether Clippy is there.
    lints: bool,
    /// Further arguments and variables of every build.
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

fn call(program: &Path, words: &[&str], folder: &Path, variables: &[(OsString, OsString)]) -> Result<Output> {
    process::output(program.as_os_str(), words, folder, variables)
        .with_context(|| format!("start {}", program.display()))
}

fn environment() -> Vec<(OsString, OsString)> {
    // A chore is started by a person or by CI: the environment is theirs.
    std::env::vars_os().collect()
}

impl Tools {
    fn find(root: &Path) -> Result<Tools> {
        let own = environment();
        let rustc = PathBuf::from("rustc");
        let asked = |words: &[&str]| -> Result<PathBuf> {
            let output = call(&rustc, words, root, &own)?;
            ensure!(output.success(), "rustc {}: {}", words.join(" "), output.error_text());
            Ok(PathBuf::from(output.text().trim()))
        };
        let sysroot = asked(&["--print", "sysroot"])?;
        let host = call(&rustc, &["-vV"], root, &own)?.text();
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc tells its host")?
            .to_owned();
        let linker = sysroot.join("lib/rustlib").join(&host).join("bin/rust-lld");
        let library = asked(&["--print", "target-libdir", "--target", TARGET])?;
        if !library.is_dir() {
            let added = call(Path::new("rustup"), &["target", "add", TARGET], root, &own);
            if !added.as_ref().is_ok_and(Output::success) || !library.is_dir() {
                let why = match added {
                    Ok(output) => output.error_text().to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                eprintln!("rustup gives no standard library for {TARGET}: {}", why.trim());
                return Tools::of_debian(root, &linker);
            }
        }
        ensure!(linker.is_file(), "there is no {}: a toolchain of rustup's has it", linker.display());
        Ok(Tools { cargo: "cargo".into(), linker, lints: true, arguments: Vec::new(), variables: Vec::new() })
    }

    /// Debian's compiler of one version, its cargo and its sources, in a folder of their own; the standard library is built.
    fn of_debian(root: &Path, linker: &Path) -> Result<Tools> {
        let folder = crate::target(root).join("debian-rust");
        let (packages, tree) = (folder.join("packages"), folder.join("root"));
        fs::create_dir_all(&packages)?;
        let own = environment();
        // Lists may be older than the compiler that is wanted; whoever may not renew them has those that there are.
        let renewed = call(Path::new("apt-get"), &["update"], root, &own);
        if !renewed.is_ok_and(|output| output.success()) {
            eprintln!("apt-get update did not work: its lists are as old as they are");
        }
        // Libraries that carry versions in their names are found by what depends on them.
        let words = ["depends", "--recurse", "--important", "rustc-web", "cargo-web"];
        let depends = call(Path::new("apt-cache"), &words, root, &own)?.text();
        let libraries = ["libstd-rust-web", "libllvm", "libgit2", "libmbed", "libhttp-parser"];
        let mut names = vec!["rustc-web", "cargo-web", "rust-web-src"];
        // Packages stand at the beginning of a line, what they depend on behind.
        let known = depends.lines().filter(|line| libraries.iter().any(|own| line.starts_with(own)));
        names.extend(known.filter(|name| !name.contains([':', '<', ' '])));
        let mut words = vec!["download"];
        words.extend(names);
        let got = call(Path::new("apt-get"), &words, &packages, &own)?;
        ensure!(
            got.success(),
            "neither rustup nor Debian's packages give a compiler for {TARGET}: {}",
            got.error_text()
        );
        for entry in fs::read_dir(&packages)? {
            let package = entry?.path();
            let words = ["-x", &package.to_string_lossy(), &tree.to_string_lossy()];
            let done = call(Path::new("dpkg-deb"), &words, &packages, &own)?;
            ensure!(done.success(), "unpack {}: {}", package.display(), done.error_text());
        }
        let bin = tree.join("usr/bin");
        let joined = |first: PathBuf, name: &str| {
            let rest =
                own.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default();
            let mut all = first.into_os_string();
            if !rest.is_empty() {
                all.push(":");
                all.push(rest);
            }
            all
        };
        let variables = vec![
            ("PATH".into(), joined(bin.clone(), "PATH")),
            ("LD_LIBRARY_PATH".into(), joined(tree.join("usr/lib/x86_64-linux-gnu"), "LD_LIBRARY_PATH")),
            ("RUSTC".into(), bin.join("rustc").into_os_string()),
            ("RUSTC_BOOTSTRAP".into(), "1".into()),
        ];
        let arguments = vec!["-Zbuild-std=std,panic_abort".into()];
        if !linker.is_file() {
            bail!("there is no linker for Mach-O at {}", linker.display());
        }
        Ok(Tools { cargo: bin.join("cargo"), linker: linker.to_owned(), lints: false, arguments, variables })
    }

    fn cargo(&self, root: &Path, words: &[&str], variables: &[(&str, OsString)]) -> Result<()> {
        let mut all = environment();
        let mut set = |name: OsString, value: OsString| {
            all.retain(|(own, _)| *own != name);
            all.push((name, value));
        };
        self.variables.iter().cloned().for_each(|(name, value)| set(name, value));
        variables.iter().cloned().for_each(|(name, value)| set(name.into(), value));
        let mut arguments: Vec<OsString> = vec![words[0].into(), "--target".into(), TARGET.into()];
        arguments.extend(self.arguments.iter().cloned());
        arguments.extend(words[1..].iter().map(OsString::from));
        let output = process::output(self.cargo.as_os_str(), arguments, root, &all)
            .with_context(|| format!("start {}", self.cargo.display()))?;
        ensure!(output.success(), "cargo {}:\n{}", words.join(" "), output.error_text());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_name_their_library_and_all_symbols() {
        let text = stub("/usr/lib/libx.dylib", "\n _a _b\n _c ");
        assert!(
            text.contains("install-name: '/usr/lib/libx.dylib'") && text.contains("symbols: [ _a, _b, _c ]")
        );
    }

    #[test]
    fn what_is_no_program_of_a_mac_is_told() {
        let own = std::env::current_exe().unwrap();
        assert!(read(&own, macho::MH_EXECUTE).unwrap_err().to_string().contains("no Mach-O file"));
    }
}
