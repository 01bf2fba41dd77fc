//! `sprag ane`: training on the emulator, checks, predictions and the task, as people use them.

#[path = "support/place.rs"]
mod place;

use std::fs;

use place::Place;
use serde_json::Value;

const PROGRAM: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremltools-version", "9.0"}})]
{
    func main<ios18>(tensor<fp16, [1, 64, 1, 32]> x) {
        tensor<fp16, [1, 64, 1, 32]> y = OP(x = x)[name = string("y")];
    } -> (y);
}
"#;

impl Place {
    /// A little real text, prepared: this repository's documents.
    fn with_data() -> Place {
        let place = Place::empty();
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        let data = place.path("data").to_string_lossy().into_owned();
        place.done(&[
            "data",
            "prepare",
            "--source",
            &format!("dir:{docs}"),
            "--out",
            &data,
            "--vocab-size",
            "512",
        ]);
        place
    }
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn training_on_the_emulator_learns_resumes_and_calls_its_times_predicted() {
    let place = Place::with_data();
    let data = place.path("data").to_string_lossy().into_owned();
    let checkpoint = place.path("c.safetensors").to_string_lossy().into_owned();
    let train = |more: &[&str]| {
        let words = [
            "ane",
            "train",
            "--emulate",
            "--data",
            &data,
            "--val-every",
            "20",
            "--val-sequences",
            "4",
            "--json",
        ];
        [&words[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |more: &[&str]| {
        let words = train(more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        events(&place.done(&words).out)
    };
    let whole = run(&["--steps", "60"]);
    assert_eq!(whole[0]["predicted_times"], true);
    let of = |events: &[Value], name: &str| -> Vec<f64> {
        events.iter().filter_map(|event| event[name].as_f64()).collect()
    };
    let (losses, bpb) = (of(&whole, "loss"), of(&whole, "val_bpb"));
    assert_eq!((losses.len(), bpb.len()), (60, 3));
    assert!(losses[59] < losses[0] - 1.0 && bpb[2] < bpb[0], "{losses:?} {bpb:?}");
    assert!(whole[1]["predicted_device_seconds"].as_f64().unwrap() > 0.0);
    assert!(whole[1].get("device_seconds").is_none());
    // Stopped after 40 steps, which is what a kill behind the checkpoint leaves: the rest is the same to the bit.
    run(&["--steps", "60", "--checkpoint", &checkpoint]);
    let again = run(&["--steps", "60", "--checkpoint", &checkpoint]);
    assert_eq!(of(&again, "loss").len(), 0, "it was at its end");
    let wrong = place.sprag(&[
        "ane",
        "train",
        "--emulate",
        "--data",
        &data,
        "--checkpoint",
        &checkpoint,
        "--steps",
        "61",
    ]);
    assert!(wrong.status == 1 && wrong.err.contains("a run of steps: 60"), "{}", wrong.err);
    let rows = [
        &["ane", "train", "--emulate", "--data", &data, "--checkpoint", &checkpoint, "--steps", "60"][..],
        &["--grad-accum", "3"],
    ];
    let wrong = place.sprag(&rows.concat());
    assert!(wrong.status == 1 && wrong.err.contains("sequences a step: 4, and 3"), "{}", wrong.err);
    // Rows for the tokens of the text alone, the head on the device, weights for others.
    let export = place.path("e.safetensors").to_string_lossy().into_owned();
    let compact = run(&["--steps", "2", "--compact", "--head-on-device", "--export", &export]);
    assert!(compact[0]["vocab"].as_u64() < whole[0]["vocab"].as_u64());
    assert!(fs::metadata(&export).unwrap().len() > 100_000);
    let none = place.sprag(&["ane", "train", "--emulate", "--data", &data, "--config", "huge"]);
    assert!(none.err.contains("tiny, small"), "{}", none.err);
    if !cfg!(target_os = "macos") {
        let device = place.sprag(&["ane", "train", "--data", &data]);
        assert!(device.status == 1 && device.err.contains("hint: `--emulate`"), "{}", device.err);
    }
}

#[test]
fn programs_are_checked_for_a_chip() {
    let place = Place::with_files(&[("p.mil", PROGRAM)]);
    let file = |op: &str| {
        let path = place.path("task/p.mil");
        fs::write(&path, PROGRAM.replace("OP", op)).unwrap();
        path.to_string_lossy().into_owned()
    };
    let good = place.done(&["ane", "check", &file("sigmoid")]).out;
    assert_eq!(good, "M4 takes it\n");
    let bad = place.sprag(&["ane", "check", &file("rsqrt"), "--chip", "M3"]);
    assert!(bad.status == 7 && bad.out.contains("does not compile: R27 at `y`"), "{}", bad.out);
    let found: Value =
        serde_json::from_str(&place.sprag(&["ane", "check", &file("rsqrt"), "--json"]).out).unwrap();
    assert_eq!(found["findings"][0]["rule"], "R27");
    let none = place.sprag(&["ane", "check", &file("sigmoid(x = x)[]; nonsense")]);
    assert!(none.status == 1 && none.err.contains("is no program: line 5"), "{}", none.err);
    let rules = place.done(&["ane", "check", "--rules"]).out;
    assert!(rules.contains("54 restrictions") && rules.contains("R46"), "{rules}");
    let chip = place.sprag(&["ane", "check", "--rules", "--chip", "M9"]);
    assert!(chip.status == 2 && chip.err.contains("M1, M2"), "{}", chip.err);
}

#[test]
fn predictions_probes_and_the_doctor_never_claim_to_have_measured() {
    let place = Place::empty();
    let text = place.done(&["ane", "predict"]).out;
    assert!(text.starts_with("PREDICTED") && text.contains("ffnBwdW13t"), "{text}");
    let step = place.json(&["ane", "predict", "gpt_karpathy", "--published", "--json"]);
    let seconds = step["predicted_step_seconds"].as_f64().unwrap();
    // Published: 99.3 ms on a quiet M4 Max.
    assert!((seconds / 0.0993 - 1.0).abs() < 0.15, "{seconds}");
    let refused = place.sprag(&["ane", "predict", "--chip", "M1"]);
    assert!(refused.status == 1 && refused.err.contains("R01"), "{}", refused.err);
    let page = place.path("ane.html").to_string_lossy().into_owned();
    let probed = place.done(&["ane", "probe", "--emulate", "--quick", "--report", &page]).out;
    assert!(probed.contains("PREDICTED by the emulator") && probed.contains("not kept"), "{probed}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.matches("<svg").count() == 3 && html.contains("nothing was measured"), "{html}");
    let doctor = place.done(&["ane", "doctor"]).out;
    assert!(doctor.contains("never run on hardware") && doctor.contains("M4-orion"), "{doctor}");
}

#[test]
fn a_recipe_is_judged_by_what_it_computes() {
    let place = Place::empty();
    let folder = place.path("recipe");
    fs::create_dir(&folder).unwrap();
    let config = sprag_ane::config::Config::of("tiny").unwrap();
    let rotary = sprag_ane::graphs::Rotary::Join;
    let mut recipe =
        sprag_ane::recipe::Recipe::new(&config, rotary, sprag_ane::recipe::Fused::default()).unwrap();
    let judge = |recipe: &sprag_ane::recipe::Recipe| -> Value {
        recipe.write(&folder).unwrap();
        let folder = folder.to_string_lossy().into_owned();
        let words = ["ane", "judge", "--emulate", "--config", "tiny", "--seed", "5", "--recipe", &folder];
        serde_json::from_str(place.done(&words).out.trim()).unwrap()
    };
    let good = judge(&recipe);
    assert_eq!(good["type"], "score", "{good}");
    assert!(
        good["value"].as_f64().unwrap() > 0.0 && good["facts"]["gradients_apart"].as_f64() == Some(0.0),
        "{good}"
    );
    recipe.backward.retain(|node| node.name() != "weight gradient");
    let bad = judge(&recipe);
    assert!(bad["type"] == "invalid" && bad["detail"].as_str().unwrap().contains("gradient"), "{bad}");
    fs::write(folder.join("recipe.json"), "{").unwrap();
    let words = [
        "ane",
        "judge",
        "--emulate",
        "--config",
        "tiny",
        "--seed",
        "5",
        "--recipe",
        &folder.to_string_lossy(),
    ];
    let torn: Value = serde_json::from_str(place.done(&words).out.trim()).unwrap();
    assert_eq!(torn["reason"], "protocol");
}
