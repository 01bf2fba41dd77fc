//! A whole run whose proposers are a model behind HTTP and a command, by weight; the key is nowhere but in its header.

#[path = "support/place.rs"]
mod place;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use place::Place;
use serde_json::{Value, json};
use sprag_measure::process::{self, End};

const TASK: &str = r#"
format = 1
name = "number"
[files]
mutable = ["number.txt"]
[run]
command = ["/bin/sh", "-c", "echo loss $(( $(cat number.txt) * 100 + {seed} % 10 ))"]
[metric]
name = "loss"
direction = "lower"
pattern = "^loss (.*)"
[budget]
seconds = 1.0
"#;
const KEY: &str = "sk-nobody-may-see-this";

/// Lists one model, and proposes one less each time; the number stands in the brief.
fn serve(mut stream: TcpStream, heads: &Mutex<Vec<String>>, answers: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    let length =
        head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = if head.starts_with("GET") {
        json!({ "data": [{ "id": "tiny" }] })
    } else {
        let brief = asked["messages"][1]["content"].as_str().unwrap_or_default();
        let number: i64 = brief
            .split("number.txt:\n\n````\n")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok())
            .unwrap_or_default();
        answers.fetch_add(1, Ordering::Relaxed);
        let offer = json!({
            "title": format!("{} instead", number - 10), "hypothesis": "less is better", "family": "numbers",
            "expected_gain": 900.0,
            "edits": [{ "path": "number.txt", "search": number.to_string(), "replace": (number - 10).to_string() }],
        });
        let message = json!({ "role": "assistant", "content": offer.to_string() });
        let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 50 });
        json!({ "choices": [{ "message": message, "finish_reason": "stop" }], "usage": usage })
    };
    heads.lock().unwrap().push(head);
    let body = answer.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// All that lies below a folder, as text.
fn everything(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => everything(&path, text),
            false => text.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap_or_default())),
        }
    }
}

#[test]
fn a_model_and_a_command_share_a_run_and_the_key_is_written_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heads, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (heard, answered) = (Arc::clone(&heads), Arc::clone(&answers));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (heard, answered) = (Arc::clone(&heard), Arc::clone(&answered));
            // Who asks may go at any moment.
            std::thread::spawn(move || serve(stream, &heard, &answered));
        }
    });
    let place = Place::with_files(&[("task.toml", TASK), ("number.txt", "50\n")]);
    let command = "command:echo $(( $(cat number.txt) + 7 )) > number.txt";
    let model = format!("2:chat:{address}");
    let mut environment = place.environment();
    environment.push((OsString::from("SPRAG_API_KEY"), KEY.into()));
    let words = ["run", "--proposer", &model, "--proposer", command, "--trials", "3", "--allow-unsandboxed"];
    let output =
        process::output(env!("CARGO_BIN_EXE_sprag"), words, &place.path("task"), &environment).unwrap();
    let out = output.text();
    assert_eq!(output.end, End::Exited(0), "{out}\n{}", output.error_text());

    assert_eq!(answers.load(Ordering::Relaxed), 2, "{out}");
    assert!(heads.lock().unwrap().iter().all(|head| head.contains(KEY)));
    let status = place.json(&["status", "--json"]);
    let yields = status["yields"].as_array().unwrap();
    let tried: Vec<(&Value, &Value)> = yields.iter().map(|one| (&one["tried"], &one["kept"])).collect();
    assert_eq!(tried, [(&json!(2), &json!(2)), (&json!(1), &json!(0))], "{status}");
    assert_eq!(status["spent"]["input_tokens"], 2000, "{status}");
    assert!(out.contains(&format!("by        chat:{address}: 2 trials, 2 kept")), "{out}");

    let mut text = format!("{out}{}", output.error_text());
    everything(&place.path("task"), &mut text);
    assert!(text.contains("less is better") && !text.contains(KEY));

    for (words, said) in [
        (vec!["run", "--proposer", "search", "--proposer", "2:search"], "named twice"),
        (vec!["run", "--proposer", "2:search", "--mix", "bandit"], "exclude each other"),
        (vec!["run", "--proposer", "0:search"], "no weight"),
        (vec!["run", "--proposer", "chat:http://127.0.0.1:1"], "is the server running?"),
        (vec!["run", "--proposer", "chat:gpt"], "name a server"),
    ] {
        let answer = place.sprag(&words);
        assert!(answer.status != 0 && answer.err.contains(said), "{words:?}: {}", answer.err);
    }
}
