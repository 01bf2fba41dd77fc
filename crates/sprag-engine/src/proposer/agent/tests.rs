use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::acp::Client;
use super::stream::Heard;
use super::*;
use crate::proposer::fixture::Place;
use crate::proposer::{Declined, Proposal, admit, parse_proposer};
use crate::record::Spending;
use crate::repo::fixture;
use crate::state::State;

/// A task, and scripts in the place of agents.
struct Bench {
    place: Place,
    limits: AskingLimits,
}

impl Deref for Bench {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Bench {
    fn new() -> Bench {
        let limits = AskingLimits { stall: Duration::from_secs(60), ..AskingLimits::default() };
        Bench { place: Place::new(), limits }
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = fixture::environment();
        let path = environment.iter_mut().find(|(name, _)| name == "PATH").expect("a PATH");
        let mut own = self.dir.path().join(".sprag/bin").into_os_string();
        own.push(":");
        own.push(&path.1);
        path.1 = own;
        environment
    }

    /// Puts a script in the place of an agent. It counts its starts in `$n` and keeps its arguments.
    fn fake(&self, name: &str, body: &str) {
        let folder = self.dir.path().join(".sprag/bin");
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "#!/bin/sh\nn=$(($(cat \"$SPRAG_BRIEF_DIR/n\" 2>/dev/null || echo 0) + 1))\necho $n > \"$SPRAG_BRIEF_DIR/n\"\n\
             printf '%s\\n' \"$*\" >> \"$SPRAG_BRIEF_DIR/args\"\n{body}\n"
        );
        let path = folder.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn propose(&self, spec: &str) -> (Result<Proposal, Declined>, Spending) {
        let spec = parse_proposer(spec).unwrap();
        let mut proposer = spec.open_with(&self.task, &self.environment(), &self.limits);
        let proposal = self.with_brief(|brief| proposer.propose(brief));
        (proposal, proposer.spent().expect("agents cost something"))
    }

    fn failure(&self, spec: &str) -> String {
        match self.propose(spec).0 {
            Err(Declined::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

const EDIT: &str = r#"echo 'let rate = 1;' > src/train.rs
echo '{"title": "Halve it", "family": "rates", "expected_gain": 0.01, "lesson": "slower was better"}' > "$SPRAG_BRIEF_DIR/proposal.json""#;

/// What each agent prints at the end of a good turn, and what that costs.
const ENDS: [(&str, &str, Spending); 5] = [
    (
        "claude",
        r#"echo '{"type":"system","subtype":"init","session_id":"s"}'
echo '{"type":"assistant","message":{"content":[{"type":"text","text":"Done."}],"usage":{"input_tokens":5}}}'
echo '{"type":"result","subtype":"success","is_error":false,"num_turns":3,"result":"Done.","session_id":"s","total_cost_usd":0.25,"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":70,"output_tokens":40}}'"#,
        Spending {
            seconds: 0.0,
            turns: Some(3),
            input_tokens: Some(100),
            output_tokens: Some(40),
            usd: Some(0.25),
        },
    ),
    (
        "codex",
        r#"echo '{"type":"thread.started","thread_id":"t"}'; echo '{"type":"turn.started"}'
echo '{"type":"error","message":"Reconnecting... 1/5"}'
echo '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"Done."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":60,"output_tokens":40}}'"#,
        Spending {
            seconds: 0.0,
            turns: Some(1),
            input_tokens: Some(100),
            output_tokens: Some(40),
            usd: None,
        },
    ),
    (
        "gemini",
        r#"echo '{"type":"init","timestamp":"t","session_id":"s","model":"m"}'
echo '{"type":"message","role":"assistant","content":"Do","delta":true}'
echo '{"type":"result","timestamp":"t","status":"success","stats":{"total_tokens":140,"input_tokens":100,"output_tokens":40,"cached":5,"tool_calls":2}}'"#,
        Spending { seconds: 0.0, turns: None, input_tokens: Some(100), output_tokens: Some(40), usd: None },
    ),
    (
        "opencode",
        r#"echo '{"type":"step_finish","sessionID":"s","part":{"type":"step-finish","cost":0.125,"tokens":{"input":30,"output":20,"reasoning":0,"cache":{"read":20,"write":1}}}}'
echo '{"type":"step_finish","sessionID":"s","part":{"type":"step-finish","cost":0.125,"tokens":{"input":30,"output":20,"reasoning":0,"cache":{"read":20,"write":1}}}}'
echo '{"type":"text","sessionID":"s","part":{"type":"text","text":"Done."}}'"#,
        Spending {
            seconds: 0.0,
            turns: Some(2),
            input_tokens: Some(100),
            output_tokens: Some(40),
            usd: Some(0.25),
        },
    ),
    (
        "aider",
        "echo 'Applied edit to src/train.rs'; echo 'Tokens: 1.5k sent, 40 received. Cost: $0.25 message, $0.50 session.'",
        Spending {
            seconds: 0.0,
            turns: Some(1),
            input_tokens: Some(1500),
            output_tokens: Some(40),
            usd: Some(0.25),
        },
    ),
];

#[test]
fn every_agent_proposes_and_its_own_stream_tells_what_that_cost() {
    for (agent, end, cost) in ENDS {
        let bench = Bench::new();
        bench.fake(agent, &format!("{EDIT}\n{end}"));
        let (proposal, spent) = bench.propose(&format!("{agent}:some-model"));
        let proposal = proposal.unwrap_or_else(|declined| panic!("{agent}: {declined:?}"));
        assert_eq!((proposal.title.as_str(), proposal.expected_gain), ("Halve it", Some(0.01)), "{agent}");
        assert_eq!(Spending { seconds: 0.0, ..spent }, cost, "{agent}");
        let args = bench.kept("args");
        for part in ["some-model", "src/**", "proposal.json", "brief.md"] {
            assert!(args.contains(part), "{agent} is told {part}: {args}");
        }
    }
}

#[test]
fn an_agent_that_dies_asks_or_says_it_is_done_is_started_again_and_told_why() {
    let bench = Bench::new();
    let (_, end, _) = ENDS[0];
    let done = r#"echo '{"exhausted": "all done"}' > "$SPRAG_BRIEF_DIR/proposal.json"; echo 'let rate = 9;' > src/train.rs"#;
    bench.fake(
        "claude",
        &format!("case $n in\n1) echo half > src/train.rs; echo out of memory >&2; exit 1;;\n2) {done};;\n*) grep -q 2 src/train.rs && {{ {EDIT}\n}};;\nesac\n{end}"),
    );
    let (proposal, spent) = bench.propose("claude");
    assert_eq!(proposal.unwrap().title, "Halve it");
    // The one that died told no cost.
    assert_eq!((spent.usd, spent.turns), (Some(0.5), Some(6)));
    let args = bench.kept("args");
    assert!(
        args.contains("The last time you ended with an error: it exited with status 1: out of memory."),
        "{args}"
    );
    assert!(args.contains("you said that nothing is left to try (all done)"), "{args}");

    let bench = Bench::new();
    bench.fake("claude", &format!("{end}\ntrue"));
    let why = bench.failure("claude");
    assert!(why.starts_with("after 3 starts: you changed no file that may change and said: Done."), "{why}");
    assert_eq!(bench.kept("n").trim(), "3");
}

#[test]
fn an_agent_that_never_ends_or_says_nothing_is_stopped() {
    let mut bench = Bench::new();
    bench.fake("codex", "while true; do echo '{\"type\":\"turn.started\"}'; sleep 0.1; done");
    bench.limits.agent_timeout = Duration::from_millis(700);
    let why = bench.failure("codex");
    assert!(why.contains("took longer than"), "{why}");

    let mut bench = Bench::new();
    bench.fake("codex", "sleep 1000");
    bench.limits.stall = Duration::from_millis(300);
    let why = bench.failure("codex");
    assert!(why.contains("after 3 starts: you said nothing for"), "{why}");
}

#[test]
fn a_busy_model_is_waited_for_as_long_as_it_says() {
    let bench = Bench::new();
    let busy = r#"echo '{"type":"turn.failed","error":{"message":"Rate limit reached. Please try again in 100ms."}}'; exit 1"#;
    let (_, end, cost) = ENDS[1];
    bench.fake("codex", &format!("[ $n -lt 5 ] && {{ {busy}; }}\n{EDIT}\n{end}"));
    let (proposal, spent) = bench.propose("codex");
    assert_eq!(proposal.unwrap().title, "Halve it");
    assert_eq!(spent.input_tokens, cost.input_tokens);

    let bench = Bench::new();
    bench.fake("codex", &busy.replace("100ms", "2h"));
    let why = bench.failure("codex");
    assert!(why.starts_with("its model is busy: Rate limit reached"), "{why}");
}

#[test]
fn a_limit_of_the_run_stops_an_agent_under_way() {
    let mut bench = Bench::new();
    let (_, end, _) = ENDS[3];
    bench.fake("opencode", &format!("{EDIT}\n{end}\nsleep 1000"));
    bench.limits.max_tokens = Some(60);
    let (proposal, spent) = bench.propose("opencode");
    assert_eq!(proposal, Err(Declined::Failed("proposers spent the 60 tokens of this run".into())));
    assert!(spent.tokens() >= 60, "what it told before it was stopped");
}

#[test]
fn an_agent_that_is_stopped_before_its_sum_has_told_the_tokens_of_its_messages() {
    let mut bench = Bench::new();
    let message = |id: &str, output: u64| {
        format!(
            "echo '{{\"type\":\"assistant\",\"message\":{{\"id\":\"{id}\",\"content\":[],\"usage\":{{\"input_tokens\":10,\
             \"cache_read_input_tokens\":20,\"output_tokens\":{output}}}}}}}'"
        )
    };
    // The second line of a message replaces the first.
    bench.fake(
        "claude",
        &format!("{}\n{}\n{}\nsleep 1000", message("a", 1), message("a", 5), message("b", 5)),
    );
    bench.limits.max_tokens = Some(70);
    let (proposal, spent) = bench.propose("claude");
    assert!(matches!(proposal, Err(Declined::Failed(why)) if why.contains("the 70 tokens of this run")));
    assert_eq!((spent.input_tokens, spent.output_tokens), (Some(60), Some(10)));
}

#[test]
fn what_a_wild_agent_does_costs_nothing_but_its_own_proposal() {
    let bench = Bench::new();
    let (_, end, _) = ENDS[0];
    let wild = r#"git config user.name x; git config user.email x@example.org
echo 'all: cheat' > Makefile; git add -A; git commit -qm mine; git update-ref refs/heads/main HEAD 2>/dev/null
rm -rf .git; echo 'let rate = 1;' > src/train.rs; truncate -s 3G src/sparse; rm src/sparse
(sleep 1000 >/dev/null 2>&1 &) ; head -c 3000000 /dev/zero | tr '\0' x; printf '\377\376\n'"#;
    bench.fake("claude", &format!("{wild}\n{end}"));
    let before = bench.repo.head().unwrap();
    assert!(bench.propose("claude").0.is_ok());
    let worktree = bench.dir.path().join(".sprag/worktrees/run-1-1");
    let admitted = admit(&bench.task, &bench.repo, &worktree, &before, &State::default(), 1).unwrap();
    assert!(admitted.is_err_and(|invalid| invalid.detail.contains("Makefile")));
}

#[test]
fn an_agent_is_named_with_a_model_or_without_and_is_looked_for_before_a_run() {
    for (text, shown) in [
        ("claude", Ok("claude")),
        ("codex:gpt-x", Ok("codex:gpt-x")),
        ("acp: gemini --acp", Ok("acp:gemini --acp")),
        ("acp", Err("name the agent's command")),
        ("claude:", Err("name a model")),
        ("cluade", Err("did you mean `claude`?")),
    ] {
        match (parse_proposer(text), shown) {
            (Ok(spec), Ok(shown)) => assert_eq!(spec.to_string(), shown),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
    let bench = Bench::new();
    let check = |spec: &str, limits: &AskingLimits| {
        parse_proposer(spec).unwrap().check(&bench.environment(), limits).map_err(|error| error.to_string())
    };
    let absent = check("aider", &bench.limits).unwrap_err();
    assert!(absent.contains("no program `aider`") && absent.contains("pip install"), "{absent}");
    bench.fake("aider", "");
    bench.fake("codex", "");
    let usd = AskingLimits { max_usd: Some(1.0), ..bench.limits.clone() };
    assert_eq!((check("aider", &usd), check("codex", &bench.limits)), (Ok(()), Ok(())));
    assert!(check("codex", &usd).unwrap_err().contains("--max-tokens"));
    assert!(check("command:x", &usd).unwrap_err().contains("--trials"));
    assert_eq!((check("command:x", &bench.limits), check("search", &usd)), (Ok(()), Ok(())));
    assert_eq!(found_agents(&bench.environment()).len(), 2);
}

#[test]
fn lines_that_are_no_events_change_nothing() {
    for kind in [AgentKind::Claude, AgentKind::Codex, AgentKind::Gemini, AgentKind::OpenCode] {
        let mut heard = Heard::default();
        for line in [
            "",
            "plain",
            "{",
            "[]",
            "7",
            "{\"type\":7}",
            "{\"type\":\"new\",\"usage\":{\"input_tokens\":-1}}",
        ] {
            heard.line(&kind, line);
        }
        assert_eq!(heard, Heard::default(), "{kind:?}");
    }
    let mut heard = Heard::default();
    heard.line(
        &AgentKind::Claude,
        r#"{"type":"result","total_cost_usd":-5,"usage":{"output_tokens":"many"}}"#,
    );
    assert_eq!(heard.spending, Spending::default());
}

/// An agent of the protocol: it reads the client's lines and answers each.
const ACP: &str = r#"while read -r line; do case "$line" in
*'"initialize"'*) echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1,"agentCapabilities":{}}}';;
*'"session/new"'*) echo '{"jsonrpc":"2.0","id":1,"result":{"sessionId":"s1"}}';;
*'"session/prompt"'*)
  echo '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"Halving."}}}}'
  printf '{"jsonrpc":"2.0","id":10,"method":"fs/write_text_file","params":{"sessionId":"s1","path":"%s/src/train.rs","content":"let rate = 1;"}}\n' "$PWD";;
*'"id":10'*'"result"'*)
  printf '{"jsonrpc":"2.0","id":11,"method":"fs/write_text_file","params":{"sessionId":"s1","path":"%s/Makefile","content":"all: cheat"}}\n' "$PWD";;
*'"id":11'*'"error"'*|*'"error"'*'"id":11'*)
  printf '{"jsonrpc":"2.0","id":"ask","method":"session/request_permission","params":{"sessionId":"s1","toolCall":{"toolCallId":"c","kind":"execute","title":"rm -rf /"},"options":[{"optionId":"y","name":"Yes","kind":"allow_once"},{"optionId":"n","name":"No","kind":"reject_once"}]}}\n';;
*'"ask"'*'"n"'*|*'"n"'*'"ask"'*)
  echo '{"jsonrpc":"2.0","id":2,"result":{"stopReason":"end_turn","usage":{"inputTokens":100,"outputTokens":40}}}'; sleep 1000;;
*) echo "$line" >> "$SPRAG_BRIEF_DIR/unexpected";;
esac; done"#;

#[test]
fn an_agent_of_the_protocol_edits_through_the_client_and_only_what_may_change() {
    let bench = Bench::new();
    bench.fake("some-agent", ACP);
    let (proposal, spent) = bench.propose("acp:some-agent --acp");
    assert_eq!(bench.kept("unexpected"), "");
    assert_eq!(proposal.unwrap().title, "change src/train.rs");
    assert_eq!((spent.input_tokens, spent.output_tokens, spent.turns), (Some(100), Some(40), Some(1)));
    let worktree = bench.dir.path().join(".sprag/worktrees/run-1-1");
    assert_eq!(fs::read_to_string(worktree.join("Makefile")).unwrap(), "all:\n");
    assert_eq!(fs::read_to_string(worktree.join("src/train.rs")).unwrap(), "let rate = 1;");
}

#[test]
fn the_client_grants_edits_of_mutable_files_and_nothing_else() {
    let bench = Bench::new();
    bench.with_brief(|brief| {
        std::os::unix::fs::symlink("/etc", brief.worktree.join("src/link")).unwrap();
        let (mut client, first) = Client::new(brief, "prompt");
        assert!(first.contains("\"initialize\""));
        let mut ask = |method: &str, params: serde_json::Value| {
            let line = serde_json::json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
            let mut answers = client.line(&line.to_string(), &mut Heard::default());
            assert_eq!(answers.len(), 1, "{method}");
            answers.remove(0)
        };
        let options = serde_json::json!([{"optionId": "y", "kind": "allow_once"}, {"optionId": "n", "kind": "reject_once"}]);
        let mut permission = |kind: &str, paths: &[&str]| {
            let places: Vec<_> = paths.iter().map(|path| serde_json::json!({"path": path})).collect();
            let call = serde_json::json!({"kind": kind, "locations": places});
            ask("session/request_permission", serde_json::json!({"toolCall": call, "options": options}))
                .contains("\"y\"")
        };
        let answer = brief.brief_dir.join("proposal.json").display().to_string();
        for (kind, paths, granted) in [
            ("edit", vec!["src/train.rs"], true),
            ("edit", vec!["src/new/file.rs"], true),
            ("edit", vec![answer.as_str()], true),
            ("edit", vec![], false),
            ("edit", vec!["Makefile"], false),
            ("edit", vec!["src/train.rs", "Makefile"], false),
            ("edit", vec!["src/../Makefile"], false),
            ("edit", vec!["src/link/passwd"], false),
            ("edit", vec!["/etc/passwd"], false),
            ("edit", vec!["src/.gitignore"], false),
            ("execute", vec!["src/train.rs"], false),
            ("delete", vec!["src/train.rs"], false),
        ] {
            assert_eq!(permission(kind, &paths), granted, "{kind} {paths:?}");
        }
        let read = |path: &str| serde_json::json!({"path": path, "line": 1, "limit": 1});
        assert!(ask("fs/read_text_file", read("src/train.rs")).contains("let rate = 2;"));
        for path in ["/etc/passwd", "../../../task.toml", "src/link/passwd", "absent"] {
            assert!(ask("fs/read_text_file", read(path)).contains("error"), "{path}");
        }
        assert!(ask("terminal/create", serde_json::json!({"command": "sh"})).contains("not offered"));
    });
}
