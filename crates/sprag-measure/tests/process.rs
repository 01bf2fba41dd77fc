//! Children that hang, multiply, print, eat and die, each ended as what it is, with nothing left of it.
#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sprag_measure::process::{
    Cancel, Command, End, Finished, Heartbeat, Limits, ProcessError, Stdin, Stream, capture, output, run,
};

/// Far beyond what any of these needs; a test that reaches it fails by the end it reports.
const PATIENCE: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Command {
    Command::new("/bin/sh", "/").args(["-c", script]).env("PATH", "/usr/bin:/bin")
}

fn patient() -> Limits {
    Limits { wall: Some(PATIENCE), ..Limits::default() }
}

fn finish(command: Command, limits: &Limits) -> Finished {
    run(command, limits, &Cancel::default(), &mut |_, _| ()).expect("it starts")
}

/// A word by which a process of this test is known among all of the machine's.
fn mark(name: &str) -> String {
    format!("sprag-{name}-{}", std::process::id())
}

/// Processes whose command line holds the word, zombies aside.
fn marked(mark: &str) -> Vec<String> {
    let listing = output(
        "ps",
        ["-A", "-ww", "-o", "stat=,pid=,args="],
        Path::new("/"),
        &[("PATH".into(), "/usr/bin:/bin".into())],
    );
    let text = listing.expect("ps runs").text();
    text.lines().filter(|line| line.contains(mark) && !line.starts_with('Z')).map(str::to_owned).collect()
}

#[test]
fn what_is_below_is_stopped_with_what_is_above_and_not_the_other_way_round() {
    let above = Cancel::default();
    let (one, other) = (above.below(), above.below());
    one.cancel();
    assert_eq!([&above, &one, &one.below(), &other].map(Cancel::is_cancelled), [false, true, true, false]);
    above.cancel();
    assert!(other.is_cancelled() && other.clone().below().is_cancelled());
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    for (script, expect) in [
        ("exit 0", End::Exited(0)),
        ("exit 137", End::Exited(137)),
        ("kill -KILL $$", End::Signalled(libc::SIGKILL)),
        ("kill -SEGV $$", End::Signalled(libc::SIGSEGV)),
        // Rust programs ignore SIGPIPE; their children must not.
        ("kill -PIPE $$; exit 1", End::Signalled(libc::SIGPIPE)),
    ] {
        let finished = finish(sh(script), &patient());
        assert_eq!(finished.end, expect, "{script}");
        assert_eq!(finished.end.success(), script == "exit 0");
    }
}

#[test]
fn a_program_that_is_not_there_is_an_error_with_a_hint() {
    let start = |command: Command| run(command, &patient(), &Cancel::default(), &mut |_, _| ());
    let absent = start(Command::new("/no/such/program", "/")).expect_err("nothing to start");
    assert!(matches!(&absent, ProcessError::Start { .. }));
    assert!(absent.to_string().contains("/no/such/program") && absent.to_string().contains("installed"));
    let nowhere = start(Command::new("/bin/sh", "/no/such/folder")).expect_err("nowhere to start");
    assert!(nowhere.to_string().contains("working directory does not exist"), "{nowhere}");
    let data = start(Command::new("/etc/passwd", "/")).expect_err("no program");
    assert!(data.to_string().contains("executable"), "{data}");
}

#[test]
fn nothing_is_inherited_but_what_is_given() {
    let command = Command::new("env", "/").env("PATH", "/usr/bin:/bin").env("ONE", "two words");
    let mut lines = Vec::new();
    run(command, &patient(), &Cancel::default(), &mut |_, line| lines.push(line.to_owned()))
        .expect("it starts");
    lines.sort();
    assert_eq!(lines, ["ONE=two words", "PATH=/usr/bin:/bin"]);
}

#[test]
fn a_child_that_hangs_is_stopped() {
    let limits = Limits { wall: Some(Duration::from_millis(50)), ..Limits::default() };
    let finished = finish(sh("sleep 600"), &limits);
    assert_eq!(finished.end, End::TimedOut);
    assert!(finished.wall >= Duration::from_millis(50) && finished.wall < PATIENCE);
}

#[test]
fn the_whole_tree_is_stopped_with_it() {
    let mark = mark("tree");
    // Background, own session, and orphaned in its own session.
    let script = format!(
        ": {mark}; sh -c 'sleep 600; : {mark}' & setsid sh -c 'sleep 600; : {mark}' & \
         (setsid sh -c 'sleep 600; : {mark}' &); echo ready; wait"
    );
    let cancel = Cancel::default();
    let mut met = 0;
    let finished = run(sh(&script), &patient(), &cancel, &mut |_, _| {
        met = marked(&mark).len();
        cancel.cancel();
    });
    assert_eq!(finished.expect("it starts").end, End::Cancelled);
    assert!(met > 1, "the processes were there");
    assert_eq!(marked(&mark), Vec::<String>::new());
}

#[test]
fn what_outlives_a_child_that_ended_is_stopped_too() {
    let mark = mark("outlives");
    let finished = finish(sh(&format!("sh -c 'sleep 600; : {mark}' & exit 4")), &patient());
    assert_eq!(finished.end, End::Exited(4));
    assert_eq!(marked(&mark), Vec::<String>::new());
}

/// Its parents are gone before anybody looks: it is found by the pipe that it holds.
#[cfg(target_os = "linux")]
#[test]
fn a_daemon_that_keeps_the_pipes_is_found_by_them() {
    let mark = mark("pipes");
    let finished = finish(sh(&format!("(setsid sh -c 'sleep 600; : {mark}' &); exit 0")), &patient());
    assert_eq!(finished.end, End::Exited(0));
    assert_eq!(marked(&mark), Vec::<String>::new());
}

#[test]
fn a_polite_child_may_clean_up() {
    let limits = Limits { gentle: PATIENCE, ..patient() };
    let cancel = Cancel::default();
    let script = "trap 'echo cleaned; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut lines = Vec::new();
    let finished = run(sh(script), &limits, &cancel, &mut |stream, line| {
        // Shells say on the other stream that their children were terminated.
        if stream == Stream::Stdout {
            lines.push(line.to_owned());
            cancel.cancel();
        }
    });
    assert_eq!(finished.expect("it starts").end, End::Cancelled);
    assert_eq!(lines, ["ready", "cleaned"]);
}

#[test]
fn a_stubborn_child_is_killed_after_the_gentle_time() {
    let limits = Limits { gentle: Duration::from_millis(30), ..patient() };
    let cancel = Cancel::default();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let finished = run(sh(script), &limits, &cancel, &mut |_, _| cancel.cancel()).expect("it starts");
    assert_eq!(finished.end, End::Cancelled);
    assert!(finished.wall < PATIENCE);
}

#[test]
fn silence_is_broken_by_output_on_either_stream() {
    let limits = Limits { silence: Some(Duration::from_secs(1)), ..patient() };
    let talks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo $i >&2; sleep 0.1; done";
    assert_eq!(finish(sh(talks), &limits).end, End::Exited(0));
    assert_eq!(finish(sh("echo once; sleep 600"), &limits).end, End::Silent);
}

#[test]
fn a_heartbeat_breaks_silence() {
    let heartbeat = Heartbeat::default();
    let limits =
        Limits { silence: Some(Duration::from_secs(1)), heartbeat: Some(heartbeat.clone()), ..patient() };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| finish(sh("sleep 1.3"), &limits));
        while !run.is_finished() {
            heartbeat.beat();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(run.join().expect("no panic").end, End::Exited(0));
    });
    assert_eq!(finish(sh("sleep 600"), &limits).end, End::Silent);
}

#[test]
fn endless_output_is_stopped_and_its_ends_are_kept() {
    let limits = Limits { output_bytes: Some(1 << 20), ..patient() };
    let mut lines = 0_u64;
    let command = sh("echo first; while :; do echo 'again and again and again and again'; done");
    let finished = run(command, &limits, &Cancel::default(), &mut |_, _| lines += 1).expect("it starts");
    assert_eq!(finished.end, End::OutputExceeded);
    assert!(finished.stdout.text().starts_with("first\nagain") && finished.stdout.total_bytes() > 1 << 20);
    assert!(lines > 1000);
}

#[test]
fn an_endless_line_takes_bounded_memory_and_the_next_is_whole() {
    let mut lengths = Vec::new();
    let command = sh("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo next");
    let finished = run(command, &patient(), &Cancel::default(), &mut |_, line| lengths.push(line.len()))
        .expect("it starts");
    assert_eq!(finished.end, End::Exited(0));
    assert_eq!(lengths, [64 << 10, 4]);
    assert_eq!(finished.stdout.total_bytes(), 50_000_006);
}

#[test]
fn bytes_that_are_no_text_are_read_all_the_same() {
    let mut lines = Vec::new();
    let command = sh("printf 'a\\377b\\n'; printf 'no end' >&2");
    run(command, &patient(), &Cancel::default(), &mut |stream, line| lines.push((stream, line.to_owned())))
        .expect("it starts");
    lines.sort_by_key(|(stream, _)| *stream as u8);
    assert_eq!(lines, [(Stream::Stdout, "a\u{fffd}b".to_owned()), (Stream::Stderr, "no end".to_owned())]);
}

#[test]
fn memory_of_the_whole_tree_counts() {
    let limits = Limits { memory_bytes: Some(96 << 20), ..patient() };
    // Neither of the two is past the limit alone.
    let eat = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 600";
    let finished = finish(sh(&format!("sh -c \"{}\" & {eat}", eat.replace('$', "\\$"))), &limits);
    assert_eq!(finished.end, End::MemoryExceeded);
    assert!(finished.peak_memory_bytes > 96 << 20);
}

#[test]
fn processes_are_counted() {
    let limits = Limits { processes: Some(10), ..patient() };
    let finished = finish(sh("for i in $(seq 30); do sleep 600 & done; wait"), &limits);
    assert_eq!(finished.end, End::TooManyProcesses);
}

#[test]
fn processor_time_and_memory_of_a_worker_are_seen() {
    let finished =
        finish(sh("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}; sleep 0.3"), &patient());
    assert_eq!(finished.stdout.text(), "60000000\n");
    assert!(finished.cpu > Duration::ZERO && finished.cpu < PATIENCE);
    assert!(finished.peak_memory_bytes > 60_000_000);
}

#[test]
fn input_bytes_arrive_whole_however_many() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let command = Command::new("cat", "/").env("PATH", "/usr/bin:/bin").stdin(Stdin::Bytes(bytes.clone()));
    let answer = capture(command, &patient(), &Cancel::default()).expect("it starts");
    assert!(answer.success() && answer.stdout == bytes);
}

#[test]
fn a_child_that_does_not_want_its_input_is_no_error() {
    let command = sh("exec 0<&-; echo done").stdin(Stdin::Bytes(vec![b'x'; 3_000_000]));
    let answer = capture(command, &patient(), &Cancel::default()).expect("it starts");
    assert_eq!((answer.end, answer.text().as_str()), (End::Exited(0), "done"));
    let nothing = capture(sh("cat"), &patient(), &Cancel::default()).expect("it starts");
    assert!(nothing.success() && nothing.stdout.is_empty());
}

#[test]
fn a_socket_carries_both_ways_and_closes_with_the_child() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let peer = std::thread::spawn(move || {
        ours.write_all(b"question\n").expect("it reads");
        let mut answer = String::new();
        ours.read_to_string(&mut answer).expect("it ends");
        answer
    });
    let command = sh("read line; echo \"answer to $line\" >&0").stdin(Stdin::Socket(OwnedFd::from(theirs)));
    assert_eq!(finish(command, &patient()).end, End::Exited(0));
    assert_eq!(peer.join().expect("no panic"), "answer to question\n");
}

#[test]
fn captured_output_has_a_bound() {
    let limits = Limits { output_bytes: Some(100_000), ..patient() };
    let answer = capture(sh("yes"), &limits, &Cancel::default()).expect("it starts");
    assert_eq!(answer.end, End::OutputExceeded);
    assert!(answer.stdout.len() < 16 << 20);
}

#[test]
fn a_panic_in_the_callers_code_leaves_no_child() {
    let mark = mark("panic");
    let command = sh(&format!("echo go; sleep 600; : {mark}"));
    let panicked = std::panic::catch_unwind(|| {
        let _ = run(command, &patient(), &Cancel::default(), &mut |_, _| panic!("the caller's"));
    });
    assert!(panicked.is_err());
    assert_eq!(marked(&mark), Vec::<String>::new());
}

#[test]
fn many_children_at_once_leave_no_descriptor_and_no_zombie() {
    let descriptors = || fs::read_dir("/dev/fd").map_or(0, Iterator::count);
    let children = || {
        std::thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || {
                    let answer = capture(sh(&format!("echo {n}; exit {n}")), &patient(), &Cancel::default());
                    let answer = answer.expect("it starts");
                    assert_eq!((answer.end, answer.text()), (End::Exited(n), n.to_string()));
                });
            }
        });
    };
    children();
    // Other tests run beside this one and hold some of their own.
    let before = descriptors();
    for _ in 0..25 {
        children();
    }
    assert!(descriptors() < before + 150, "{} descriptors, {before} before", descriptors());
}
