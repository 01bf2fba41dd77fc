//! Against a server on the loopback interface that behaves as servers do, and worse.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use sprag_measure::process::Cancel;

use super::*;
use crate::proposer::fixture::Place;
use crate::proposer::{ProposerSpec, parse_proposer};

const KEY: &str = "sk-very-secret-1234";

/// What the server does with one connection.
#[derive(Clone)]
enum Act {
    /// Streams these events.
    Stream(Vec<String>),
    /// The same, and ends before the stream says that it is over.
    Cut(Vec<String>),
    /// Streams them byte by byte.
    Slow(Vec<String>),
    /// A status, headers, and a body.
    Say(u16, String, String),
    /// Says nothing until the other side goes.
    Silent,
}

/// One request as it came.
struct Request {
    head: String,
    body: serde_json::Value,
}

struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Does one of these a connection, the last one again and again.
    fn new(acts: Vec<Act>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut acts = acts.into_iter().peekable();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let act = match acts.next() {
                    Some(act) if acts.peek().is_some() => act,
                    Some(last) => {
                        acts = vec![last.clone()].into_iter().peekable();
                        last
                    }
                    None => return,
                };
                let heard = Arc::clone(&heard);
                // The other side may go at any moment.
                std::thread::spawn(move || serve(stream, &act, &heard));
            }
        });
        Server { address, requests }
    }

    fn bodies(&self) -> Vec<serde_json::Value> {
        self.requests.lock().unwrap().iter().map(|request| request.body.clone()).collect()
    }

    fn heads(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|request| request.head.to_lowercase()).collect()
    }
}

fn serve(mut stream: TcpStream, act: &Act, heard: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    let length =
        head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    heard.lock().unwrap().push(Request { head, body });
    let begin = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    match act {
        Act::Stream(events) => {
            stream.write_all(begin.as_bytes())?;
            stream.write_all(framed(events).as_bytes())
        }
        Act::Cut(events) => {
            // A length that is not kept: the body breaks off, whatever is made of the stream in it.
            stream.write_all(begin.replace("\r\n\r\n", "\r\nContent-Length: 100000\r\n\r\n").as_bytes())?;
            stream.write_all(framed(events).as_bytes())
        }
        Act::Slow(events) => {
            stream.write_all(begin.as_bytes())?;
            for part in framed(events).as_bytes().chunks(40) {
                stream.write_all(part)?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        Act::Say(status, headers, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} Word\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        Act::Silent => reader.read_to_end(&mut Vec::new()).map(drop),
    }
}

fn framed(events: &[String]) -> String {
    events.iter().map(|event| format!(": a comment\nevent: x\ndata: {event}\n\n")).collect()
}

/// An answer in pieces, as each dialect streams it.
fn events(dialect: Dialect, answer: &str) -> Vec<String> {
    let (one, other) = answer.split_at(answer.len() / 2);
    let piece = |text: &str| match dialect {
        Dialect::Completions => {
            serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        }
        Dialect::Messages => serde_json::json!({
            "type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}
        }),
    };
    let mut events = Vec::new();
    if dialect == Dialect::Messages {
        events.push(
            r#"{"type":"message_start","message":{"usage":{"input_tokens":60,"cache_read_input_tokens":40,"output_tokens":1}}}"#
                .to_owned(),
        );
        events.push(r#"{"type":"ping"}"#.to_owned());
    }
    events.push(piece(one).to_string());
    events.push(piece(other).to_string());
    match dialect {
        Dialect::Completions => {
            events.push(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned());
            events.push(
                r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":40,"total_tokens":140}}"#
                    .to_owned(),
            );
            events.push("[DONE]".to_owned());
        }
        Dialect::Messages => {
            events.push(
                r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":40}}"#
                    .to_owned(),
            );
            events.push(r#"{"type":"message_stop"}"#.to_owned());
        }
    }
    events
}

fn answer(search: &str, replace: &str) -> String {
    serde_json::json!({
        "hypothesis": "slower is steadier", "title": "Halve it", "family": "rates", "expected_gain": 0.01,
        "lesson": null, "idea": null, "exhausted": null,
        "edits": [{"path": "src/train.rs", "search": search, "replace": replace}],
    })
    .to_string()
}

fn good(dialect: Dialect) -> Act {
    Act::Stream(events(dialect, &answer("rate = 2", "rate = 1")))
}

fn say(status: u16, headers: &str, body: &str) -> Act {
    Act::Say(status, headers.to_owned(), body.to_owned())
}

struct Bench {
    place: Place,
    limits: AskingLimits,
    environment: Vec<(OsString, OsString)>,
    cancel: Cancel,
    note: Option<&'static str>,
}

impl Bench {
    fn new() -> Bench {
        let limits = AskingLimits { stall: Duration::from_secs(20), ..AskingLimits::default() };
        let environment = vec![("SPRAG_API_KEY".into(), KEY.into())];
        Bench { place: Place::new(), limits, environment, cancel: Cancel::default(), note: None }
    }

    fn propose(&self, spec: &str) -> (Result<Proposal, Declined>, Spending) {
        let spec: ChatSpec = spec.parse().unwrap();
        let mut proposer = ChatProposer::new(&spec, &self.environment, &self.limits);
        proposer.pause = Duration::from_millis(1);
        let proposal = self
            .place
            .with_brief(|brief| proposer.propose(&Brief { cancel: &self.cancel, note: self.note, ..*brief }));
        (proposal, proposer.spent().expect("a model costs something"))
    }

    /// Asks a server that does these in the dialect, after its list of models.
    fn ask(&self, dialect: Dialect, acts: Vec<Act>) -> (Result<Proposal, Declined>, Spending, Server) {
        let server = Server::new(acts);
        let path = dialect.path();
        let (proposal, spent) = self.propose(&format!("tiny@{}/v1{path}", server.address));
        (proposal, spent, server)
    }

    fn failure(&self, dialect: Dialect, acts: Vec<Act>) -> String {
        match self.ask(dialect, acts).0 {
            Err(Declined::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn file(&self) -> String {
        fs::read_to_string(self.place.worktree().join("src/train.rs")).unwrap()
    }
}

const BOTH: [Dialect; 2] = [Dialect::Completions, Dialect::Messages];

#[test]
fn an_answer_is_streamed_carried_out_and_counted_in_both_dialects() {
    for dialect in BOTH {
        let bench = Bench::new();
        let (proposal, spent, server) = bench.ask(dialect, vec![good(dialect)]);
        let proposal = proposal.unwrap();
        assert_eq!((proposal.title.as_str(), proposal.family.as_deref()), ("Halve it", Some("rates")));
        assert_eq!(proposal.expected_gain, Some(0.01));
        assert_eq!(bench.file(), "let rate = 1;\n");
        let spent = Spending { seconds: 0.0, ..spent };
        let (input_tokens, output_tokens) = (Some(100), Some(40));
        assert_eq!(spent, Spending { turns: Some(1), input_tokens, output_tokens, ..Spending::default() });
        let body = server.bodies()[0].to_string();
        assert!(body.contains("let rate = 2;") && body.contains("\"stream\":true"), "{body}");
    }
}

#[test]
fn a_key_is_in_its_header_and_nowhere_else() {
    for (dialect, header) in BOTH.into_iter().zip(["authorization: bearer ", "x-api-key: "]) {
        let bench = Bench::new();
        let echo = format!(r#"{{"error":{{"message":"no such key: {KEY}","type":"authentication_error"}}}}"#);
        let server = Server::new(vec![say(401, "", &echo)]);
        let (proposal, spent) = bench.propose(&format!("tiny@{}/v1{}", server.address, dialect.path()));
        let said = format!("{proposal:?} {spent:?}");
        assert!(said.contains("401") && said.contains("[key]") && said.contains("SPRAG_API_KEY"), "{said}");
        assert!(server.heads()[0].contains(&format!("{header}{KEY}")), "{:?}", server.heads());
        let mut written = String::new();
        for entry in fs::read_dir(bench.place.brief_dir()).unwrap() {
            written.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        let bodies = format!("{:?}", server.bodies());
        for text in [said, written, bodies] {
            assert!(!text.contains(KEY), "{text}");
        }
    }
}

#[test]
fn a_key_goes_to_its_own_host_alone() {
    let environment: Vec<(OsString, OsString)> =
        vec![("OPENAI_API_KEY".into(), "sk-openai".into()), ("ANTHROPIC_API_KEY".into(), "sk-ant".into())];
    let found = |host| Key::find(host, &environment).unwrap().map(|key| key.reveal().to_owned());
    assert_eq!(found("api.openai.com").as_deref(), Some("sk-openai"));
    assert_eq!(found("api.anthropic.com").as_deref(), Some("sk-ant"));
    assert_eq!(found("localhost"), None);
    // A server that leads elsewhere is not followed with it.
    let other = Server::new(vec![good(Dialect::Completions)]);
    let to = format!("Location: {}/v1/chat/completions\r\n", other.address);
    let why = Bench::new().failure(Dialect::Completions, vec![say(307, &to, "")]);
    assert!(why.contains("307") && other.heads().is_empty(), "{why}");
}

#[test]
fn a_key_file_that_others_may_read_is_refused_and_its_content_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    fs::write(&file, format!("# mine\nother.example {KEY}x\n127.0.0.1 {KEY}\n")).unwrap();
    let environment: Vec<(OsString, OsString)> = vec![
        ("SPRAG_KEY_FILE".into(), file.clone().into()),
        ("SPRAG_API_KEY".into(), "from-variable".into()),
    ];
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let why = Key::find("127.0.0.1", &environment).unwrap_err();
    assert!(why.contains("chmod 600"), "{why}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let found = |host| Key::find(host, &environment).unwrap().map(|key| key.reveal().to_owned());
    assert_eq!(found("127.0.0.1").as_deref(), Some(KEY));
    assert_eq!(found("elsewhere.example").as_deref(), Some("from-variable"));
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let why = Key::find("127.0.0.1", &environment).unwrap_err();
    assert!(why.contains("line 1") && !why.contains(KEY), "{why}");
    assert!(!format!("{:?}", Key::find("elsewhere.example", &[]).unwrap()).contains("secret"));
}

#[test]
fn servers_that_are_slow_cut_busy_or_broken_are_asked_again() {
    for dialect in BOTH {
        let mut cut = events(dialect, &answer("rate = 2", "rate = 3"));
        cut.truncate(if dialect == Dialect::Messages { 4 } else { 2 });
        let late = "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
        for (trouble, turns) in [
            (vec![Act::Slow(events(dialect, &answer("rate = 2", "rate = 1")))], 1),
            (vec![Act::Cut(cut.clone()), good(dialect)], 2),
            (vec![Act::Stream(cut), good(dialect)], 2),
            (vec![say(429, "Retry-After: 0\r\n", "{}"), say(429, late, ""), good(dialect)], 3),
            (
                vec![
                    say(500, "", "oops"),
                    say(503, "", ""),
                    say(529, "Retry-After: 0\r\n", "{}"),
                    good(dialect),
                ],
                4,
            ),
            (vec![say(200, "Content-Type: text/html\r\n", "<html>hello</html>"), good(dialect)], 2),
            (vec![Act::Stream(vec!["nonsense".into()]), good(dialect)], 2),
            (
                vec![
                    Act::Stream(vec![r#"{"error":{"type":"overloaded_error","message":"later"}}"#.into()]),
                    good(dialect),
                ],
                2,
            ),
        ] {
            let bench = Bench::new();
            let (proposal, spent, server) = bench.ask(dialect, trouble);
            assert!(proposal.is_ok(), "{dialect:?} {proposal:?}");
            assert_eq!(bench.file(), "let rate = 1;\n");
            assert_eq!((spent.turns, server.bodies().len()), (Some(turns), turns as usize));
        }
    }
}

#[test]
fn retry_after_is_waited_for_when_there_is_time_and_told_when_there_is_none() {
    let mut bench = Bench::new();
    let busy = || vec![say(429, "Retry-After: 1\r\n", "{}"), good(Dialect::Completions)];
    let began = Instant::now();
    assert!(bench.ask(Dialect::Completions, busy()).0.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    bench.limits.agent_timeout = Duration::from_secs(30);
    let why = bench.failure(
        Dialect::Completions,
        vec![say(429, "Retry-After: 3600\r\n", r#"{"error":{"message":"slow down"}}"#)],
    );
    assert!(why.contains("slow down") && why.contains("no time to wait 3600 s"), "{why}");
}

#[test]
fn a_server_that_never_works_is_given_up_with_the_reason() {
    for dialect in BOTH {
        let why =
            Bench::new().failure(dialect, vec![say(500, "", r#"{"error":{"message":"out of memory"}}"#)]);
        assert!(why.contains("out of memory") && why.contains("after 5 attempts"), "{why}");
        let why =
            Bench::new().failure(dialect, vec![say(404, "", r#"{"error":{"message":"no model tiny"}}"#)]);
        assert!(why.contains("no model tiny"), "{why}");
    }
}

#[test]
fn silence_and_a_person_end_an_asking() {
    let mut bench = Bench::new();
    bench.limits.stall = Duration::from_millis(200);
    let why = bench.failure(Dialect::Completions, vec![Act::Silent]);
    assert!(why.contains("after 5 attempts"), "{why}");
    let bench = Bench::new();
    let cancel = bench.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancel.cancel();
    });
    let began = Instant::now();
    assert_eq!(bench.failure(Dialect::Messages, vec![Act::Silent]), "stopped");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_answer_that_is_not_streamed_is_read() {
    let text = answer("rate = 2", "rate = 1");
    let whole = [
        serde_json::json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
        serde_json::json!({"type": "message", "stop_reason": "tool_use", "usage": {"input_tokens": 7, "output_tokens": 3},
            "content": [{"type": "tool_use", "name": "propose",
                "input": serde_json::from_str::<serde_json::Value>(&text).unwrap()}]}),
    ];
    for (dialect, body) in BOTH.into_iter().zip(whole) {
        let bench = Bench::new();
        let pretty = serde_json::to_string_pretty(&body).unwrap();
        let (proposal, spent, _) =
            bench.ask(dialect, vec![say(200, "Content-Type: application/json\r\n", &pretty)]);
        assert!(proposal.is_ok(), "{proposal:?}");
        assert_eq!(spent.tokens(), 10);
    }
}

#[test]
fn a_server_that_knows_no_schema_is_asked_without() {
    let bench = Bench::new();
    let text =
        format!("<think>{{hm}}</think>\nHere it is:\n```json\n{}\n```\n", answer("rate = 2", "rate = 1"));
    let acts = vec![
        say(400, "", r#"{"error":{"message":"unknown field response_format"}}"#),
        Act::Stream(events(Dialect::Completions, &text)),
    ];
    let (proposal, _, server) = bench.ask(Dialect::Completions, acts);
    assert!(proposal.is_ok(), "{proposal:?}");
    let bodies = server.bodies();
    assert!(bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["edits"].is_object());
    assert!(bodies[1]["response_format"].is_null() && bodies[1]["stream_options"].is_null());
}

#[test]
fn what_cannot_be_carried_out_gets_one_precise_complaint() {
    for dialect in BOTH {
        let bench = Bench::new();
        let wrong = Act::Stream(events(dialect, &answer("rate = 3", "rate = 1")));
        let (proposal, spent, server) = bench.ask(dialect, vec![wrong.clone(), good(dialect)]);
        assert!(proposal.is_ok(), "{proposal:?}");
        assert_eq!((bench.file().as_str(), spent.tokens()), ("let rate = 1;\n", 280));
        let said = server.bodies()[1]["messages"].to_string();
        assert!(said.contains("Edit 1") && said.contains("Lines 1 to 1 are nearest"), "{said}");

        let bench = Bench::new();
        let why = bench.failure(dialect, vec![wrong]);
        assert!(why.starts_with("after one complaint: Edit 1"), "{why}");
        assert_eq!(bench.file(), "let rate = 2;\n");

        for (text, said) in [
            ("I would rather not.".to_owned(), "holds no JSON object"),
            (r#"{"edits": [{"path": 7}]}"#.to_owned(), "not JSON as the schema says"),
            (r#"{"title": "x", "edits": []}"#.to_owned(), "no edit in the answer"),
            (r#"{"exhausted": "all done", "edits": []}"#.to_owned(), "another family"),
            (answer("x", "y").replace("src/train.rs", "Makefile"), "may not change"),
        ] {
            let why = Bench::new().failure(dialect, vec![Act::Stream(events(dialect, &text))]);
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}

#[test]
fn a_proposal_that_is_thought_over_may_stand() {
    let bench = Bench { note: Some("It is like trial 3."), ..Bench::new() };
    let text = r#"{"hypothesis": "the schedule differs now", "edits": []}"#;
    let (proposal, ..) =
        bench.ask(Dialect::Completions, vec![Act::Stream(events(Dialect::Completions, text))]);
    assert_eq!(proposal.unwrap().hypothesis.as_deref(), Some("the schedule differs now"));
}

#[test]
fn the_limit_on_tokens_ends_an_asking_between_two_answers() {
    let mut bench = Bench::new();
    bench.limits.max_tokens = Some(140);
    let wrong = Act::Stream(events(Dialect::Completions, &answer("rate = 3", "rate = 1")));
    let (proposal, spent, server) = bench.ask(Dialect::Completions, vec![wrong]);
    assert!(format!("{proposal:?}").contains("140 tokens"), "{proposal:?}");
    assert_eq!((spent.tokens(), server.bodies().len()), (140, 1));
}

#[test]
fn addresses_are_read_as_people_write_them() {
    for (spec, base, dialect, model) in [
        ("http://localhost:8080", "http://localhost:8080/v1", Dialect::Completions, None),
        ("http://localhost:1234/v1/", "http://localhost:1234/v1", Dialect::Completions, None),
        (
            "qwen2.5-coder:7b@http://[::1]:11434",
            "http://[::1]:11434/v1",
            Dialect::Completions,
            Some("qwen2.5-coder:7b"),
        ),
        (
            "claude-x@https://api.anthropic.com",
            "https://api.anthropic.com/v1",
            Dialect::Messages,
            Some("claude-x"),
        ),
        (
            "org/m@1@https://a.example/api/v1/chat/completions",
            "https://a.example/api/v1",
            Dialect::Completions,
            Some("org/m@1"),
        ),
        ("m@http://localhost:8080/v1/messages", "http://localhost:8080/v1", Dialect::Messages, Some("m")),
    ] {
        let read: ChatSpec = spec.parse().unwrap();
        assert_eq!(
            (read.base.as_str(), read.dialect, read.model.as_deref()),
            (base, dialect, model),
            "{spec}"
        );
        let ProposerSpec::Chat(again) = parse_proposer(&format!("chat:{spec}")).unwrap() else {
            panic!("{spec}")
        };
        assert_eq!(again, read);
        assert_eq!(parse_proposer(&read.to_string()).unwrap(), ProposerSpec::Chat(read));
    }
    for (spec, said) in [
        ("", "name a server"),
        ("gpt-5", "name a server"),
        ("@http://localhost", "name a model before"),
        ("m http://localhost", "write `@`"),
        ("http://me:secret@localhost", "may hold no key"),
        ("http://localhost/v1?key=secret", "may hold no key"),
        ("http://", "names no server"),
    ] {
        let problem = spec.parse::<ChatSpec>().unwrap_err();
        assert!(problem.contains(said) && !problem.contains("secret"), "{spec}: {problem}");
    }
}

#[test]
fn a_check_finds_out_before_a_baseline_is_paid_for() {
    let check = |acts: Vec<Act>, model: &str| {
        let server = Server::new(acts);
        let spec: ChatSpec = format!("{model}{}", server.address).parse().unwrap();
        spec.check(&[], &AskingLimits::default())
    };
    let models = say(200, "", r#"{"object": "list", "data": [{"id": "tiny"}]}"#);
    assert_eq!(check(vec![models.clone()], ""), Ok(()));
    assert!(check(vec![say(200, "", r#"{"data": []}"#)], "").unwrap_err().contains("name one"));
    assert!(check(vec![say(404, "", "")], "").unwrap_err().contains("name one"));
    assert_eq!(check(vec![say(404, "", "")], "m@"), Ok(()));
    let refused = check(vec![say(401, "", "")], "m@").unwrap_err();
    assert!(refused.contains("SPRAG_API_KEY") && refused.contains("SPRAG_KEY_FILE"), "{refused}");

    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spec: ChatSpec = format!("http://{gone}").parse().unwrap();
    assert!(spec.check(&[], &AskingLimits::default()).unwrap_err().contains("is the server running?"));
    let limits = AskingLimits { max_usd: Some(1.0), ..AskingLimits::default() };
    assert!(spec.check(&[], &limits).unwrap_err().contains("--max-tokens"));

    // The first model of the list is asked where none is named.
    let bench = Bench::new();
    let server = Server::new(vec![models, good(Dialect::Completions)]);
    assert!(bench.propose(&server.address).0.is_ok());
    assert_eq!(server.bodies()[1]["model"], "tiny");
}
