//! One child from start to reaping: reads its pipes, watches its limits, ends its tree.
//!
//! A single thread waits in `poll`, so that nothing is left behind when a pipe never closes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::lines::Sink;
use super::tree::Tree;
use super::{Cancel, Command, End, Finished, Limits, ProcessError, Stdin, Stream, Tail};

/// Longest time between two looks at cancellation and limits.
const TICK: Duration = Duration::from_millis(50);
/// Time between looks at the tree; looking costs well under a millisecond for a tree of ten.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same when memory is past half of its limit: a fast eater fills gigabytes in a tenth of a second.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(10);
/// Every so many looks the whole machine is searched for members without parents.
const LOOKS_PER_SEARCH: u32 = 20;
/// How long pipes may stay open after the tree is dead before their holders are looked for.
const DRAIN: Duration = Duration::from_millis(200);

/// Runs a command under limits; output goes to `sink` and to the tails.
pub(super) fn drive(
    command: Command,
    limits: &Limits,
    cancel: &Cancel,
    sink: &mut dyn Sink,
) -> Result<Finished, ProcessError> {
    let program = command.program.clone();
    let start = Instant::now();
    let mut running = start_child(command)?;
    let end = follow(&mut running, limits, cancel, sink, start);
    let reaped = running.finish(sink, end.as_ref().is_ok_and(|end| *end != Some(End::OutputExceeded)));
    let (status, rusage_cpu) = match (end.as_ref(), reaped) {
        (Ok(_), Ok(reaped)) => reaped,
        (Ok(_), Err(source)) => return Err(ProcessError::Follow { program, source }),
        (Err(_), _) => {
            return Err(ProcessError::Follow { program, source: end.err().unwrap_or_else(unknown) });
        }
    };
    Ok(Finished {
        end: end.ok().flatten().unwrap_or(status),
        wall: start.elapsed(),
        cpu: rusage_cpu.max(running.tree.cpu()),
        peak_memory_bytes: running.tree.peak_memory_bytes(),
        stdout: std::mem::take(&mut running.stdout.tail),
        stderr: std::mem::take(&mut running.stderr.tail),
    })
}

fn unknown() -> io::Error {
    io::Error::other("unknown error")
}

/// Our end of one output pipe.
struct Output {
    stream: Stream,
    file: Option<File>,
    tail: Tail,
}

/// A started child. Dropping it ends its tree.
struct Running {
    child: Child,
    pid: Pid,
    tree: Tree,
    stdin: Option<(File, Vec<u8>, usize)>,
    stdout: Output,
    stderr: Output,
    reaped: bool,
}

#[expect(clippy::disallowed_methods, reason = "this module is the door to child processes")]
fn start_child(command: Command) -> Result<Running, ProcessError> {
    let Command { program, args, dir, env, stdin } = command;
    let (stdin, bytes) = match stdin {
        Stdin::Null => (Stdio::null(), None),
        Stdin::Socket(descriptor) => (Stdio::from(descriptor), None),
        Stdin::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
    };
    let mut builder = std::process::Command::new(&program);
    builder.args(args).current_dir(&dir).env_clear().envs(env).process_group(0);
    builder.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(target_os = "linux")]
    tie_to_parent(&mut builder);
    let mut child = match builder.spawn() {
        Ok(child) => child,
        Err(source) => {
            let hint = start_hint(&source, &dir);
            return Err(ProcessError::Start { program, dir, source, hint });
        }
    };
    // The builder holds the child's end of a socket until it is dropped; the peer waits for its closing.
    drop(builder);
    let stdin =
        child.stdin.take().zip(bytes).map(|(pipe, bytes)| (File::from(OwnedFd::from(pipe)), bytes, 0));
    let output =
        |stream, pipe: Option<OwnedFd>| Output { stream, file: pipe.map(File::from), tail: Tail::default() };
    let pid = Pid::from_child(&child);
    let running = Running {
        pid,
        tree: Tree::new(pid),
        stdin,
        stdout: output(Stream::Stdout, child.stdout.take().map(OwnedFd::from)),
        stderr: output(Stream::Stderr, child.stderr.take().map(OwnedFd::from)),
        child,
        reaped: false,
    };
    let files = [
        running.stdin.as_ref().map(|(file, ..)| file),
        running.stdout.file.as_ref(),
        running.stderr.file.as_ref(),
    ];
    for file in files.into_iter().flatten() {
        if let Err(error) = rustix::io::ioctl_fionbio(file, true) {
            return Err(ProcessError::Follow { program, source: error.into() });
        }
    }
    Ok(running)
}

fn start_hint(error: &io::Error, dir: &std::path::Path) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound if !dir.is_dir() => "the working directory does not exist",
        io::ErrorKind::NotFound => "check that it is installed and that `PATH` names its folder",
        io::ErrorKind::PermissionDenied => "check that the file is executable and its folders can be entered",
        io::ErrorKind::ArgumentListTooLong => "pass less in arguments and environment",
        _ => "check the limits on processes, memory and open files (`ulimit -a`)",
    }
}

/// Lets the child die with the thread that started it, and makes it the parent of orphans in its tree, so
/// that they stay findable while it lives.
#[cfg(target_os = "linux")]
fn tie_to_parent(builder: &mut std::process::Command) {
    let parent = libc::pid_t::try_from(std::process::id()).unwrap_or(0);
    let tie = move || {
        // SAFETY: these system calls take plain numbers and touch no memory; all are async-signal-safe,
        // as is needed between fork and exec.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
            // The parent may have died before the first call.
            if libc::getppid() != parent {
                libc::_exit(1);
            }
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe system calls and does not allocate.
    unsafe { builder.pre_exec(tie) };
}

/// Follows the child until it ends (`None`) or has to be stopped.
fn follow(
    running: &mut Running,
    limits: &Limits,
    cancel: &Cancel,
    sink: &mut dyn Sink,
    start: Instant,
) -> io::Result<Option<End>> {
    let exit = exit_descriptor(running.pid);
    let mut watch = Watch::new(start, limits);
    let mut stop: Option<(End, Instant)> = None;
    let mut idle = Duration::from_millis(1);
    loop {
        let timeout = if exit.is_some() || running.has_open_pipe() { TICK } else { idle };
        let timeout = timeout.min(watch.until_next(limits));
        idle = (idle * 2).min(Duration::from_millis(20));
        running.wait(exit.as_ref().map(AsFd::as_fd), timeout)?;
        running.write_stdin();
        let bytes = running.read(sink, stop.is_none_or(|(end, _)| end != End::OutputExceeded));
        if running.has_exited()? {
            return Ok(stop.map(|(end, _)| end));
        }
        let now = Instant::now();
        match stop {
            Some((end, deadline)) if now >= deadline => return Ok(Some(end)),
            Some(_) => {}
            None => {
                let Some(end) = watch.exceeded(limits, cancel, &mut running.tree, bytes, now) else {
                    continue;
                };
                if limits.gentle.is_zero() {
                    return Ok(Some(end));
                }
                running.tree.terminate();
                stop = Some((end, now + limits.gentle));
            }
        }
    }
}

/// A descriptor that becomes readable when the child ends, where the system has such a thing.
#[cfg(target_os = "linux")]
fn exit_descriptor(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn exit_descriptor(_pid: Pid) -> Option<OwnedFd> {
    None
}

/// The state of the limits.
struct Watch {
    start: Instant,
    last_sign: Instant,
    beats: u64,
    bytes: u64,
    next_look: Instant,
    looks: u32,
}

impl Watch {
    fn new(start: Instant, limits: &Limits) -> Watch {
        // Programs that end at once are not worth a look.
        let next_look = start + LOOK_CLOSELY_EVERY;
        Watch { start, last_sign: start, beats: beats(limits), bytes: 0, next_look, looks: 0 }
    }

    fn until_next(&self, limits: &Limits) -> Duration {
        let now = Instant::now();
        let mut next = self.next_look;
        for deadline in
            [limits.wall.map(|wall| self.start + wall), limits.silence.map(|quiet| self.last_sign + quiet)]
        {
            next = deadline.map_or(next, |deadline| deadline.min(next));
        }
        // Rounded up by poll's millisecond anyway; never a busy loop.
        next.saturating_duration_since(now).max(Duration::from_millis(1))
    }

    fn exceeded(
        &mut self,
        limits: &Limits,
        cancel: &Cancel,
        tree: &mut Tree,
        bytes: u64,
        now: Instant,
    ) -> Option<End> {
        self.bytes += bytes;
        let beats = beats(limits);
        if bytes > 0 || beats != self.beats {
            (self.last_sign, self.beats) = (now, beats);
        }
        if cancel.is_cancelled() {
            return Some(End::Cancelled);
        }
        if limits.wall.is_some_and(|wall| now - self.start >= wall) {
            return Some(End::TimedOut);
        }
        if limits.output_bytes.is_some_and(|most| self.bytes > most) {
            return Some(End::OutputExceeded);
        }
        if limits.silence.is_some_and(|quiet| now - self.last_sign >= quiet) {
            return Some(End::Silent);
        }
        if now < self.next_look {
            return None;
        }
        self.looks += 1;
        let look =
            if self.looks.is_multiple_of(LOOKS_PER_SEARCH) { tree.look_everywhere() } else { tree.look() };
        let near = limits.memory_bytes.is_some_and(|most| look.memory_bytes > most / 2);
        let young = now - self.start < LOOK_EVERY;
        self.next_look = Instant::now() + if near || young { LOOK_CLOSELY_EVERY } else { LOOK_EVERY };
        if limits.processes.is_some_and(|most| look.processes > most) {
            return Some(End::TooManyProcesses);
        }
        let most = limits.memory_bytes.filter(|most| look.memory_bytes > *most)?;
        // Resident sets count a shared page once for each process; ask exactly before stopping for it.
        let shared_once = tree.proportional_memory_bytes().unwrap_or(look.memory_bytes);
        (shared_once > most).then_some(End::MemoryExceeded)
    }
}

fn beats(limits: &Limits) -> u64 {
    limits.heartbeat.as_ref().map_or(0, super::Heartbeat::count)
}

impl Running {
    fn has_open_pipe(&self) -> bool {
        self.stdout.file.is_some() || self.stderr.file.is_some()
    }

    /// Waits until a pipe is ready, the child has ended, or the time is over.
    fn wait(&self, exit: Option<BorrowedFd<'_>>, timeout: Duration) -> io::Result<()> {
        let mut descriptors: Vec<PollFd<'_>> = [&self.stdout, &self.stderr]
            .into_iter()
            .filter_map(|output| output.file.as_ref())
            .map(|file| PollFd::new(file, PollFlags::IN))
            .collect();
        descriptors.extend(self.stdin.as_ref().map(|(file, ..)| PollFd::new(file, PollFlags::OUT)));
        descriptors.extend(exit.map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::IN)));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.min(TICK).subsec_nanos()) };
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_stdin(&mut self) {
        let Some((file, bytes, written)) = &mut self.stdin else { return };
        while *written < bytes.len() {
            match file.write(&bytes[*written..]) {
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The child closed its input: it does not want the rest.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    /// Reads what is there, within bounds, so that limits are looked at however fast the child prints.
    fn read(&mut self, sink: &mut dyn Sink, forward: bool) -> u64 {
        self.stdout.read(sink, forward) + self.stderr.read(sink, forward)
    }

    /// True when the child has ended; it is left unreaped, so that its number keeps naming its group.
    fn has_exited(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the tree, reads the rest of the output and reaps the child.
    fn finish(&mut self, sink: &mut dyn Sink, forward: bool) -> io::Result<(End, Duration)> {
        self.tree.kill();
        self.stdin = None;
        self.drain(sink, forward);
        self.reap()
    }

    fn drain(&mut self, sink: &mut dyn Sink, forward: bool) {
        let mut deadline = Instant::now() + DRAIN;
        let mut hunted = false;
        while self.has_open_pipe() {
            let bytes = self.read(sink, forward);
            if bytes == 0 && Instant::now() > deadline {
                if hunted {
                    break;
                }
                self.tree.kill_pipe_holders(&self.pipe_inodes());
                hunted = true;
                deadline = Instant::now() + DRAIN;
            }
            if bytes == 0 && self.wait(None, Duration::from_millis(10)).is_err() {
                break;
            }
        }
        for output in [&mut self.stdout, &mut self.stderr] {
            if output.file.take().is_some() {
                sink.end(output.stream);
            }
        }
    }

    fn pipe_inodes(&self) -> Vec<u64> {
        let files = [&self.stdout, &self.stderr].into_iter().filter_map(|output| output.file.as_ref());
        files.filter_map(|file| rustix::fs::fstat(file).ok()).map(|stat| stat.st_ino).collect()
    }

    /// Waits for the child, which is dead or dying, and tells its status and processor time.
    fn reap(&mut self) -> io::Result<(End, Duration)> {
        let mut status: libc::c_int = 0;
        // SAFETY: `rusage` is plain data for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: both pointers are to live, writable locals of the types that wait4 wants.
            let reaped =
                unsafe { libc::wait4(self.pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
            if reaped >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.reaped = true;
        let end = if libc::WIFSIGNALED(status) {
            End::Signalled(libc::WTERMSIG(status))
        } else {
            End::Exited(libc::WEXITSTATUS(status))
        };
        Ok((end, duration(usage.ru_utime) + duration(usage.ru_stime)))
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

impl Drop for Running {
    /// Reached unreaped only by a panic of the caller's code or an error of ours.
    fn drop(&mut self) {
        if !self.reaped {
            self.tree.kill();
            let _ = self.child.wait();
        }
    }
}

impl Output {
    /// Reads up to a mebibyte without waiting; returns how much came.
    fn read(&mut self, sink: &mut dyn Sink, forward: bool) -> u64 {
        let mut total = 0;
        let mut buffer = [0; 16 << 10];
        while total < 1 << 20 {
            let Some(file) = &mut self.file else { break };
            match file.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    total += count as u64;
                    self.tail.push(&buffer[..count]);
                    if forward {
                        sink.bytes(self.stream, &buffer[..count]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The end, or an error after which nothing can come.
                Ok(_) | Err(_) => {
                    self.file = None;
                    if forward {
                        sink.end(self.stream);
                    }
                }
            }
        }
        total
    }
}
