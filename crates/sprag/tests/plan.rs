//! `sprag plan` and `sprag claims`: arithmetic about models and machines, as people use it.

#[path = "support/place.rs"]
mod place;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use place::Place;
use sprag_measure::process::{self, End};

#[test]
fn a_plan_says_first_whether_a_model_fits_and_every_formula() {
    let place = Place::empty();
    let text = place.done(&["plan", "llama-3-70b", "--machine", "RTX 4090"]).out;
    assert!(text.starts_with("DOES NOT FIT"), "{text}");
    for part in ["would fit", "x 4.85 bits / 8", "if it fitted: ", "ceiling", "datasheet"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let plan = place.json(&["plan", "llama-3-8b", "--quant", "f16", "--machine", "RTX 4090", "--json"]);
    assert_eq!(plan["fits"], true);
    let decode = &plan["decode_tokens_per_second"];
    assert!(decode["expected"].as_f64() < decode["ceiling"].as_f64(), "{plan}");

    let config = place.path("model/config.json");
    fs::create_dir(place.path("model")).unwrap();
    let fields = r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100}"#;
    fs::write(&config, fields).unwrap();
    let config = config.to_string_lossy().into_owned();
    let numbers = ["--bandwidth", "100", "--tflops", "10", "--memory", "16"];
    let text = place.done(&[&["plan", &config][..], &numbers].concat()).out;
    assert!(text.starts_with("FITS") && text.contains("model         model: "), "{text}");

    let compared =
        place.done(&["plan", "compare", "qwen3.5-397b-a17b", "--machines", "M5 Ultra,RTX 5090"]).out;
    assert!(compared.contains("PROJECTED") && compared.contains("NO  "), "{compared}");
    let listed = place.done(&["plan", "list"]).out;
    assert!(listed.contains("Q4_0      4.5000 bits") && listed.contains("Gemma-3-27B"), "{listed}");

    let unprobed = place.sprag(&["plan", "llama-3-8b"]);
    assert!(unprobed.err.contains("sprag probe --quick"), "{}", unprobed.err);
    for (words, said) in [
        (vec!["plan"], "no model is named"),
        (vec!["plan", "llama-9", "--machine", "H200"], "no model that is known"),
        (vec!["plan", "llama-3-8b", "--machine", "m4 max"], "M4 Max 40-core"),
        (vec!["plan", "llama-3-8b", "--quant", "q9"], "known are F32"),
    ] {
        let answer = place.sprag(&words);
        assert!(answer.status != 0 && answer.err.contains(said), "{words:?}: {}", answer.err);
    }
}

#[test]
fn a_planner_is_graded_against_a_table() {
    let place = Place::empty();
    let file = place.path("published.csv");
    let mut table = "device,device_class,nodes,mem_bw_GBps,model,quant,active_bytes_per_token_GB,kv_bytes_per_ctx_token,context,tg_tps\n".to_owned();
    for (card, bandwidth) in [("a", 400.0), ("b", 600.0), ("c, new", 800.0)] {
        for gigabytes in [4.64, 8.0, 15.0, 41.8] {
            let rate = 0.7 * bandwidth / gigabytes;
            table += &format!(
                "\"{card}\",nvidia-cuda,1,{bandwidth},Llama-3-8B,Q4,{gigabytes},131072,1024 gen,{rate}\n"
            );
        }
    }
    fs::write(&file, &table).unwrap();
    let word = file.to_string_lossy().into_owned();
    let grade = place.json(&["plan", "grade", &word, "--json"]);
    assert_eq!((grade["rows"].as_array().unwrap().len(), grade["above_roofline"].as_u64()), (12, Some(0)));
    assert!(grade["decode_mdape"].as_f64().unwrap() < 0.2, "{grade}");
    assert_eq!(grade["by_class"]["nvidia-cuda"]["rows"], 12);
    fs::write(&file, table.replacen("400", "fast", 1)).unwrap();
    let answer = place.sprag(&["plan", "grade", &word]);
    assert!(answer.err.contains("line 2: `mem_bw_GBps`"), "{}", answer.err);
}

#[test]
fn energy_cost_and_drafts_are_told_where_they_are_known() {
    let place = Place::empty();
    let words = ["plan", "llama-3-8b", "--machine", "RTX 4090", "--kwh-price", "0.25", "--json"];
    let plan = place.json(&words);
    let cost = &plan["cost_of_a_million_tokens"];
    let (rate, hours) = (&plan["decode_tokens_per_second"]["expected"], &cost["decode"]["hours"]);
    let expected = 1e6 / rate.as_f64().unwrap() / 3600.0;
    assert!((hours.as_f64().unwrap() / expected - 1.0).abs() < 1e-9, "{cost}");
    let money = cost["decode"]["money"].as_f64().unwrap();
    assert!((money / (expected * 0.45 * 0.25) - 1.0).abs() < 1e-9, "{cost}");
    let drafted = ["--draft", "llama-3.2-1b", "--acceptance", "0.7"];
    let text = place.done(&[&words[..4], &drafted[..]].concat()).out;
    assert!(text.contains("drafted by    Llama-3.2-1B") && text.contains("2.77 tokens"), "{text}");
    let unknown = place.done(&["plan", "llama-3-8b", "--machine", "M4"]).out;
    assert!(unknown.contains("`--watts` gives it"), "{unknown}");
    let alone = place.sprag(&[&words[..4], &drafted[..2]].concat());
    assert!(alone.err.contains("--acceptance"), "{}", alone.err);
}

#[test]
fn training_clusters_and_sweeps_are_planned() {
    let place = Place::empty();
    let text = place.done(&["plan", "train", "llama-3.2-1b", "--machine", "RTX 4090", "--for", "5m"]).out;
    for part in ["DOES NOT FIT", "1.2358e9 parameters x 8 bytes", "in 5m 00s", "steps of 8192 tokens"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = place.json(&["plan", "train", "qwen3-8b", "--machine", "H200", "--recompute", "--json"]);
    assert!(json["fits"].is_boolean() && json["steps"]["expected"].as_f64() > Some(1.0), "{json}");
    let macs = "M3 Ultra,M3 Ultra,M3 Ultra,M3 Ultra";
    let words = ["plan", "cluster", "qwen3-235b-a22b", "--machines", macs, "--link", "rdma"];
    let text = place.done(&words).out;
    assert!(
        text.contains("tensor") && text.contains("(simulated") && text.contains("are two machines"),
        "{text}"
    );
    let json = place.json(&[&words[..], &["--split", "tensor", "--json"]].concat());
    let token = &json["splits"][0]["token"];
    let (closed, played) =
        (token["closed_seconds"].as_f64().unwrap(), token["simulated_seconds"].as_f64().unwrap());
    assert!((closed / played - 1.0).abs() < 1e-6, "{json}");
    let page = place.path("sweep.html");
    let words = ["plan", "sweep", "--machines", "RTX 5090,M3 Ultra", "--report", &page.to_string_lossy()];
    let text = place.done(&words).out;
    assert!(text.contains("M3 Ultra instead of RTX 5090, which it does not fit any more"), "{text}");
    assert_eq!(fs::read_to_string(&page).unwrap().matches("<svg").count(), 2);
    let words =
        ["plan", "compare", "llama-3-8b", "--machines", "M5 Ultra,H200", "--report", &page.to_string_lossy()];
    place.done(&words);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("M5 Ultra (PROJECTED)") && text.matches("<svg").count() == 2);
    let three = "M3 Ultra,M3 Ultra,M3 Ultra";
    for (words, said) in [
        (
            vec!["plan", "cluster", "llama-3-8b", "--machines", three, "--split", "tensor"],
            "do not divide by 3",
        ),
        (vec!["plan", "cluster", "llama-3-8b", "--machines", macs, "--link", "string"], "known are rdma"),
        (vec!["plan", "cluster", "llama-3-8b", "--machines", "M3 Ultra"], "at least two machines"),
        (vec!["plan", "sweep", "--machines", "abacus"], "no machine"),
        (vec!["plan", "train", "llama-3.2-1b", "--machine", "H200", "--for", "0"], "TIME"),
    ] {
        let answer = place.sprag(&words);
        let text = format!("{}{}", answer.out, answer.err);
        assert!(text.contains(said), "{words:?}: {text}");
    }
}

/// A safetensors file of one tensor, and its configuration.
fn model_files() -> (Vec<u8>, &'static str) {
    let header =
        r#"{"model.embed_tokens.weight": {"dtype": "BF16", "shape": [100, 64], "data_offsets": [0, 12800]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 12800]);
    let config = r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100}"#;
    (bytes, config)
}

const NUMBERS: [&str; 4] = ["--bandwidth", "100", "--memory", "16"];

#[test]
fn a_downloaded_folder_is_planned_by_its_exact_sizes() {
    let place = Place::empty();
    let (weights, config) = model_files();
    let folder = place.path("tiny");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("model.safetensors"), &weights).unwrap();
    let file = folder.join("model.safetensors").to_string_lossy().into_owned();
    let answer = place.sprag(&[&["plan", &file][..], &NUMBERS].concat());
    assert!(answer.err.contains("config.json` beside the file"), "{}", answer.err);
    fs::write(folder.join("config.json"), config).unwrap();
    let name = folder.to_string_lossy().into_owned();
    for named in [&name, &file] {
        let plan = place.json(&[&["plan", named, "--json"][..], &NUMBERS].concat());
        assert_eq!(
            (&plan["bytes"][0]["value"], &plan["quant"]["bits"]),
            (&12800.0.into(), &16.0.into()),
            "{plan}"
        );
    }
    fs::write(folder.join("model.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    let answer = place.sprag(&[&["plan", &name][..], &NUMBERS].concat());
    assert!(answer.err.contains("no safetensors file"), "{}", answer.err);
}

#[test]
fn a_model_on_a_hub_is_planned_without_its_weights() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (weights, config) = model_files();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            let range = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
            let range = range.filter_map(|line| {
                line.to_lowercase().strip_prefix("range: bytes=0-")?.parse::<usize>().ok()
            });
            let last = range.last();
            let body: Option<&[u8]> = match request.split(' ').nth(1).unwrap() {
                "/org/tiny/resolve/main/config.json" => Some(config.as_bytes()),
                "/org/tiny/resolve/main/model.safetensors" => Some(&weights[..=last.unwrap()]),
                _ => None,
            };
            let status = if body.is_some() { "206 Partial Content" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    let place = Place::empty();
    let mut environment = place.environment();
    environment.push(("HF_ENDPOINT".into(), OsString::from(&endpoint)));
    let plan = |model: &str| {
        let words = [&["plan", model, "--json"][..], &NUMBERS].concat();
        let output =
            process::output(env!("CARGO_BIN_EXE_sprag"), &words, &place.path("home"), &environment).unwrap();
        (output.end, output.text(), output.error_text())
    };
    let (end, text, error) = plan("hf:org/tiny");
    assert_eq!(end, End::Exited(0), "{error}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["bytes"][0]["value"], &json["model"]["name"]),
        (&12800.0.into(), &"tiny".into()),
        "{json}"
    );
    let (_, _, error) = plan("hf:org/other");
    assert!(error.contains("is not there"), "{error}");
    let (_, _, error) = plan("hf:other");
    assert!(error.contains("hf:ORGANISATION/NAME"), "{error}");
    environment.push(("HF_ENDPOINT".into(), "http://127.0.0.1:1".into()));
    let words = [&["plan", "hf:org/tiny"][..], &NUMBERS].concat();
    environment.retain(|(name, value)| name != "HF_ENDPOINT" || value == "http://127.0.0.1:1");
    let output =
        process::output(env!("CARGO_BIN_EXE_sprag"), &words, &place.path("home"), &environment).unwrap();
    assert!(output.error_text().contains("without a connection"), "{}", output.error_text());
}

#[test]
fn a_device_file_of_ones_own_is_a_machine() {
    let text = r#"name = "my box"
class = "cpu"
gigabytes_per_second = { value = 50, kind = "measured", source = "me" }
memory_gigabytes = { sizes = [32], kind = "datasheet", source = "the shop" }
"#;
    let place = Place::with_files(&[("box.toml", text)]);
    let answer = place.done(&["plan", "llama-3.2-1b", "--machine", "box.toml"]).out;
    assert!(answer.contains("on my box") && answer.contains("me; the shop"), "{answer}");
    fs::write(place.path("task/box.toml"), text.replace("value = 50", "value = 0")).unwrap();
    let answer = place.sprag(&["plan", "llama-3.2-1b", "--machine", "box.toml"]);
    assert!(answer.err.contains("`bandwidth` is not a number above 0"), "{}", answer.err);
}

#[test]
fn claims_are_judged_and_ones_own_too() {
    let place = Place::empty();
    let all = place.json(&["claims", "--json"]);
    assert_eq!(all["claims"].as_array().unwrap().len(), 59);
    let first = place.done(&["claims", "show", "1"]).out;
    assert!(first.contains("verdict   wrong by x6.10") && first.contains("8.59 GB = 65536 bytes"), "{first}");
    let listed = place.done(&["claims"]).out;
    assert!(listed.contains("PROJECTED") && listed.contains("59 claims: "), "{listed}");
    let page = place.path("claims.html");
    place.done(&["claims", "--report", &page.to_string_lossy()]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.matches("<details").count() == 59 && text.contains("default-src 'none'"));
    let own = place.path("mine.toml");
    fs::write(
        &own,
        "[[claim]]\nid = 1\nstatement = \"my card does 90 tokens/s\"\nsource = \"a shop\"\nclaimed = [90]\nunit = \"tok/s\"\n\
         [[claim.check]]\nrole = \"ceiling\"\nvalue = { decode-ceiling = { machine = \"RTX 4090\", model = \"Llama-3-70B\", quants = [\"Q4_0\"] } }\n",
    )
    .unwrap();
    let own = own.to_string_lossy().into_owned();
    let text = place.done(&["claims", "--file", &own]).out;
    assert!(text.contains("cannot happen: x3.49 of the most"), "{text}");
    fs::write(place.path("mine.toml"), "[[claim]]\nid = 1\n").unwrap();
    for (words, said) in [
        (vec!["claims", "--file", &own], "missing field"),
        (vec!["claims", "show", "60"], "the last one is 59"),
    ] {
        let answer = place.sprag(&words);
        assert!(answer.status != 0 && answer.err.contains(said), "{words:?}: {}", answer.err);
    }
}
