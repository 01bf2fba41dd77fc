//! `sprag bench` against servers and commands, whose clocks the tests know.

#[path = "support/place.rs"]
mod place;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use place::Place;
use serde_json::{Value, json};
use sprag_measure::plan::{Architecture, SyntheticFormat, write_synthetic};

/// A tiny model that is written in no time.
fn with_model() -> Place {
    let place = Place::with_files(&[("readme", "here")]);
    let model = Architecture { vocab: 400, ..Architecture::dense(4) };
    let mut file = fs::File::create(place.path("task/m.gguf")).unwrap();
    write_synthetic(&model, SyntheticFormat::Q4_0, &mut file).unwrap();
    place
}

/// Answers as llama-server does: a stream of tokens, one each 5 ms after 50 ms.
fn serve(mut stream: TcpStream, asked: &std::sync::Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if request.starts_with("GET /v1/models") {
        let body = json!({ "data": [{ "id": "tiny" }] }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        return;
    }
    let asks: Value = serde_json::from_slice(&body).unwrap();
    let words = asks["prompt"].as_str().unwrap().split(' ').count();
    let wanted = asks["max_tokens"].as_u64().unwrap();
    asked.lock().unwrap().push(asks);
    let _ =
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    std::thread::sleep(Duration::from_millis(50));
    for made in 0..wanted {
        if made > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let event = json!({ "choices": [{ "text": "a", "finish_reason": null }] });
        let _ = stream.write_all(format!("data: {event}\n\n").as_bytes());
    }
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": 2 * words, "completion_tokens": wanted } });
    let _ = stream.write_all(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes());
}

#[test]
fn a_server_and_a_command_are_compared_and_the_spread_is_the_headline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &heard);
        }
    });
    let place = with_model();
    let command = r#"slow=echo '{"prompt_seconds": 2, "decode_seconds": 1}'"#;
    let words =
        ["bench", "m.gguf", "--runtimes", &url, "--command", command, "--prompts", "32", "--generate", "9"];
    let page = place.path("bench.html").to_string_lossy().into_owned();
    let found = place.json(&[&words[..], &["--json", "--report", &page]].concat());
    let runtimes = found["runtimes"].as_array().unwrap();
    assert!(runtimes[0]["name"].as_str().unwrap().ends_with("(tiny)"), "{found}");
    let row = &runtimes[0]["rows"][0];
    // Prompts are made as long as asked once the server has told what a word becomes.
    assert_eq!((&row["prompt_tokens"], &row["decode"]["n"]), (&json!(32), &json!(5)), "{row}");
    let decode = row["decode"]["median"].as_f64().unwrap();
    assert!((20.0..=200.0).contains(&decode), "a token each 5 ms, and no faster: {decode}");
    assert!(row["first_token_seconds"]["low"].as_f64() >= Some(0.05), "{row}");
    assert!(row["of_triad"]["median"].as_f64() > Some(0.0) && row["token"]["seconds"].is_number(), "{row}");
    let slow = &runtimes[1]["rows"][0];
    assert_eq!(
        (&slow["prefill"]["median"], &slow["decode"]["median"]),
        (&json!(16.0), &json!(8.0)),
        "{slow}"
    );
    assert_eq!(found["worth"][0]["decode"]["worst"], "slow", "{found}");
    // Warm-up and five goes, none with the prompt of another, none that may use a cache or end early.
    let asked = asked.lock().unwrap();
    let mut prompts: Vec<&str> = asked.iter().map(|one| one["prompt"].as_str().unwrap()).collect();
    prompts.sort_unstable();
    prompts.dedup();
    assert_eq!((asked.len(), prompts.len()), (6, 6));
    assert!(asked.iter().all(|one| one["ignore_eos"] == true && one["cache_prompt"] == false));
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("default-src 'none'") && text.contains("the runtime is worth x"), "{text}");
}

#[test]
fn what_fails_is_named_and_the_rest_is_shown() {
    let place = with_model();
    let good = r#"good=echo '{"prompt_seconds": 1, "decode_seconds": 1}'"#;
    let words =
        ["bench", "m.gguf", "--command", good, "--command", "bad=echo no && exit 3", "--prompts", "16"];
    let answer = place.sprag(&words);
    assert_ne!(answer.status, 0);
    assert!(
        answer.out.contains("good: prefill 16.0") && answer.out.contains("FAILED bad:"),
        "{}",
        answer.out
    );
    let liar = r#"liar=echo '{"prompt_seconds": 1, "decode_seconds": 0.0000001}'"#;
    let text = place.done(&["bench", "m.gguf", "--command", liar, "--prompts", "16"]).out;
    assert!(text.contains("NOTE that is more than memory gave"), "{text}");
    fs::write(place.path("task/cut.gguf"), &fs::read(place.path("task/m.gguf")).unwrap()[..1000]).unwrap();
    for (words, said) in [
        (vec!["bench", "m.gguf", "--runtimes", "abacus"], "known are llama.cpp, candle"),
        (vec!["bench", "m.gguf", "--runtimes", "http://127.0.0.1:1"], "is the server running?"),
        (vec!["bench", "m.gguf", "--command", "nothing"], "NAME=COMMAND"),
        (vec!["bench", "m.gguf", "--command", "x=echo hello", "--prompts", "16"], "prompt_seconds"),
        (vec!["bench", "cut.gguf", "--command", good], "cut off or wrong"),
        (vec!["bench", "m.gguf", "--command", good, "--repeat", "3"], "3 is not in 5"),
        (vec!["bench"], "MODEL"),
        (vec!["bench", "--synthetic", "llama-1b", "--out", "m.gguf"], "is there already"),
        (vec!["bench", "--synthetic", "deepseek-v3", "--out", "x.gguf"], "latent attention"),
        (vec!["bench", "--synthetic", "llama-1b", "--quant", "q3", "--out", "x.gguf"], "known are f16"),
    ] {
        let answer = place.sprag(&words);
        let text = format!("{}{}", answer.out, answer.err);
        assert!(answer.status != 0 && text.contains(said), "{words:?}: {text}");
    }
    assert!(!place.path("task/x.gguf").exists());

    // A real shape: what is written is planned with as the model that it was made of.
    let words = ["bench", "--synthetic", "llama-1b", "--quant", "q4_0", "--out", "real.gguf"];
    assert!(place.done(&words).out.contains("of the shape of Llama-3.2-1B, weights random"));
    let plan = place.json(&["plan", "real.gguf", "--bandwidth", "50", "--memory", "16", "--json"]);
    assert_eq!(plan["model"]["params"], 1_235_814_400_u64, "{plan}");
}
