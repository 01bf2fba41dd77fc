//! `sprag mcp` as a client sees it: JSON-RPC, one message a line, over the standard streams.

#[path = "support/place.rs"]
mod place;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use place::Place;
use serde_json::{Value, json};
use sprag_measure::process::{self, Cancel, Command, End, Limits, Stdin, Stream};

const TASK: &str = r#"
format = 1
name = "number"
[files]
mutable = ["number.txt"]
[build]
command = ["/bin/sh", "-c", "! grep -q broken number.txt"]
[run]
command = ["/bin/sh", "-c", "echo loss $(( $(head -n 1 number.txt) * 100 + {seed} % 10 ))"]
[metric]
name = "loss"
direction = "lower"
pattern = "^loss (.*)"
[budget]
seconds = 1.0
"#;

/// The server, and the client's ends of its streams.
struct Client {
    place: Place,
    requests: UnixStream,
    replies: Receiver<Value>,
    server: Option<std::thread::JoinHandle<End>>,
    kill: Cancel,
    number: u64,
}

impl Client {
    fn new(options: &[&str]) -> Client {
        let place =
            Place::with_files(&[("task.toml", TASK), ("number.txt", "50\n"), ("other.txt", "hands off\n")]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (said, replies) = channel();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprag"), place.path("task"))
            .args(["mcp", "--allow-unsandboxed"])
            .args(options)
            .stdin(Stdin::Socket(OwnedFd::from(theirs)));
        command.env = place.environment();
        let kill = Cancel::default();
        let stop = kill.clone();
        let server = std::thread::spawn(move || {
            let finished = process::run(command, &Limits::default(), &stop, &mut |stream, line| {
                if stream == Stream::Stdout {
                    let message =
                        serde_json::from_str(line).expect("every line of standard output is a message");
                    // A client that is done does not listen any more.
                    let _ = said.send(message);
                }
            });
            finished.unwrap().end
        });
        let mut client = Client { place, requests: ours, replies, server: Some(server), kill, number: 0 };
        let hello = client.request(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" } }),
        );
        assert_eq!(hello["result"]["serverInfo"]["name"], "sprag", "{hello}");
        assert!(hello["result"]["instructions"].as_str().unwrap().contains("continue"));
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.requests, "{message}").unwrap();
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let number = self.number;
        self.send(&json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params }));
        loop {
            let reply = self.replies.recv_timeout(Duration::from_secs(120)).expect("a reply");
            if reply["id"] == number {
                return reply;
            }
        }
    }

    /// What a tool answers; its text says the same as its structured content.
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = &reply["result"];
        assert_ne!(result["isError"], true, "{tool}: {reply}");
        let content = result["structuredContent"].clone();
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), content);
        content
    }

    fn refusal(&mut self, tool: &str, arguments: Value) -> String {
        let reply = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert_eq!(reply["result"]["isError"], true, "{tool}: {reply}");
        reply["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }

    fn wait(&mut self, arguments: Value) -> Value {
        for _ in 0..50 {
            let waited = self.call("wait", arguments.clone());
            if waited["event"] != "nothing_yet" {
                return waited;
            }
            assert_eq!(waited["continue"], true, "{waited}");
        }
        panic!("nothing happened");
    }

    fn close(mut self) -> (Place, End) {
        // The server sees the end of its input.
        self.requests.shutdown(std::net::Shutdown::Both).unwrap();
        let end = self.server.take().unwrap().join().unwrap();
        let empty = Place::empty();
        (std::mem::replace(&mut self.place, empty), end)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

fn edit(search: &str, replace: &str) -> Value {
    json!({
        "title": "Another number", "hypothesis": "it is better", "family": "numbers",
        "edits": [{ "path": "number.txt", "search": search, "replace": replace }],
    })
}

#[test]
fn tools_have_schemas_both_ways_and_hints() {
    let mut client = Client::new(&[]);
    let listed = client.request("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["brief", "check", "history", "propose", "show", "start", "status", "steer", "stop", "wait"]
    );
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(tool["description"].as_str().unwrap().len() > 40, "{tool}");
        let reads = ["status", "history", "show", "brief", "wait"].contains(&name);
        assert_eq!(tool["annotations"]["readOnlyHint"], reads, "{tool}");
        if !reads {
            assert_eq!(tool["annotations"]["destructiveHint"], ["steer", "stop"].contains(&name), "{tool}");
        }
    }
    // What teaches agents names them all, and keeps to the limits of its format.
    let skill = include_str!("../../../skill/SKILL.md");
    let (head, body) = skill.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    for name in names {
        assert!(body.contains(&format!("`{name}`")) || body.contains(&format!("`{name} N`")), "{name}");
    }
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("name:"), "sprag");
    assert!(field("description:").len() <= 1024 && field("compatibility:").len() <= 500);
    assert!(body.lines().count() < 500);
    let (_, end) = client.close();
    assert_eq!(end, End::Exited(0));
}

#[test]
fn an_agent_proposes_mends_and_waits_until_the_run_is_over() {
    let mut client = Client::new(&[]);
    assert_eq!(client.call("status", json!({}))["standing"], "none");
    let started = client.call("start", json!({ "trials": 3 }));
    assert_eq!((&started["continue"], &started["resumed"]), (&json!(true), &json!(false)));
    assert!(client.refusal("start", json!({})).contains("under way"));

    assert_eq!(client.wait(json!({}))["event"], "proposal_wanted");
    let brief = client.call("brief", json!({}));
    assert_eq!((&brief["wanted"], &brief["trial"]), (&json!("proposal"), &json!(1)));
    assert!(brief["text"].as_str().unwrap().contains("number.txt:\n\n````\n50\n"), "{brief}");

    // Refused at once, and no trial is spent.
    for (offer, said) in [
        (edit("51", "40"), "Edit 1"),
        (
            json!({ "title": "x", "hypothesis": "x", "family": "x",
            "patch": "--- a/other.txt\n+++ b/other.txt\n@@ -1 +1 @@\n-hands off\n+hands on\n" }),
            "not mutable",
        ),
        (json!({ "title": "x", "hypothesis": "x", "family": "x" }), "no edit"),
    ] {
        let answer = client.call("propose", offer);
        assert_eq!((&answer["accepted"], &answer["continue"]), (&json!(false), &json!(true)), "{answer}");
        assert!(answer["refused"].as_str().unwrap().contains(said), "{answer}");
    }

    // Does not build, and is mended.
    assert_eq!(client.call("propose", edit("50", "40\nbroken"))["trial"], 1);
    let waited = client.wait(json!({ "trial": 1 }));
    assert_eq!(waited["event"], "proposal_wanted", "{waited}");
    assert!(waited["next"].as_str().unwrap().contains("does not build"), "{waited}");
    assert_eq!(client.call("brief", json!({}))["wanted"], "repair");
    assert_eq!(client.call("propose", edit("\nbroken", ""))["accepted"], true);
    let waited = client.wait(json!({ "trial": 1 }));
    assert_eq!((&waited["event"], &waited["outcome"]), (&json!("verdict"), &json!("win")), "{waited}");
    assert!(waited["gain"]["low"].as_f64().unwrap() > 0.0, "{waited}");

    assert_eq!(client.call("steer", json!({ "note": "go lower" }))["note"], "go lower");
    assert_eq!(client.wait(json!({}))["event"], "proposal_wanted");
    let patch = "--- a/number.txt\n+++ b/number.txt\n@@ -1 +1 @@\n-40\n+70\n";
    let offer = json!({ "title": "Larger", "hypothesis": "worse", "family": "numbers", "patch": patch });
    assert_eq!(client.call("propose", offer)["trial"], 2);
    assert_eq!(client.wait(json!({ "trial": 2 }))["outcome"], "loss");

    client.wait(json!({}));
    assert!(client.call("brief", json!({}))["text"].as_str().unwrap().contains("go lower"));
    // What was tried is refused with a pointer to it.
    let again = client.call("propose", edit("40", "70"));
    assert!(again["refused"].as_str().unwrap().contains("trial 2 again"), "{again}");
    assert_eq!(client.call("propose", edit("40", "30"))["trial"], 3);
    assert_eq!(client.wait(json!({ "trial": 3 }))["outcome"], "win");
    let over = client.wait(json!({}));
    assert_eq!((&over["event"], &over["continue"]), (&json!("ended"), &json!(false)), "{over}");

    let status = client.call("status", json!({}));
    assert_eq!(
        (&status["standing"], &status["tip"], &status["trials"]),
        (&json!("finished"), &json!(3), &json!(3))
    );
    assert!(status["baseline"]["n"].as_u64().unwrap() > 1, "{status}");
    let history = client.call("history", json!({ "outcome": "win", "limit": 1 }));
    assert_eq!((&history["trials"][0]["trial"], &history["left_out"]), (&json!(3), &json!(1)), "{history}");
    assert!(client.refusal("history", json!({ "outcome": "great" })).contains("win"));
    let shown = client.call("show", json!({ "trial": 1 }));
    assert!(
        shown["diff"].as_str().unwrap().contains("+40") && shown["text"].as_str().unwrap().contains("WIN")
    );
    assert!(client.refusal("show", json!({ "trial": 9 })).contains("has no trial 9"));
    assert!(client.refusal("stop", json!({})).contains("nothing is under way"));
    let (place, _) = client.close();
    let statuses = place.json(&["status", "--json"]);
    assert_eq!(statuses["counts"]["wins"], 2);
}

#[test]
fn a_client_that_leaves_takes_its_run_along_and_the_next_one_resumes_it() {
    let mut client = Client::new(&[]);
    client.call("start", json!({ "trials": 2 }));
    client.wait(json!({}));
    assert_eq!(client.call("propose", edit("50", "40"))["trial"], 1);
    assert_eq!(client.wait(json!({ "trial": 1 }))["outcome"], "win");
    client.wait(json!({}));
    let stopped = client.call("stop", json!({}));
    assert_eq!((&stopped["stopped"], &stopped["continue"]), (&json!(true), &json!(false)));
    assert_eq!(client.call("status", json!({}))["standing"], "stopped");
    let started = client.call("start", json!({ "trials": 2 }));
    assert_eq!(started["resumed"], true);
    assert_eq!(client.wait(json!({}))["event"], "proposal_wanted");
    // Gone while a proposal is wanted.
    let (place, end) = client.close();
    assert_eq!(end, End::Exited(0));
    let status = place.json(&["status", "--json"]);
    assert_eq!((&status["running"], &status["counts"]["wins"]), (&json!(false), &json!(1)));
    let patches = place.path("patches");
    std::fs::create_dir(&patches).unwrap();
    std::fs::write(patches.join("1.diff"), "--- a/number.txt\n+++ b/number.txt\n@@ -1 +1 @@\n-40\n+30\n")
        .unwrap();
    let patches = format!("patches:{}", patches.display());
    place.done(&["run", "--proposer", &patches, "--trials", "2", "--allow-unsandboxed"]);
    assert_eq!(place.json(&["status", "--json"])["counts"]["wins"], 2);
}

#[test]
fn a_run_that_goes_on_elsewhere_is_joined() {
    let mut client = Client::new(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sprag"), client.place.path("task")).args([
        "run",
        "--proposer",
        "inbox",
        "--trials",
        "1",
        "--allow-unsandboxed",
    ]);
    command.env = client.place.environment();
    let kill = client.kill.clone();
    let elsewhere = std::thread::spawn(move || {
        process::run(command, &Limits::default(), &kill, &mut |_, _| {}).unwrap().end
    });
    while client.call("status", json!({}))["standing"] != "waiting_for_proposal" {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(client.refusal("start", json!({})).contains("another sprag"));
    assert!(client.refusal("stop", json!({})).contains("another program"));
    assert!(client.call("brief", json!({}))["next"].as_str().unwrap().contains("`propose`"));
    assert_eq!(client.call("propose", edit("50", "40"))["trial"], 1);
    // What `start` was refused for is no news of the run.
    assert_eq!(client.wait(json!({ "trial": 1 }))["outcome"], "win");
    assert_eq!(client.wait(json!({}))["event"], "ended");
    assert_eq!(elsewhere.join().unwrap(), End::Exited(0));
}

#[test]
fn a_working_tree_is_checked_and_only_allowed_proposers_are_started() {
    let mut client = Client::new(&["--proposer", "patches:../ideas"]);
    let refused = client.refusal("start", json!({ "proposers": ["command:rm -rf ~"] }));
    assert!(refused.contains("is not allowed here") && refused.contains("`patches:../ideas`"), "{refused}");
    std::fs::write(client.place.path("task/number.txt"), "40\n").unwrap();
    let mut checked = client.call("check", json!({}));
    while checked["done"] == false {
        checked = client.call("check", json!({}));
    }
    assert!(checked["score"].as_f64().unwrap() >= 4000.0, "{checked}");
    assert!(checked["text"].as_str().unwrap().contains("changed   number.txt"), "{checked}");
    // A run whose proposer has nothing to propose ends at once, with the reason.
    std::fs::create_dir(client.place.path("ideas")).unwrap();
    client.call("start", json!({ "proposers": ["patches:../ideas"] }));
    let ended = client.wait(json!({}));
    assert_eq!(ended["event"], "ended", "{ended}");
}
